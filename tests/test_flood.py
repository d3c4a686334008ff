"""Flood rules: exact repeats, replays, rate limits, half-open and unconfirmed associations, replay over a restart."""

from __future__ import annotations

import pytest

from engine_pair import CLIENT, INITIATE, READ, SERVER, UTC, ConnectionPair, Side, config, credential
from fastsec import limits
from fastsec.association import Association, Ended, Environment, Established, Role, Send
from fastsec.config import Policy
from fastsec.errors import Aborted, LimitReached, Rejected
from fastsec.instant import Instant
from fastsec.peers import Endpoint, Refusals, ReplayMemory
from fastsec.pki.identity import OsiName
from fastsec.profile import HandshakeDiag
from fastsec.secpdu.der import decode
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.timestamp import time_key, time_text
from fastsec.state import State
from forge import forge, on_request, on_response, replies


def again(pair: ConnectionPair, pdu: bytes, later_ms: int = 10) -> ConnectionPair:
    """A new connection to the same endpoints on which ``pdu`` comes as HandshakeReq."""
    now = Instant(pair.now.utc_ms + later_ms, pair.now.mono_ms + later_ms)
    fresh = ConnectionPair(endpoints=pair.endpoints, now=now)
    fresh.deliver(fresh.server, Send(Carrier.ASSOCIATE_REQ, pdu))
    fresh.move()
    return fresh


def request_of(pair: ConnectionPair) -> bytes:
    pdu = pair.wire[0][1].pdu
    assert pdu is not None
    return pdu


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    is_shared = True

    def look(self) -> None:
        pass

    def begin(self) -> None:
        pass

    def end(self, lines: list[str]) -> None:
        self.lines += lines

    def is_alive(self, worker: int) -> bool:
        return True


# --- replay -----------------------------------------------------------------------------------------------------------


@pytest.mark.event("IEC62351-4:1.11")
def test_an_exact_repeat_costs_no_public_key_work_and_gets_a_plain_abort() -> None:
    pair = ConnectionPair().open()
    fresh = again(pair, request_of(pair))
    assert fresh.server.events == ["REPLAY_DETEC_ASS_REQ"]
    assert [sent for _, sent in fresh.wire] == [Send(Carrier.ABORT, None)]
    assert fresh.server.ended
    assert fresh.endpoints[1].refusals == Refusals(repeats=1)
    assert not [output for output in fresh.server.outputs if type(output).__name__ == "Run"]
    assert not pair.server.ended  # the association it was for goes on
    pair.confirm()


@pytest.mark.event("IEC62351-4:1.11")
def test_the_same_time_and_number_in_another_request_is_the_signed_alarm() -> None:
    pair = ConnectionPair().open()
    other = forge(Carrier.ASSOCIATE_REQ, request_of(pair), credential(CLIENT), conf_params=2 | 4)
    fresh = again(pair, other)
    assert fresh.server.events == ["REPLAY_DETEC_ASS_REQ"]
    (reject,) = replies(fresh, "server")
    assert reject.kind is SecPduKind.HANDSHAKE_SEC_REJECT
    assert reject.diag is None


def test_replay_memory_is_written_only_after_signature_path_and_time() -> None:
    """A forged copy does not make the genuine request a replay."""
    pair = ConnectionPair()
    pair.client.start(INITIATE)
    genuine = request_of(pair)
    pair.link.clear()
    forged = genuine[:-1] + bytes((genuine[-1] ^ 1,))
    fresh = again(pair, forged)
    assert fresh.server.events == ["INV_SIGNATURE_ASS_REQ"]
    fresh = again(pair, genuine)
    assert fresh.server.seen(Established)


