"""Associations over loopback with the real engine: both roles, both dial directions, with and without TLS."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import pytest
from world import DER, INITIATE, KINDS, PDU, RESPONSE, Recorder, pair, until

from fastsec import limits
from fastsec.aio.connection import Connection
from fastsec.aio.handler import Reject
from fastsec.config import Policy
from fastsec.errors import Aborted, FastsecError, LimitReached, LocalError, Rejected, StateError

BOTH = pytest.mark.parametrize("dials", ["client", "server"])
EACH = pytest.mark.parametrize("kind", KINDS)


def pdus(count: int) -> list[bytes]:
    """Different PDUs of different sizes."""
    return [b"\xa0\x82" + (number % 900 + 2).to_bytes(2, "big") + number.to_bytes(2, "big") + bytes(number % 900)
            for number in range(count)]  # fmt: skip


@BOTH
@EACH
def test_echo_and_release(run, world, authority, kind, dials) -> None:
    async def main() -> None:
        async with pair(world, authority, kind, dials, server=Recorder(echo=True)) as two:
            await two.opened()
            client, server = two.client, two.server
            assert client.assoc.initiate_response == RESPONSE
            assert server.assoc.initiate_request == INITIATE
            assert client.assoc.client is True
            assert server.assoc.client is False
            if kind != "plain":
                assert client.assoc.peer.names == {DER.oid}
                assert client.assoc.confirmed is False
            sent = pdus(2000)
            for pdu in sent[:10]:
                client.assoc.write(pdu)
            client.assoc.write_many(sent[10:])
            await client.until(lambda: len(client.pdus) == len(sent))
            assert client.pdus == sent
            assert server.pdus == sent
            assert client.assoc.confirmed
            assert server.assoc.confirmed
            client.assoc.release()
            await two.ended()
            assert client.error is None
            assert server.error is None
            first = ["associated", "released", "ended"]
            assert [call for call in client.calls if call in first] == first
            if kind != "plain":
                assert client.calls == ["associated", "confirmed", "released", "ended"]
                assert server.calls == ["association_requested", "associated", "confirmed", "released", "ended"]

    run(main())


@EACH
def test_the_server_may_release_too(run, world, authority, kind) -> None:
    async def main() -> None:
        async with pair(world, authority, kind) as two:
            await two.opened()
            two.server.assoc.write(PDU)
            two.server.assoc.release()
            with pytest.raises(StateError):
                two.server.assoc.write(PDU)
            await two.ended()
            assert two.client.pdus == [PDU]
            assert (two.client.error, two.server.error) == (None, None)

    run(main())


@EACH
def test_crossing_releases(run, world, authority, kind) -> None:
    async def main() -> None:
        async with pair(world, authority, kind) as two:
            await two.opened()
            two.client.assoc.write(PDU)
            two.client.assoc.release()
            two.server.assoc.release()
            await two.ended()
            assert (two.client.error, two.server.error) == (None, None)
            assert "released" in two.client.calls
            assert "released" in two.server.calls

    run(main())


def test_a_release_waits_for_the_application(run, world, authority) -> None:
    """What is still to be answered goes out before the release is."""

    class Slow(Recorder):
        def release_requested(self, assoc):
            self.note("release_requested", assoc)

            async def flush() -> None:
                await gate.wait()
                assoc.write(PDU)

            return flush()

    async def main() -> None:
        nonlocal gate
        gate = asyncio.Event()
        async with pair(world, authority, server=Slow()) as two:
            await two.opened()
            two.client.assoc.release()
            await two.server.wait("release_requested")
            assert "released" not in two.client.calls
            gate.set()
            await two.ended()
            assert two.client.pdus == [PDU]
            assert two.client.error is None

    gate = None
    run(main())


@pytest.mark.parametrize("who", ["client", "server"])
@EACH
def test_abort(run, world, authority, kind, who) -> None:
    async def main() -> None:
        async with pair(world, authority, kind) as two:
            await two.opened()
            mine, other = (two.client, two.server) if who == "client" else (two.server, two.client)
            mine.assoc.abort(reason="enough")
            mine.assoc.abort()
            await two.ended()
            assert isinstance(mine.error, Aborted)
            assert (mine.error.side, mine.error.reason) == ("local", "enough")
            assert isinstance(other.error, Aborted)
            assert other.error.side == "peer"
            mine.assoc.abort()
            with pytest.raises(StateError):
                mine.assoc.write(PDU)
            with pytest.raises(StateError):
                mine.assoc.release()
            with pytest.raises(StateError):
                mine.assoc.update_keys()

    run(main())


@EACH
def test_the_connection_is_cut(run, world, authority, kind) -> None:
    async def main() -> None:
        async with pair(world, authority, kind) as two:
            await two.opened()
            two.client.assoc.cut()
            await two.ended()
            assert isinstance(two.server.error, Aborted)
            assert two.server.error.side == "provider"
            assert "cut" in str(two.client.error)

    run(main())


class Refusing(Recorder):
    """Gives an answer of choice."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def association_requested(self, assoc, appl_data):
        self.note("association_requested", assoc)
        return self.answer() if callable(self.answer) else self.answer


