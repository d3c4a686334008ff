"""tshark dissects what a secured association sends, layer by layer, without a malformed field.

It does not know e2eSecurityAS (so it stops at the SecPDU), but knows TPKT, COTP, session, presentation and ACSE.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastsec import profile
from fastsec.aio.client import connect
from fastsec.aio.connection import Connection
from fastsec.aio.handler import AssociationHandler
from fastsec.aio.server import serve
from fastsec.config import Config, Policy
from fastsec.demo.intermediary import Intermediary, Way
from fastsec.pki.credential import load_credential
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.trial import TrialAuthority
from interop import mms, pcap

pytestmark = pytest.mark.interop
# What tshark says of an abstract syntax it has no dissector for; it says so and goes on.
UNKNOWN_SYNTAX = re.compile("Dissector is not available|BER: Dissector for OID not implemented")
CLIENT, SERVER = OsiName.parse("1.1.1.999.1:12"), OsiName.parse("1.1.1.999.2:12")
POLICIES = {
    "ae": Policy(encryption="required", ae="required"),
    "cbc-hmac": Policy(encryption="required", ae="forbidden"),
    "integrity": Policy(encryption="forbidden"),
}
E2E_MMS_AC = profile.OID_E2E_MMS_AC


class Device(AssociationHandler):
    """Answers the demo's reads and writes."""

    def __init__(self) -> None:
        self.device = mms.Device()

    def pdus_received(self, assoc: Connection, pdus: Sequence[bytes]) -> None:
        assoc.write_many([self.device.answer(pdu) for pdu in pdus])


def configs(directory: Path, policy: Policy, key: str) -> tuple[Config, Config]:
    """Configurations of client and server."""
    authority = TrialAuthority.create(directory / "pki", time.time_ns() // 1_000_000, key="p256")
    trust = TrustStore([authority.root], [authority.crl])
    made = []
    for name, identity in (("client", CLIENT), ("server", SERVER)):
        certificate, private = authority.issue_e2e(name, identity, key=key).paths
        made.append(Config(credential=load_credential(certificate, private), trust=trust, policy=policy))
    return made[0], made[1]


async def converse(directory: Path, policy: Policy, key: str) -> list[tuple[bool, bytes]]:
    """A secured association with every kind of PDU; the frames it made."""
    client, server = configs(directory, policy, key)
    async with serve(Device, "osi://127.0.0.1:0", server, initiate=mms.initiate_response()) as listening:
        recorder = Intermediary(listening.addresses[0][1])
        address = f"osi://127.0.0.1:{await recorder.start()}"
        async with connect(address, client, peer=SERVER, initiate=mms.initiate_request()) as stream:
            await stream.send(mms.read_request(1, ["AnIn1"]))
            assert mms.results(await stream.recv(), 1)
            stream.update_keys()
            for invoke in range(2, 6):
                await stream.send(mms.write_request(invoke, "SetI1", invoke))
                assert mms.results(await stream.recv(), invoke) == [None]
        stream = await connect(address, client, peer=SERVER, initiate=mms.initiate_request())
        stream.abort()
        await stream.wait_ended()
        for link in recorder.links:
            await asyncio.wait_for(link.closed.wait(), 10)
        await recorder.stop()
    return [(frame.way is Way.REQUEST, frame.octets) for frame in recorder.frames]


def by_link(frames: list[tuple[bool, bytes]]) -> list[list[tuple[bool, bytes]]]:
    """One list per connection: each begins with a CR."""
    links: list[list[tuple[bool, bytes]]] = []
    for request, octets in frames:
        if octets[5] == 0xE0:
            links.append([])
        links[-1].append((request, octets))
    return links


@pytest.mark.parametrize("key", ["p256", "rsa2048"])
@pytest.mark.parametrize("mode", POLICIES)
def test_a_secured_association_is_dissected_without_fault(mode: str, key: str, tmp_path: Path) -> None:
    frames = asyncio.run(converse(tmp_path, POLICIES[mode], key))
    released, aborted = by_link(frames)
    for name, link in (("released", released), ("aborted", aborted)):
        path = tmp_path / f"{name}.pcap"
        pcap.write(path, link)
        packets = pcap.dissect(path)
        assert len(packets) == len(link)
        assert not [packet for packet in packets if packet.malformed]
        complaints = [text for packet in packets for text in packet.complaints]
        assert not [text for text in complaints if not UNKNOWN_SYNTAX.match(text)]
        assert [packet.protocols[-1] for packet in packets[:2]] == ["cotp", "cotp"]
        assert all("acse" in packet.protocols for packet in packets[2:4])
    text = pcap.text(tmp_path / "released.pcap")
    for words in (
        r"CONNECT \(CN\) SPDU",
        r"ACCEPT \(AC\) SPDU",
        r"CP-type",
        r"CPA-PPDU",
        r"aarq",
        r"aare",
        r"result: accepted",
        r"rlrq",
        r"rlre",
        r"indirect-reference: 5",
        rf"presentation-context-identifier: {profile.CONTEXT_E2E}",
        re.escape(E2E_MMS_AC),
        re.escape(profile.OID_E2E_SECURITY_AS),
        re.escape("1.1.1.999.2"),
    ):
        assert re.search(words, text, re.IGNORECASE), words
    assert re.search("abrt", pcap.text(tmp_path / "aborted.pcap"), re.IGNORECASE)