def test_the_memory_forgets_after_the_window_when_the_time_check_takes_over() -> None:
    pair = ConnectionPair().open()
    pair.client.abort(None)
    pair.move()
    later = (limits.OUR_REPLAY_WINDOW + 61) * 1000
    moment = Instant(pair.now.utc_ms + later, pair.now.mono_ms + later)
    ConnectionPair(endpoints=pair.endpoints, now=moment).open()  # any handshake tidies the memory
    assert len(pair.endpoints[1].replay._exact) == 1
    fresh = again(pair, request_of(pair), later)
    assert fresh.server.events == ["INV_TIME_ASS_REQ"]


def test_a_full_memory_refuses_that_peer_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_REPLAY_PER_PEER", 3)
    server = Endpoint(config(SERVER), now=Instant(UTC - 3_600_000, 0))
    client = Endpoint(config(CLIENT), now=Instant(UTC - 3_600_000, 0))
    other = OsiName("1.1.1.999.7", 1)
    pairs = [ConnectionPair(endpoints=(client, server), now=Instant(UTC + i, 1_000_000 + i * 1000)) for i in range(4)]
    for pair in pairs[:3]:
        pair.open()
    pairs[3].client.start(INITIATE)
    pairs[3].move()
    assert isinstance(pairs[3].client.error, Rejected)
    assert pairs[3].client.error.transient
    neighbour = ConnectionPair(endpoints=(Endpoint(config(other), now=Instant(UTC - 3_600_000, 0)), server))
    neighbour.open()
    assert server.refusals == Refusals(memory=1)


def test_a_client_whose_memory_is_full_takes_no_acceptance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_REPLAY_PER_PEER", 1)
    pair = ConnectionPair()
    pair.endpoints[0].replay.remember(SERVER.oid, "A", time_text(UTC - 1), "1:1", bytes(32), UTC)
    pair.client.start(INITIATE)
    pair.move()
    assert isinstance(pair.client.error, LimitReached)
    assert pair.server.error.code == HandshakeDiag.NO_REASON_GIVEN
    assert not pair.client.seen(Established)


def test_the_memory_survives_a_restart() -> None:
    pair = ConnectionPair()
    store = Kept()
    pair.endpoints[1].replay.attach(store)
    pair.open()
    assert len(store.lines) == 2  # the request, and the pair of numbers in use
    assert sorted(pair.endpoints[1].replay.lines(pair.now.utc_ms)) == sorted(store.lines)
    memory = ReplayMemory()
    for line in store.lines:
        memory.take(line)
    memory.rest_live(pair.now.mono_ms)
    restarted = Endpoint(config(SERVER), now=pair.now, replay=memory)
    assert restarted.refuse_before is None
    pair.endpoints = (pair.endpoints[0], restarted)
    fresh = again(pair, request_of(pair))
    assert fresh.server.events == ["REPLAY_DETEC_ASS_REQ"]
    assert replies(fresh, "server") == [None]
    ConnectionPair(endpoints=pair.endpoints, now=Instant(UTC + 50, 1_000_050)).open()


def test_without_memory_times_before_the_start_are_refused() -> None:
    pair = ConnectionPair()
    pair.client.start(INITIATE)
    restarted = Endpoint(config(SERVER), now=Instant(UTC + 1, 0))
    pair.endpoints = (pair.endpoints[0], restarted)
    fresh = again(pair, request_of(pair))
    assert fresh.server.events == ["INV_TIME_ASS_REQ"]
    assert replies(fresh, "server")[0].diag == HandshakeDiag.INVALID_TIME_VALUE


@pytest.mark.parametrize("line", ["", "x", "a b", "1.2.3 Q2026/17 00", "1.2.3 Qxx/17 zz", "1 2 3 4"])
def test_a_line_that_is_not_ours_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        ReplayMemory().take(line)


def test_expired_lines_of_a_replay_memory_are_skipped() -> None:
    memory = ReplayMemory()
    memory.remember("1.2.3", "Q", time_text(UTC), "17", bytes(32), UTC)
    assert not memory.drain()  # nobody keeps it
    (line,) = memory.lines(UTC)
    later = ReplayMemory()
    later.tidy(UTC + 10**9)
    later.take(line)
    assert not later.lines(UTC + 10**9)