@pytest.mark.parametrize("transient", [False, True])
@EACH
def test_the_application_refuses(run, world, authority, kind, transient) -> None:
    async def main() -> None:
        refusal = Reject(b"\xaa\x03\x80\x01\x07", transient)
        async with pair(world, authority, kind, server=Refusing(refusal)) as two:
            with pytest.raises(Rejected) as caught:
                await two.opened()
            assert caught.value.appl_data == refusal.appl_data
            assert caught.value.transient is transient
            await two.server.wait("ended")
            assert "associated" not in two.server.calls

    run(main())


def test_the_application_answers_later(run, world, authority) -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def later() -> bytes:
            await gate.wait()
            return RESPONSE

        async with pair(world, authority, server=Refusing(later)) as two:
            await two.server.wait("association_requested")
            assert "associated" not in two.client.calls
            gate.set()
            await two.opened()
            assert two.client.assoc.initiate_response == RESPONSE

    run(main())


@EACH
def test_the_client_leaves_while_the_application_thinks(run, world, authority, kind) -> None:
    async def main() -> None:
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def forever() -> bytes:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return b""

        async with pair(world, authority, kind, server=Refusing(forever)) as two:
            await begun.wait()
            [connection] = two.listener.connections
            assert connection.request is not None
            connection.cut()
            await cancelled.wait()
            await two.ended()
            assert isinstance(two.client.error, Aborted)

    run(main())


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("kind", ["secured", "secured-tls"])
def test_keys_are_updated_under_load(run, world, authority, kind, who) -> None:
    async def main() -> None:
        async with pair(world, authority, kind, server=Recorder(echo=True)) as two:
            await two.opened()
            client, server = two.client, two.server
            keys = client.assoc._engine.rx, server.assoc._engine.rx
            sent = pdus(3000)
            client.assoc.write_many(sent[:1000])
            (client if who == "client" else server).assoc.update_keys()
            for position in range(1000, 3000, 10):
                client.assoc.write_many(sent[position : position + 10])
                await asyncio.sleep(0)
            await client.until(lambda: len(client.pdus) == len(sent))
            assert client.pdus == sent
            await client.until(
                lambda: client.assoc._engine.rx is not keys[0] and server.assoc._engine.rx is not keys[1]
            )
            client.assoc.write(PDU)
            await client.until(lambda: len(client.pdus) == len(sent) + 1)
            assert client.assoc._fast_tx
            assert client.assoc._fast_rx
            assert server.assoc._fast_tx
            assert server.assoc._fast_rx

    run(main())


def test_plain_associations_have_no_keys(run, world, authority) -> None:
    async def main() -> None:
        async with pair(world, authority, "plain") as two:
            await two.opened()
            assert two.client.assoc.secured is False
            assert two.client.assoc.peer is None
            assert two.client.assoc.confirmed is True
            with pytest.raises(StateError, match="has no keys"):
                two.client.assoc.update_keys()

    run(main())


@EACH
def test_octet_by_octet(run, world, authority, kind, monkeypatch) -> None:
    whole = Connection.data_received

    def split(self, data: bytes) -> None:
        for octet in data:
            whole(self, bytes([octet]))

    monkeypatch.setattr(Connection, "data_received", split)

    async def main() -> None:
        async with pair(world, authority, kind, server=Recorder(echo=True)) as two:
            await two.opened()
            for pdu in pdus(5):
                two.client.assoc.write(pdu)
            await two.client.until(lambda: len(two.client.pdus) == 5)
            assert two.client.pdus == pdus(5)
            two.client.assoc.release()
            await two.ended()
            assert two.client.error is None

    run(main())


