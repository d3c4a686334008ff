"""Associations carried through a gateway pair: data, conclude, release, abort, reject and loss, in all directions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from gateway_pair import (
    CONCLUDE_REQUEST,
    CONCLUDE_RESPONSE,
    HEAD,
    INITIATE_ERROR,
    INITIATE_REQUEST,
    INITIATE_RESPONSE,
    answer_to,
    confirmed,
    echo,
    free_port,
    gateways,
    run,
    until,
)

from fastsec import limits
from fastsec.aio.endpoints import forget_identities
from fastsec.aio.handler import Reject
from fastsec.aio.stream import AssociationStream
from fastsec.errors import Aborted, FastsecError, Rejected
from fastsec.gateway import service, settings
from fastsec.mms import pdu as mms


@pytest.mark.parametrize("tls", [False, True], ids=["notls", "tls"])
@pytest.mark.parametrize("reverse", [False, True], ids=["cc-dials", "der-dials"])
def test_initiate_data_conclude_release(pki: Path, tls: bool, reverse: bool) -> None:
    async def test() -> None:
        async with gateways(pki, tls=tls, reverse=reverse) as pair:
            client = await pair.client()
            assert client.initiate_response == INITIATE_RESPONSE
            assert pair.served[0].initiate_request == INITIATE_REQUEST
            await pair.open_bridges(1)
            for number in range(50):
                await client.send(confirmed(number, number * 40))
            for number in range(50):
                assert await client.recv() == answer_to(confirmed(number, number * 40))
            await client.send(CONCLUDE_REQUEST)
            assert await client.recv() == CONCLUDE_RESPONSE
            await client.release()
            assert await pair.served[0].wait_ended() is None
            await pair.no_bridges()
            assert len(pair.records.about("association released")) == 2, pair.records
            assert set(pair.records.events()) == ({"TLS_HS_SUCCESS"} if tls else set())

    run(test())


def test_key_updates_go_on_unseen_and_are_counted_in_the_log(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, cc_head="[policy]\nrekey_messages = 20\n") as pair:
            client = await pair.client()
            for number in range(50):
                await client.send(confirmed(number))
                assert await client.recv() == answer_to(confirmed(number))
            (near,), (far,) = pair.cc_route.bridges, pair.der_route.bridges
            assert near.outgoing is not None
            secured = near.outgoing.connection, far.incoming.connection
            await until(lambda: all(end is not None and end.key_updates == 1 for end in secured))
            await client.release()
            await pair.no_bridges()
            ends = pair.records.about("association released")
            assert [fields["key_updates"] for fields in ends] == [1, 1], pair.records

    run(test())


def test_large_pdus_and_back_pressure(pki: Path) -> None:
    """A server that does not read for a while: the client's sending stops, nothing is lost, memory stays small."""

    async def test() -> None:
        start = asyncio.Event()

        async def slow(stream: AssociationStream) -> None:
            await start.wait()
            await echo(stream)

        async with gateways(pki, serve=slow) as pair:
            client = await pair.client()
            big = confirmed(1, 60_000)
            sent = 0

            async def send_all() -> None:
                nonlocal sent
                for _ in range(1500):
                    await client.send(big)
                    sent += 1

            sending = asyncio.create_task(send_all())
            while True:
                before = sent
                await asyncio.sleep(0.3)
                if sent == before:
                    break
            assert sent < 1500, "90 MB must not fit into the buffers of a gateway pair"
            start.set()
            for _ in range(1500):
                assert await client.recv() == answer_to(big)
            await sending
            await client.release()
            await pair.no_bridges()

    run(test())


def test_a_client_that_does_not_read_stops_the_server(pki: Path) -> None:
    async def test() -> None:
        sent = 0

        async def flood(stream: AssociationStream) -> None:
            nonlocal sent
            for _ in range(1500):
                await stream.send(answer_to(confirmed(1, 60_000)))
                sent += 1
            await stream.recv()

        async with gateways(pki, serve=flood) as pair:
            client = await pair.client()
            client.connection.pause_reading()
            while True:
                before = sent
                await asyncio.sleep(0.3)
                if sent == before:
                    break
            assert sent < 1500
            client.connection.resume_reading()
            for _ in range(1500):
                assert len(await client.recv()) > 60_000
            await client.release()

    run(test())