class Busy(Kept):
    """Another process does not let go."""

    def begin(self) -> None:
        raise LimitReached("OUR_REPLAY_LOCK")


class Unwritten(Kept):
    """The disk is full."""

    def end(self, lines: list[str]) -> None:
        raise LimitReached("OUR_REPLAY_LOCK")


@pytest.mark.parametrize("store", [Busy, Unwritten])
@pytest.mark.parametrize("side", ["client", "server"])
def test_what_cannot_be_checked_is_not_accepted(store: type[Kept], side: str) -> None:
    """The memory that several processes share cannot be asked: nothing opens, and all that was taken is given back."""
    pair = ConnectionPair()
    pair.endpoints[("client", "server").index(side)].replay.attach(store())
    pair.client.start(INITIATE)
    pair.move()
    own, other = (pair.client, pair.server) if side == "client" else (pair.server, pair.client)
    assert isinstance(own.error, LimitReached)
    assert not own.seen(Established)
    assert isinstance(other.error, Rejected if side == "server" else Aborted)
    if side == "server":
        assert other.error.transient
        assert pair.endpoints[1].refusals.sharing == 1
        assert pair.endpoints[1].half_open == 0
    for endpoint, name in zip(pair.endpoints, (SERVER, CLIENT), strict=True):
        numbers = endpoint.numbers(name.oid)
        assert not numbers.live_as_client
        assert not numbers.live_as_server
        assert not endpoint.replay.pairs(name.oid).live


def test_a_request_that_turns_out_to_be_older_than_the_memory_is_refused() -> None:
    """While it was examined the memory was found damaged."""
    pair = ConnectionPair()
    pair.server.hold_jobs = True
    pair.client.start(INITIATE)
    pair.move()
    pair.endpoints[1].replay.refuse_before = time_key(time_text(UTC + 1))
    pair.server.run_jobs()
    assert pair.server.events == ["INV_TIME_ASS_REQ"]


# --- rate limit of signed rejects -------------------------------------------------------------------------------------


def test_signed_rejects_are_limited_per_source() -> None:
    server = Endpoint(config(SERVER), now=Instant(UTC - 3_600_000, 0))
    now = Instant(UTC, 1_000_000)

    def garbage(source: str, moment: Instant) -> Send:
        association = Association(Role.SERVER, server)
        association.receive(Carrier.ASSOCIATE_REQ, b"\x30\x00", moment, source=source)
        while True:
            outputs = association.outputs()
            sends = [output for output in outputs if isinstance(output, Send)]
            if sends:
                return sends[0]
            for output in outputs:
                if not isinstance(output, Ended) and hasattr(output, "job"):
                    output.job.run()
                    association.job_done(output.job, moment)

    sent = [garbage("192.0.2.1", now) for _ in range(8)]
    assert [send.carrier for send in sent] == [Carrier.ASSOCIATE_RSP] * 5 + [Carrier.ABORT] * 3
    assert garbage("192.0.2.2", now).carrier is Carrier.ASSOCIATE_RSP
    later = Instant(UTC + 1000, 1_001_000)
    assert garbage("192.0.2.1", later).carrier is Carrier.ASSOCIATE_RSP
    assert server.half_open == 0
    assert server.refusals == Refusals(unsigned=3)


def test_the_rate_limiter_itself_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_REJECT_SOURCES", 4)
    endpoint = Endpoint(config(SERVER), now=Instant(UTC, 0))
    now = Instant(UTC, 5000)
    assert [endpoint.may_reject(f"s{i}", now) for i in range(6)] == [True] * 4 + [False] * 2
    assert endpoint.may_reject("s5", Instant(UTC, 6000))


# --- half-open --------------------------------------------------------------------------------------------------------


