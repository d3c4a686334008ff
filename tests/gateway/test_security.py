"""What end-to-end security does to a gateway pair: wrong identities, revoked certificates, tampering on the way."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from gateway_pair import CC, DER, OTHER, TLS, answer_to, authority, confirmed, free_port, gateways, run, until

from fastsec.errors import Aborted, Rejected
from fastsec.mms import pdu as mms
from fastsec.pki.trial import TrialAuthority


def test_far_gateway_with_another_identity(pki: Path) -> None:
    """Called is DER, but OTHER answers, with a certificate of the same authority."""

    async def test() -> None:
        async with gateways(pki, der_name="other") as pair:
            with pytest.raises(Rejected) as caught:
                await pair.client()
            assert mms.is_initiate_error(caught.value.appl_data)
            await pair.no_bridges()
            assert not pair.served
            assert pair.records.events() == ["INV_CALLED_AP_TITLE_RQ"]
            assert pair.records.about("the request is for another identity than ours")

    run(test())


def test_near_gateway_that_is_not_let_in(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, cc_name="other", peers=CC) as pair:
            with pytest.raises(Rejected):
                await pair.client()
            await pair.no_bridges()
            assert not pair.served
            alarms = [
                fields for _, fields in pair.records.lines if fields.get("route") == "plant" and "event" in fields
            ]
            assert pair.records.about("not among the route's peers"), pair.records
            assert all(str(fields["event"]).startswith("IEC62351-4:") for fields in alarms)

    run(test())


def test_certificate_of_another_authority(pki: Path, tmp_path: Path) -> None:
    foreign = TrialAuthority.create(tmp_path / "foreign", time.time_ns() // 1_000_000)
    foreign.issue_e2e("cc", CC)
    for kind in ("pem", "key"):
        (pki / f"stranger.e2e.{kind}").write_bytes((tmp_path / "foreign" / f"cc.e2e.{kind}").read_bytes())

    async def test() -> None:
        async with gateways(pki, cc_name="stranger") as pair:
            with pytest.raises(Rejected):
                await pair.client()
            assert not pair.served
            assert "PKCERT_ERROR_ASS_REQ" in pair.records.events()
            assert pair.records.about("does not lead to an authority")

    run(test())


def test_tls_certificate_of_another_authority(pki: Path, tmp_path: Path) -> None:
    foreign = TrialAuthority.create(tmp_path / "foreign", time.time_ns() // 1_000_000)
    foreign.issue_tls("cc", ["localhost"])
    for kind in ("pem", "key"):
        (pki / f"strangertls.tls.{kind}").write_bytes((tmp_path / "foreign" / f"cc.tls.{kind}").read_bytes())
        (pki / f"strangertls.e2e.{kind}").write_bytes((pki / f"cc.e2e.{kind}").read_bytes())

    async def test() -> None:
        async with gateways(pki, cc_name="strangertls", tls=True) as pair:
            with pytest.raises(Rejected) as caught:
                await pair.client()
            assert caught.value.transient
            assert not pair.served

    run(test())


def test_revoked_certificate(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    authority(pki).revoke_name("cc")

    async def test() -> None:
        async with gateways(pki) as pair:
            with pytest.raises(Rejected):
                await pair.client()
            assert "PKCERT_ALARM_ASS_REQ" in pair.records.events()
            assert pair.records.about("revoked")
            assert not pair.served

    run(test())


class Intermediary:
    """Forwards TCP between the gateways and may change what passes."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.flip = False
        self.seen = bytearray()
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self) -> int:
        port = free_port()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers += [writer, far_writer]
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.seen += data
                if self.flip:
                    self.flip = False
                    data = data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            writer.close()


@pytest.mark.parametrize("direction", ["request", "response"])
def test_tampering_ends_only_that_association_and_both_plain_peers_get_an_abort(pki: Path, direction: str) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            proxy = Intermediary(pair.der_route.addresses[0][1])
            port = await proxy.start()
            route = pair.cc_route.route
            # the same route, led through the intermediary
            object.__setattr__(route, "far", type(route.far)("127.0.0.1", port))
            victim, other = await pair.client(), await pair.client()
            await pair.open_bridges(2)
            secret = b"\x7fnobody may read this\x7f"
            pdu = b"\xa0" + bytes([len(secret)]) + secret
            await victim.send(pdu)
            assert await victim.recv() == answer_to(pdu)
            assert secret not in proxy.seen
            await until(lambda: len(proxy.seen) > 0)
            proxy.flip = True
            if direction == "request":
                await victim.send(confirmed(1))
            else:
                await pair.served[0].send(confirmed(1))
            for error in (await victim.wait_ended(), await pair.served[0].wait_ended()):
                assert isinstance(error, Aborted)
                assert error.side == "peer"
            assert pair.records.events()[0] == "ENCR_BAD_ICV"
            assert pair.records.about("altered on its way")
            await pair.open_bridges(1)
            await other.send(confirmed(2))
            assert await other.recv() == answer_to(confirmed(2))
            third = await pair.client()
            await third.release()

    run(test())


def test_reflection_is_refused(pki: Path) -> None:
    """A gateway that calls its own identity, or is called by it."""

    async def test() -> None:
        async with gateways(pki, cc_name="der", der_name="der", peers=OTHER, peer=OTHER) as pair:
            with pytest.raises(Rejected):
                await pair.client()
            assert not pair.served

    run(test())


def test_plain_client_at_the_secured_port_is_refused(pki: Path) -> None:
    """Nothing falls back: the secured listener takes no plain MMS association."""

    async def test() -> None:
        async with gateways(pki) as pair:
            pair.near = pair.der_route.addresses[0][1]
            with pytest.raises((Rejected, Aborted)):
                await pair.client()
            assert not pair.served

    run(test())


def test_peers_any_lets_in_all_that_are_trusted(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, cc_name="other", peers=CC) as pair:
            with pytest.raises(Rejected):
                await pair.client()
        async with gateways(pki, cc_name="other", peers=OTHER) as pair:
            assert (await pair.client()).initiate_response
            assert pair.cc.settings.routes[0].peer == DER

    run(test())


def test_one_gateway_with_tls_and_one_without(pki: Path) -> None:
    """The one that called can say what to look at."""

    async def test() -> None:
        async with gateways(pki, der_head=TLS.format(name="der")) as pair:
            with pytest.raises(Rejected):
                await pair.client()
            assert pair.records.about("no association with the far gateway: the peer closed the connection without")
            assert pair.records.about("expects TLS")

    run(test())
