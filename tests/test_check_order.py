"""The order of checks at reception (62351-4 §6): of two faults in one PDU the one that stands first is reported.

Every pair of checks is broken in one PDU. So no order but the specification's passes, and nobody learns from an answer
what a check says that comes after one that failed.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from engine_pair import CLIENT, INITIATE, READ, SERVER, ConnectionPair, config, credential
from fastsec._core.pk import Ephemeral
from fastsec.association import Send
from fastsec.config import Policy
from fastsec.control import CARRIER_OF
from fastsec.instant import Instant
from fastsec.pki.identity import OsiName
from fastsec.secpdu.der import decode
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import AeaOffer, DhPublic
from fastsec.secpdu.timestamp import time_text
from forge import RSA, UNKNOWN_SIGNATURE, control, flip_last, forge, on_request, on_response
from test_handshake import HMAC_SHA1, expired
from test_transfers import AE, HMAC, as_other_kind, make, other_number

STRANGER = OsiName("1.1.1.999.3", 1)
LATE = 600_001  # ms, just out of the window

# check -> (what its faulty PDU has, whether it needs something else that is set up in the test)
HANDSHAKE: dict[str, dict[str, Any]] = {
    "signature-algorithm": {"sig_alg": UNKNOWN_SIGNATURE},
    "signature-mismatch": {"algo": RSA},
    "signature": {"signature": flip_last},
    "pp": {"pp": "IEC 61850-8-2"},
    "certificate": {},
    "address": {},
    "version": {"version": 2},
    "time": {},
    "replay": {},
    "protocol-error": {},
    "group": {},
    "hmac": {"hmac": HMAC_SHA1},
    "mode": {},
    "attribute-certificate": {"att_cert": b"\x30\x00"},
}


def faulty(pair: ConnectionPair, carrier: Carrier, faults: tuple[str, ...]) -> Callable[[bytes], bytes]:
    """A change of a genuine handshake PDU that gives it all these faults."""
    request = carrier is Carrier.ASSOCIATE_REQ
    name, peer, letter = (CLIENT, pair.endpoints[1], "Q") if request else (SERVER, pair.endpoints[0], "A")

    def change(pdu: bytes) -> bytes:
        token = decode(carrier, pdu).token1
        changes: dict[str, Any] = {}
        for fault in faults:
            changes |= HANDSHAKE[fault]
        by = credential(name)
        if "certificate" in faults:
            by = expired(name)
            changes["pk_cert"] = by.certificate
        if "time" in faults:
            changes["time"] = time_text(pair.now.utc_ms + LATE)
        if "group" in faults:
            changes["dh_key"] = (DhPublic(28, Ephemeral.generate(28).public),)
        if "mode" in faults and request:
            changes["conf_params"] = 0
        elif "mode" in faults:
            changes["encr_mode"] = AeaOffer((HMAC_SHA1,))
        if "protocol-error" in faults and request:
            peer.numbers(name.oid).live_as_server.add(int(token.asso_id))
        elif "protocol-error" in faults:
            changes["asso_id"] = token.asso_id.partition(":")[0]
        if "replay" in faults:
            time, number = changes.get("time", token.time), changes.get("asso_id", token.asso_id)
            assert peer.replay.remember(name.oid, letter, time, number, bytes(32), pair.now.utc_ms) == "new"
        return forge(carrier, pdu, by, **changes)

    return change


def expected(fault: str, *, request: bool) -> str:
    if fault == "mode":
        return "ae-without-encryption" if request else "ae-algorithm"
    return fault


@pytest.mark.parametrize(("first", "second"), list(combinations(HANDSHAKE, 2)))
def test_request(first: str, second: str) -> None:
    pair = ConnectionPair(server=config(SERVER, policy=Policy(accept_groups=(23,))))
    on_request(pair, faulty(pair, Carrier.ASSOCIATE_REQ, (first, second)))
    if "address" in (first, second):
        pair.calling = STRANGER
    pair.client.start(INITIATE)
    pair.move()
    assert pair.server.error.check == expected(first, request=True)
    assert len(pair.server.events) == 1


@pytest.mark.parametrize(("first", "second"), list(combinations(HANDSHAKE, 2)))
def test_acceptance(first: str, second: str) -> None:
    pair = ConnectionPair()
    on_response(pair, faulty(pair, Carrier.ASSOCIATE_RSP, (first, second)))
    if "address" in (first, second):
        pair.responding = None
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.error.check == expected(first, request=False)
    assert len(pair.client.events) == 1


def test_who_is_let_in_is_judged_with_the_address_before_version_and_time() -> None:
    """A stranger gets the silent alarm, whatever else is wrong with its request."""
    pair = ConnectionPair(server=config(SERVER, peers=(STRANGER,)))
    wrong = {"version": 2, "time": time_text(pair.now.utc_ms + LATE)}
    on_request(pair, lambda pdu: forge(Carrier.ASSOCIATE_REQ, pdu, credential(CLIENT), **wrong))
    pair.client.start(INITIATE)
    pair.move()
    assert pair.server.events == ["ADDR_MISMATCH_ASS_REQ"]
    assert pair.client.error.code is None


# --- control PDUs -----------------------------------------------------------------------------------------------------

CONTROL = (
    "signature-algorithm",
    "signature-mismatch",
    "signature",
    "certificate",
    "address",
    "version",
    "protocol-error",
    "time",
    "replay",
)


@pytest.mark.parametrize(("first", "second"), [two for two in combinations(CONTROL, 2) if two != ("time", "replay")])
@pytest.mark.parametrize("kind", [SecPduKind.RELEASE_REQ, SecPduKind.DT_SEC_ABORT], ids=lambda kind: kind.name)
def test_control(kind: SecPduKind, first: str, second: str) -> None:
    pair = ConnectionPair().open().confirm()
    faults = (first, second)
    changes: dict[str, Any] = {}
    for fault in faults:
        changes |= HANDSHAKE[fault]
    name = STRANGER if "address" in faults else CLIENT
    by = expired(name) if "certificate" in faults else credential(name)
    if by.certificate != credential(CLIENT).certificate:
        changes["pk_cert"] = by.certificate
    if "protocol-error" in faults:
        changes["asso_id"] = "999:999"
    if "time" in faults:
        changes["time"] = time_text(pair.now.utc_ms + LATE)
    if "replay" in faults:
        seen = pair.server.association._seen[-1]
        changes["time"] = f"{seen[:14]}.{seen[14:17]}Z"
    carrier = CARRIER_OF[kind]
    pair.deliver(pair.server, Send(carrier, forge(carrier, control(pair, "client", kind), by, **changes)))
    pair.move()
    assert [dict(raised.params)["check"] for raised in pair.server.raised if "check" in dict(raised.params)] == [first]


# --- transfers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [HMAC, AE], ids=["clear", "ae"])
@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("protocol-error", lambda pdu: as_other_kind(other_number(pdu))[:-1]),
        ("wrong-kind", lambda pdu: as_other_kind(other_number(pdu))),
        ("asso-id", lambda pdu: flip_last(other_number(pdu))),
        ("icv", flip_last),
        ("time", lambda pdu: pdu),
        ("sequence", lambda pdu: pdu),
    ],
)
def test_transfer(fields: dict[str, Any], check: str, change: Callable[[bytes], bytes]) -> None:
    """Each has its own fault and those of all checks behind it."""
    pair = make(fields)
    pair.client.send(READ)
    pair.link.clear()
    pair.client.send(READ)
    _, sent = pair.link.popleft()
    if check != "sequence":
        pair.now = Instant(pair.now.utc_ms + LATE, pair.now.mono_ms + 1)
    pair.deliver(pair.server, Send(sent.carrier, change(sent.pdu)))
    assert pair.server.error.check == check
    assert pair.server.received == [READ]