def test_half_open_associations_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_HALF_OPEN_MAX", 2)
    start = Instant(UTC - 3_600_000, 0)
    endpoints = (Endpoint(config(CLIENT), now=start), Endpoint(config(SERVER), now=start))
    pairs = [
        ConnectionPair(endpoints=endpoints, accept=None, now=Instant(UTC + i * 300, 1_000_000 + i * 300))
        for i in range(4)
    ]
    for pair in pairs[:3]:
        pair.client.start(INITIATE)
        pair.move()
    assert endpoints[1].half_open == 2
    assert isinstance(pairs[2].client.error, Rejected)
    assert pairs[2].client.error.transient
    assert isinstance(pairs[2].server.error, LimitReached)
    (reject,) = replies(pairs[2], "server")
    assert reject.token3.asso_id == pairs[2].client.association._n
    pairs[0].server.accept(INITIATE)
    pairs[0].move()
    assert endpoints[1].half_open == 1
    pairs[3].client.start(INITIATE)
    pairs[3].move()
    assert endpoints[1].half_open == 2
    assert endpoints[1].refusals == Refusals(half_open=1)


# --- unconfirmed ------------------------------------------------------------------------------------------------------


def test_a_null_transfer_after_two_seconds_confirms_an_idle_association() -> None:
    pair = ConnectionPair().open()
    pair.elapse(1.9)
    assert len(pair.wire) == 2
    pair.elapse(0.2)
    assert len(pair.wire) == 4
    assert pair.client.association.confirmed
    assert pair.server.association.confirmed
    assert not pair.client.received
    pair.elapse(100)
    assert len(pair.wire) == 4


def test_no_null_transfer_from_a_side_that_has_sent() -> None:
    pair = ConnectionPair().open()
    pair.client.send(READ)
    pair.elapse(3)
    assert [who for who, _ in pair.wire[2:]] == ["client", "server"]


def test_a_client_that_opens_many_at_once_confirms_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a control centre that reconnects all its associations would find the server's 64 places taken."""
    monkeypatch.setattr(limits, "OUR_UNCONFIRMED_PER_PEER", 3)
    monkeypatch.setattr(limits, "OUR_CONFIRM_BURST", 2)
    start = Instant(UTC - 3_600_000, 0)
    endpoints = (Endpoint(config(CLIENT), now=start), Endpoint(config(SERVER), now=start))

    def another(ms: int) -> ConnectionPair:
        pair = ConnectionPair(endpoints=endpoints, now=Instant(UTC + ms, 1_000_000 + ms))
        pair.client.start(INITIATE)
        pair.move()
        return pair

    pairs = [another(ms) for ms in range(8)]
    assert all(pair.client.seen(Established) for pair in pairs)
    assert [pair.server.association.confirmed for pair in pairs] == [False, False] + [True] * 6
    assert not another(2_100).server.association.confirmed  # the burst is over: the usual delay again


def test_a_strict_server_is_sent_no_null_transfer_in_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_CONFIRM_BURST", 0)
    pair = ConnectionPair(config(CLIENT, policy=Policy(strict_peer=True))).open()
    assert len(pair.wire) == 2


def test_unconfirmed_for_a_minute_ends() -> None:
    pair = ConnectionPair().open()
    pair.on_wire = lambda who, sent: None if who == "client" else sent
    pair.elapse(59)
    assert not pair.server.ended
    pair.elapse(2)
    assert isinstance(pair.server.error, LimitReached)
    assert isinstance(pair.client.error, Aborted)
    assert pair.endpoints[1].refusals == Refusals(expired=1)