def test_a_peer_that_takes_nothing_for_long_is_given_up(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsec.gateway.bridge.STALL", 0.3)

    async def test() -> None:
        async def flood(stream: AssociationStream) -> None:
            while True:
                await stream.send(answer_to(confirmed(1, 60_000)))

        async with gateways(pki, serve=flood) as pair:
            client = await pair.client()
            client.connection.pause_reading()
            error = await pair.served[0].wait_ended() if pair.served else None
            assert isinstance(error, Aborted)
            assert pair.records.about("has taken no data")
            await pair.no_bridges()

    run(test())


def test_what_is_no_mms_pdu_gets_an_mms_reject(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            client = await pair.client()
            await client.send(confirmed(1))
            await client.send(b"\x30\x03\x02\x01\x07")
            await client.send(confirmed(2))
            answers = {await client.recv() for _ in range(3)}
            reject = mms.reject(mms.RejectReason.UNKNOWN_PDU_TYPE)
            assert answers == {answer_to(confirmed(1)), answer_to(confirmed(2)), reject}
            assert len(pair.records.about("it gets an MMS reject")) == 1
            await client.release()

    run(test())


def test_garbage_from_a_plain_peer_ends_only_its_association(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            good = await pair.client()
            for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x03\x00\x00\x04", b"\x16\x03\x01" + bytes(200), bytes(7)):
                reader, writer = await asyncio.open_connection("127.0.0.1", pair.near)
                writer.write(garbage)
                await asyncio.wait_for(reader.read(), 15)
                writer.close()
            await good.send(confirmed(1))
            assert await good.recv() == answer_to(confirmed(1))

    run(test())


def test_a_slow_peer_is_not_given_up(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a little in every interval, though it stays behind all the time."""
    monkeypatch.setattr("fastsec.gateway.bridge.STALL", 2.0)

    async def test() -> None:
        async def flood(stream: AssociationStream) -> None:
            for _ in range(500):
                await stream.send(answer_to(confirmed(1, 60_000)))
            await stream.recv()

        async with gateways(pki, serve=flood) as pair:
            client = await pair.client()
            for _ in range(500):
                await client.recv()
                client.connection.pause_reading()
                await asyncio.sleep(0.01)
                client.connection.resume_reading()
            assert not pair.records.about("has taken no data")
            await client.release()

    run(test())


# --- ends -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reverse", [False, True], ids=["cc-dials", "der-dials"])
def test_release_by_the_server(pki: Path, reverse: bool) -> None:
    async def test() -> None:
        async with gateways(pki, reverse=reverse) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            await pair.served[0].release()
            assert await client.wait_ended() is None
            assert await client.recv() == b""
            await pair.no_bridges()
            assert len(pair.records.about("association released")) == 2

    run(test())


def test_release_by_both_at_once(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            await asyncio.gather(client.release(), pair.served[0].release())
            await pair.no_bridges()
            assert len(pair.records.about("association released")) == 2, pair.records

    run(test())


@pytest.mark.parametrize("reverse", [False, True], ids=["cc-dials", "der-dials"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_abort_is_carried_through(pki: Path, side: str, reverse: bool) -> None:
    async def test() -> None:
        async with gateways(pki, reverse=reverse) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            server = pair.served[0]
            (client if side == "client" else server).abort()
            error = await (server if side == "client" else client).wait_ended()
            assert isinstance(error, Aborted)
            assert error.side == "peer", "an ABRT, not a closed connection"
            await pair.no_bridges()
            assert len(pair.records.about("association ended")) == 2
            assert any("peer aborted it" in line for line, _ in pair.records.lines)
            assert not pair.records.events()

    run(test())


@pytest.mark.parametrize("side", ["client", "server"])
def test_loss_becomes_an_abort(pki: Path, side: str) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            server = pair.served[0]
            lost = client if side == "client" else server
            lost.connection.transport.abort()  # type: ignore[union-attr]  # it is connected
            error = await (server if side == "client" else client).wait_ended()
            assert isinstance(error, Aborted)
            assert error.side == "peer"
            await pair.no_bridges()
            assert pair.records.about("the connection of the plain side was lost")

    run(test())


def test_closing_after_conclude_is_orderly(pki: Path) -> None:
    """Many MMS clients close TCP after the conclude-Response: that is a release, not a fault."""

    async def test() -> None:
        async with gateways(pki) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            await client.send(CONCLUDE_REQUEST)
            assert await client.recv() == CONCLUDE_RESPONSE
            client.connection.transport.close()  # type: ignore[union-attr]  # it is connected
            assert await pair.served[0].wait_ended() is None
            await pair.no_bridges()
            assert not pair.records.about("association ended")

    run(test())


@pytest.mark.parametrize("which", ["cc", "der"])
def test_loss_between_the_gateways_aborts_both_plain_peers(pki: Path, which: str) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            runner = pair.cc_route if which == "cc" else pair.der_route
            for bridge in list(runner.bridges):
                end = bridge.outgoing if which == "cc" else bridge.incoming
                assert end is not None
                assert end.connection is not None
                end.connection.transport.abort()  # type: ignore[union-attr]  # it is connected
            for error in (await client.wait_ended(), await pair.served[0].wait_ended()):
                assert isinstance(error, Aborted)
                assert error.side == "peer"
            await pair.no_bridges()
            assert pair.records.about("the connection of the secured side was lost")

    run(test())


# --- no association ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("transient", [False, True])
@pytest.mark.parametrize("appl_data", [INITIATE_ERROR, None], ids=["error", "bare"])
def test_reject_of_the_server_reaches_the_client(pki: Path, transient: bool, appl_data: bytes | None) -> None:
    async def test() -> None:
        async with gateways(pki, answer=lambda stream, request: Reject(appl_data, transient)) as pair:
            with pytest.raises(Rejected) as caught:
                await pair.client()
            assert caught.value.transient is transient
            if appl_data is not None:
                assert caught.value.appl_data == appl_data
            else:
                assert mms.is_initiate_error(caught.value.appl_data)
            await pair.no_bridges()
            assert pair.records.about("the plain server refused the association")
            assert pair.records.about("the far gateway refused the association")

    run(test())


def test_no_plain_server(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, server=False) as pair:
            with pytest.raises(Rejected) as caught:
                await pair.client()
            assert caught.value.transient
            assert caught.value.appl_data is not None
            assert b"plain server" in caught.value.appl_data
            assert pair.records.about("not reachable")
            await pair.no_bridges()

    run(test())


def test_no_far_gateway(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            await pair.der.end()
            with pytest.raises(Rejected) as caught:
                await pair.client()
            assert caught.value.transient
            await pair.no_bridges()

    run(test())


def test_far_gateway_that_never_dials_in(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, reverse=True, cc_extra='connect_timeout = "0.5s"\n') as pair:
            await pair.der.end()
            await until(lambda: pair.cc_route.waiting == 0)
            with pytest.raises(Rejected) as caught:
                await pair.client()
            assert caught.value.transient
            assert pair.records.about("no connection of the far gateway is waiting any more")
            assert pair.records.about("no answer within 0.5 s")

    run(test())


def test_far_gateway_dials_in_again(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, reverse=True) as pair:
            pair.cc_route.renew(pair.cc._loaded.configs[0], None)  # closes what waits
            client = await pair.client()
            await client.release()
            for _ in range(4):  # more than are kept ready
                await pair.client()
            await pair.open_bridges(4)

    run(test())


def test_server_that_answers_too_late(pki: Path) -> None:
    async def test() -> None:
        async def late(stream: AssociationStream, request: bytes) -> bytes:
            await asyncio.sleep(3)
            return INITIATE_RESPONSE

        async with gateways(pki, answer=late, der_extra='connect_timeout = "0.3s"\n') as pair:
            with pytest.raises(Rejected) as caught:
                await pair.client()
            assert caught.value.transient
            assert pair.records.about("no answer within 0.3 s")
            await pair.no_bridges()

    run(test())


def test_client_that_leaves_while_the_server_thinks(pki: Path) -> None:
    async def test() -> None:
        asked = asyncio.Event()
        gone = asyncio.Event()

        async def slow(stream: AssociationStream, request: bytes) -> bytes:
            asked.set()
            await gone.wait()
            return INITIATE_RESPONSE

        async with gateways(pki, answer=slow) as pair:
            opening = asyncio.create_task(pair.client())
            await asked.wait()
            opening.cancel()
            await pair.no_bridges()
            assert len(pair.records.about("before the far gateway had answered")) == 1
            assert len(pair.records.about("before the plain server had answered")) == 1
            gone.set()

    run(test())


def test_request_without_initiate_is_refused_by_the_gateway(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            with pytest.raises(Rejected) as caught:
                await pair.client(initiate=confirmed(1))
            assert mms.is_initiate_error(caught.value.appl_data)
            assert not pair.served
            assert pair.records.about("no MMS initiate-Request")

    run(test())


def test_server_that_accepts_with_an_initiate_error(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, answer=INITIATE_ERROR) as pair:
            with pytest.raises(Rejected) as caught:
                await pair.client()
            assert caught.value.appl_data == INITIATE_ERROR
            await pair.no_bridges()

    run(test())


def test_another_association_number_where_the_first_is_taken(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two gateways under one identity that know nothing of each other choose the same number; the second tries on."""
    monkeypatch.setattr("fastsec.peers.PeerNumbers._first", lambda self: 7)

    async def test() -> None:
        async with gateways(pki) as pair:
            first = await pair.client()
            await pair.open_bridges(1)
            forget_identities()
            route = pair.cc.settings.routes[0]
            twin, _ = service.prepare(
                settings.parse(
                    HEAD.format(name="cc")
                    + f'[[route]]\nrole = "client"\nlisten = "127.0.0.1:{free_port()}"\nconnect = "{route.far}"\n'
                    + f'peer = "{route.peer}"\n',
                    pki / "twin.toml",
                )
            )
            await twin.start()
            pair.near = twin.runners[0].addresses[0][1]
            second = await pair.client()
            for client in (first, second):
                await client.send(confirmed(4))
                assert await client.recv() == answer_to(confirmed(4))
            assert pair.records.events().count("PROTOCOL_ERR_ASS_REQ") == 1
            await second.release()
            await first.release()
            await pair.no_bridges()
            assert len(pair.records.about("association released")) == 4
            await twin.end()

    run(test())


# --- many -------------------------------------------------------------------------------------------------------------
def test_fifty_associations_of_which_one_is_killed(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            clients = await asyncio.gather(*(pair.client() for _ in range(50)))
            await pair.open_bridges(50)

            async def read(client: AssociationStream, number: int) -> None:
                await client.send(confirmed(number))
                assert await client.recv() == answer_to(confirmed(number))

            await asyncio.gather(*(read(client, number) for number, client in enumerate(clients)))
            victim = clients[17]
            bridge = next(
                bridge
                for bridge in pair.cc_route.bridges
                if bridge.incoming.connection is not None
                and bridge.incoming.connection.peer_address.rpartition(":")[2]
                == str(victim.connection.transport.get_extra_info("sockname")[1])  # type: ignore[union-attr]
            )
            assert bridge.outgoing is not None
            bridge.outgoing.connection.transport.abort()  # type: ignore[union-attr]
            assert isinstance(await victim.wait_ended(), Aborted)
            await pair.open_bridges(49)
            others = [client for client in clients if client is not victim]
            await asyncio.gather(*(read(client, number) for number, client in enumerate(others)))
            await asyncio.gather(*(client.release() for client in others))
            await pair.no_bridges()

    run(test())


def test_all_clients_at_once_after_a_restart(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More idle clients than the far gateway has places for unconfirmed associations: they take turns."""
    monkeypatch.setattr(limits, "OUR_UNCONFIRMED_PER_PEER", 8)
    monkeypatch.setattr(limits, "OUR_CONFIRM_BURST", 2)
    monkeypatch.setattr(limits, "OUR_OPENING_AT_ONCE", 4)

    async def test() -> None:
        async with gateways(pki, cc_extra="accept_rate = 1000\n", der_extra="accept_rate = 1000\n") as pair:
            clients = await asyncio.gather(*(pair.client() for _ in range(60)))
            await pair.open_bridges(60)
            await asyncio.gather(*(client.release() for client in clients))
            await pair.no_bridges()

    run(test())


def test_maximum_of_associations(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, cc_extra="max_associations = 2\n") as pair:
            first, _ = await pair.client(), await pair.client()
            with pytest.raises(FastsecError):
                await pair.client()
            assert pair.records.about("max_associations")
            await first.release()
            await until(lambda: len(pair.cc_route.bridges) == 1)
            await (await pair.client()).release()

    run(test())


def test_accept_rate(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki, cc_extra="accept_rate = 3\n") as pair:
            results = await asyncio.gather(*(pair.client() for _ in range(6)), return_exceptions=True)
            assert 3 <= sum(isinstance(result, AssociationStream) for result in results) < 6
            assert pair.records.about("accept_rate")

    run(test())