def test_what_is_not_one_pdu_is_refused_at_once(run, world, authority) -> None:
    async def main() -> None:
        async with pair(world, authority, server=Recorder(echo=True)) as two:
            await two.opened()
            for wrong in (b"", b"\x30\x00", b"\xa0\x05\x00", b"\xa0\x00\x00"):
                with pytest.raises(LocalError):
                    two.client.assoc.write(wrong)
                with pytest.raises(LocalError):
                    two.client.assoc.write_many([wrong])
            two.client.assoc.write(PDU)
            await two.client.until(lambda: two.client.pdus == [PDU])

    run(main())


CALLBACKS = ("association_requested", "associated", "pdus_received", "release_requested", "released", "ended")


@pytest.mark.parametrize(
    ("kind", "callback"),
    [("secured", "confirmed"), *itertools.product(("secured", "plain"), CALLBACKS)],
)
def test_a_callback_that_fails_ends_its_association_only(run, world, authority, kind, callback) -> None:
    class Faulty(Recorder):
        pass

    def fail(self, *arguments):
        self.note(callback, arguments[0])
        raise ZeroDivisionError(callback)

    setattr(Faulty, callback, fail)
    complaints = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["exception"]))
        good = Recorder(echo=True)
        async with pair(world, authority, kind, server=good) as other:
            await other.opened()
            async with pair(world, authority, kind, server=Faulty()) as two:
                await two.client.until(lambda: {"associated", "ended"} & set(two.client.calls))
                if two.client.calls != ["ended"] and two.client.error is None:
                    two.client.assoc.write(PDU)
                    if callback in ("release_requested", "released", "ended"):
                        two.client.assoc.release()
                await two.server.wait(callback)
                await two.client.wait("ended")
                if callback not in ("released", "ended"):
                    assert two.client.error is not None
            other.client.assoc.write(PDU)
            await other.client.until(lambda: other.client.pdus == [PDU])

    run(main())
    assert complaints
    assert all(isinstance(error, ZeroDivisionError) for error in complaints)


def test_a_sink_that_fails_ends_nothing(run, world, authority) -> None:
    def sink(event) -> None:
        raise ZeroDivisionError

    complaints = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["exception"]))
        config = dataclasses.replace(world.der, sink=sink)
        async with pair(world, authority, server_config=config) as two:
            await two.opened()
            two.client.assoc._transport.write(bytes.fromhex("0300000702f080"))  # an empty TSDU: a fault
            await two.ended()
            assert two.server.error is not None

    run(main())
    assert complaints


def test_a_batch_with_a_wrong_pdu_changes_nothing(run, world, authority) -> None:
    """Whatever of it was good has not been sent, and what is sent afterwards is in sequence."""

    async def main() -> None:
        async with pair(world, authority, server=Recorder(echo=True)) as two:
            await two.opened()
            for _ in range(3):
                with pytest.raises(LocalError):
                    two.client.assoc.write_many([PDU, PDU, b"\x30\x00", PDU])
                two.client.assoc.write(PDU)
            await two.client.until(lambda: two.client.pdus == [PDU] * 3)
            assert two.server.pdus == [PDU] * 3

    run(main())


def test_towards_a_strict_peer_the_next_pdu_carries_the_update(run, world, authority) -> None:
    """No NULL transfer: after update_keys() the slow path sends, then the fast one again."""
    strict = Policy(strict_peer=True)

    async def main() -> None:
        configs = {
            "client_config": dataclasses.replace(world.centre, policy=strict),
            "server_config": dataclasses.replace(world.der, policy=strict),
        }
        async with pair(world, authority, server=Recorder(echo=True), **configs) as two:
            await two.opened()
            client = two.client
            client.assoc.write(PDU)
            client.assoc.write_many([PDU])
            await client.until(lambda: len(client.pdus) == 2)
            before = client.assoc._engine.tx
            client.assoc.update_keys()
            await until(lambda: not client.assoc._fast_tx)
            client.assoc.write_many([PDU] * 3)
            assert client.assoc._fast_tx
            assert client.assoc._engine.tx is not before
            await client.until(lambda: len(client.pdus) == 5)
            client.assoc.write(PDU)
            await client.until(lambda: len(client.pdus) == 6)

    run(main())