def test_too_many_unconfirmed_of_one_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_UNCONFIRMED_PER_PEER", 2)
    start = Instant(UTC - 3_600_000, 0)
    endpoints = (Endpoint(config(CLIENT), now=start), Endpoint(config(SERVER), now=start))

    def another(seconds: float) -> ConnectionPair:
        ms = int(seconds * 1000)
        pair = ConnectionPair(endpoints=endpoints, now=Instant(UTC + ms, 1_000_000 + ms))
        pair.client.start(INITIATE)
        pair.move()
        return pair

    first, second = another(0), another(1)
    woken: list[str] = []
    first.server.association.wakeup = lambda: woken.append("first")
    third = another(4.9)  # the oldest is too young to be evicted
    assert third.client.error.transient
    assert not first.server.ended
    fourth = another(5.1)
    assert fourth.client.seen(Established)
    assert woken == ["first"]
    first.collect(first.server)
    first.move()
    assert isinstance(first.server.error, LimitReached)
    assert isinstance(first.client.error, Aborted)
    second.client.send(READ)
    second.move()
    assert second.server.association.confirmed
    fifth = another(5.2)  # a confirmed one does not count
    assert fifth.client.seen(Established)
    assert endpoints[1].refusals == Refusals(unconfirmed=1, evicted=1)


def test_an_evicted_one_gives_up_its_place_at_once_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While its ApplAbort is being signed it must not be evicted for yet another one: that would lift the limit."""
    monkeypatch.setattr(limits, "OUR_UNCONFIRMED_PER_PEER", 2)
    start = Instant(UTC - 3_600_000, 0)
    endpoints = (Endpoint(config(CLIENT), now=start), Endpoint(config(SERVER), now=start))

    def another(seconds: float) -> ConnectionPair:
        ms = int(seconds * 1000)
        pair = ConnectionPair(endpoints=endpoints, now=Instant(UTC + ms, 1_000_000 + ms))
        pair.client.start(INITIATE)
        pair.move()
        return pair

    first, second = another(0), another(1)
    assert another(5.5).client.seen(Established)  # for the first, whose outputs nobody has carried out yet
    assert first.server.association.state is State.ENDING
    assert len(endpoints[1].numbers(CLIENT.oid).unconfirmed) == 2
    assert another(5.6).client.error.transient
    assert another(6.1).client.seen(Established)  # for the second
    assert second.server.association.state is State.ENDING
    assert len(endpoints[1]._unconfirmed) == 2


def test_too_many_unconfirmed_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_UNCONFIRMED_MAX", 2)
    start = Instant(UTC - 3_600_000, 0)
    server = Endpoint(config(SERVER), now=start)

    def of(number: int, seconds: float) -> ConnectionPair:
        name = OsiName("1.1.1.999.80", number)
        ms = int(seconds * 1000)
        pair = ConnectionPair(
            endpoints=(Endpoint(config(name), now=start), server), now=Instant(UTC + ms, 1_000_000 + ms)
        )
        pair.client.start(INITIATE)
        pair.move()
        return pair

    first, _ = of(1, 0), of(2, 0)
    assert of(3, 1).client.error.transient
    fourth = of(4, 6)
    assert fourth.client.seen(Established)
    first.collect(first.server)
    assert isinstance(first.server.error, LimitReached)


def test_evicted_while_the_application_still_decides() -> None:
    pair = ConnectionPair(accept=None)
    pair.client.start(INITIATE)
    pair.move()
    pair.server.association.evict(pair.now)
    pair.collect(pair.server)
    pair.move()
    assert pair.client.error.transient
    assert pair.endpoints[1].half_open == 0


# --- association numbers ----------------------------------------------------------------------------------------------


def test_a_live_client_number_is_a_protocol_error_and_the_client_may_retry() -> None:
    start = Instant(UTC - 3_600_000, 0)
    server = Endpoint(config(SERVER), now=start)
    live = ConnectionPair(endpoints=(Endpoint(config(CLIENT), now=start), server)).open()
    n = int(live.client.association.asso_id.partition(":")[0])
    restarted = Endpoint(config(CLIENT), now=start)  # a client that forgot what it had
    restarted.numbers(SERVER.oid)._next_n = n
    pair = ConnectionPair(endpoints=(restarted, server), now=Instant(UTC + 5, 1_000_005))
    pair.client.start(INITIATE)
    pair.move()
    assert pair.server.events == ["PROTOCOL_ERR_ASS_REQ"]
    assert pair.client.events == ["PROTOCOL_ERR_SEC_REJ_DIA"]
    assert pair.client.association.may_retry
    assert not live.server.ended
    restarted.numbers(SERVER.oid)._next_n = n  # once round
    retry = ConnectionPair(endpoints=(restarted, server), now=Instant(UTC + 6, 1_000_006)).open()
    assert not retry.client.association.asso_id.startswith(f"{n}:")


def test_a_thousand_live_associations_are_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_ASSO_NUMBERS", 3)
    start = Instant(UTC - 3_600_000, 0)
    endpoint = Endpoint(config(CLIENT), now=start)
    for i in range(3):
        Association(Role.CLIENT, endpoint, peer=SERVER).start(INITIATE, Instant(UTC + i, i))
    last = Association(Role.CLIENT, endpoint, peer=SERVER)
    with pytest.raises(LimitReached, match="OUR_ASSO_NUMBERS"):
        last.start(INITIATE, Instant(UTC + 4, 4))
    assert not last.outputs()


def test_a_server_without_a_number_left_refuses_for_the_moment() -> None:
    pair = ConnectionPair(accept=None)

    def use_up(pdu: bytes) -> bytes:
        n = int(decode(Carrier.ASSOCIATE_REQ, pdu).token1.asso_id)
        for m in range(limits.OUR_ASSO_NUMBERS):
            pair.endpoints[1].numbers(CLIENT.oid).hold((n, m))
        return pdu

    on_request(pair, use_up)
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.error.transient
    assert pair.server.error.limit == "OUR_ASSO_NUMBERS"
    assert pair.endpoints[1].refusals == Refusals(numbers=1)
    assert not pair.endpoints[1].numbers(CLIENT.oid).live_as_server
    assert not pair.endpoints[1].numbers(CLIENT.oid).unconfirmed


def test_an_acceptance_with_numbers_that_are_live_is_a_protocol_error() -> None:
    pair = ConnectionPair()

    def live(pdu: bytes) -> bytes:
        n, _, m = decode(Carrier.ASSOCIATE_RSP, pdu).token1.asso_id.partition(":")
        pair.endpoints[0].numbers(SERVER.oid).hold((int(n), int(m)))
        return pdu

    on_response(pair, live)
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.events == ["PROTOCOL_ERR_ASS_ACC"]
    assert pair.server.error.code == HandshakeDiag.PROTOCOL_ERROR


def test_numbers_of_a_lost_handshake_are_free_again() -> None:
    pair = ConnectionPair()
    on_request(pair, lambda pdu: pdu[:-1])
    for _ in range(3):
        pair = ConnectionPair(endpoints=pair.endpoints, now=Instant(pair.now.utc_ms + 500, pair.now.mono_ms + 500))
        pair.on_wire = lambda who, sent: None
        pair.client.start(INITIATE)
        pair.client.abort(None)
    assert not pair.endpoints[0].numbers(SERVER.oid).live_as_client


def test_environment_and_policy_are_shared_not_copied() -> None:
    """What an idle association shares does not count per association."""
    environment = Environment()
    policy = Policy()
    start = Instant(UTC - 3_600_000, 0)
    endpoints = (Endpoint(config(CLIENT, policy=policy), now=start), Endpoint(config(SERVER), now=start))
    pairs = [
        ConnectionPair(endpoints=endpoints, environment=environment, now=Instant(UTC + i, 1_000_000 + i)).open()
        for i in range(2)
    ]
    sides: list[Side] = [pair.client for pair in pairs]
    assert sides[0].association._policy is sides[1].association._policy is policy
    assert sides[0].association.peer is sides[1].association.peer
    assert pairs[0].server.association.peer is pairs[1].server.association.peer