@pytest.mark.parametrize("bad", [b"\x30\x00", PDU + b"\x00", b"", b"\xa0\x83\x01\x00\x00" + bytes(1 << 16)])
def test_a_list_with_a_bad_pdu_is_not_sent_in_part_on_the_slow_path_either(run, world, authority, bad) -> None:
    """Who gets the error may send the good ones again; a control command must not arrive twice."""
    strict = Policy(strict_peer=True)

    async def main() -> None:
        configs = {
            "client_config": dataclasses.replace(world.centre, policy=strict),
            "server_config": dataclasses.replace(world.der, policy=strict),
        }
        async with pair(world, authority, server=Recorder(echo=True), **configs) as two:
            await two.opened()
            client = two.client
            client.assoc.write(PDU)
            await client.until(lambda: len(client.pdus) == 1)
            client.assoc.update_keys()
            await until(lambda: not client.assoc._fast_tx)
            with pytest.raises(LocalError):
                client.assoc.write_many([PDU, bad])
            with pytest.raises(LocalError):
                client.assoc.write(bad)
            assert not client.assoc._fast_tx  # the PDU that announces the new keys has not gone out
            client.assoc.write_many([PDU])
            await client.until(lambda: len(client.pdus) == 2)
            assert two.server.pdus == [PDU, PDU]

    run(main())


@pytest.mark.parametrize("write", ["write", "write_many"])
def test_keys_are_updated_by_message_count(run, world, authority, write) -> None:
    async def main() -> None:
        config = dataclasses.replace(world.centre, policy=Policy(rekey_messages=5))
        async with pair(world, authority, server=Recorder(echo=True), client_config=config) as two:
            await two.opened()
            client = two.client
            before = client.assoc._engine.tx
            for number in range(12):
                if write == "write":
                    client.assoc.write(PDU)
                else:
                    client.assoc.write_many([PDU])
                await client.until(lambda number=number: len(client.pdus) == number + 1)
            await until(lambda: client.assoc._engine.tx is not before)

    run(main())


@pytest.mark.parametrize("write", ["write", "write_many"])
def test_at_the_limit_of_a_key_the_association_ends(run, world, authority, monkeypatch, write) -> None:
    class Exhausted:
        """The channel, with a key at its limit."""

        def __init__(self, channel) -> None:
            self._channel = channel

        def seal(self, pdu, utc_ms):
            raise LimitReached("OUR_MESSAGES_PER_KEY")

        seal_batch = seal

        def __getattr__(self, name):
            return getattr(self._channel, name)

    async def main() -> None:
        async with pair(world, authority) as two:
            await two.opened()
            monkeypatch.setattr(limits, "OUR_MESSAGES_PER_KEY", 0)
            two.client.assoc._channel = Exhausted(two.client.assoc._channel)
            call, given = {
                "write": (two.client.assoc.write, PDU),
                "write_many": (two.client.assoc.write_many, [PDU]),
            }[write]
            with pytest.raises(LimitReached):
                call(given)
            await two.ended()
            assert isinstance(two.client.error, LimitReached)

    run(main())


@EACH
def test_an_initiate_that_does_not_fit(run, world, authority, kind) -> None:
    """More than 10 240 octets of CONNECT user data: nothing is sent, and the caller is told which part is too big."""

    async def main() -> None:
        async with pair(world, authority, kind, client=Initiating(b"\xa8\x82\x30\x00" + bytes(0x3000))) as two:
            with pytest.raises(LimitReached, match="CONNECT"):
                await two.opened()
            await two.server.wait("ended")
            assert two.server.calls == ["ended"]

    run(main())


class Initiating(Recorder):
    """A client with a request of choice."""

    def __init__(self, request: bytes) -> None:
        super().__init__()
        self.own = request

    def initiate(self, assoc):
        return self.own


@pytest.mark.parametrize("answer", [None, 5, "text"])
def test_an_answer_that_is_none(run, world, authority, answer) -> None:
    complaints = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["exception"]))
        async with pair(world, authority, server=Refusing(answer)) as two:
            with pytest.raises(FastsecError):
                await two.opened()
            await two.server.wait("ended")

    run(main())
    assert [type(error) for error in complaints] == [TypeError]


def test_an_application_that_gives_up(run, world, authority) -> None:
    async def main() -> None:
        async def cancelled() -> bytes:
            raise asyncio.CancelledError

        async def failing() -> bytes:
            raise ZeroDivisionError

        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["exception"]))
        for answer in (cancelled, failing):
            async with pair(world, authority, server=Refusing(answer)) as two:
                with pytest.raises(FastsecError):
                    await two.opened()
                await two.server.wait("ended")
                assert isinstance(two.server.error, Aborted)
        assert [type(error) for error in complaints] == [ZeroDivisionError]

    run(main())
