"""Association numbers and what an endpoint shares."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_pair import CLIENT, SERVER, UTC, ConnectionPair, config
from fastsec import limits
from fastsec.errors import ConfigError, LimitReached
from fastsec.instant import Instant
from fastsec.peers import Endpoint, PeerNumbers
from fastsec.replay import ReplayMemory

NOW = Instant(UTC, 1_000_000)


def numbers(worker: tuple[int, int] = (0, 1), first: int = 0, memory: ReplayMemory | None = None) -> PeerNumbers:
    return PeerNumbers(worker, lambda count: first % count, memory or ReplayMemory(worker=worker[0]))


def at(seconds: float) -> Instant:
    return Instant(UTC + int(seconds * 1000), NOW.mono_ms + int(seconds * 1000))


def test_client_numbers_are_cyclic_and_skip_live_ones() -> None:
    own = numbers(first=997)
    assert [own.take_client_number(NOW)[0] for _ in range(5)] == [997, 998, 999, 0, 1]
    own.live_as_client.discard(998)
    assert own.take_client_number(NOW)[0] == 2


def test_all_thousand_then_the_limit() -> None:
    own = numbers(first=500)
    assert len({own.take_client_number(NOW)[0] for _ in range(1000)}) == 1000
    with pytest.raises(LimitReached):
        own.take_client_number(NOW)
    own.live_as_client.discard(7)
    assert own.take_client_number(NOW)[0] == 7


def test_a_time_and_number_pair_never_repeats_even_if_the_clock_steps_back() -> None:
    own = numbers()
    seen = set()
    for i in range(3000):
        n, utc_ms = own.take_client_number(Instant(UTC - i, NOW.mono_ms + i))
        assert (n, utc_ms) not in seen
        seen.add((n, utc_ms))
        own.live_as_client.discard(n)


def test_a_rejected_number_rests_for_the_window_unless_it_is_the_last() -> None:
    own = numbers()
    n, _ = own.take_client_number(NOW)
    own.live_as_client.discard(n)
    own.avoid(n, NOW)
    own._next_n = n
    assert own.take_client_number(NOW)[0] == n + 1
    own._next_n = n
    assert own.take_client_number(at(limits.OUR_REPLAY_WINDOW))[0] == n
    last = numbers()
    for _ in range(1000):
        last.take_client_number(NOW)
    last.live_as_client.discard(3)
    last.avoid(3, NOW)
    assert last.take_client_number(NOW)[0] == 3


def test_a_pair_rests_for_20_minutes() -> None:
    own = numbers()
    m = own.choose_server_number(5, NOW)
    own.hold((5, m))
    assert own.is_live((5, m))
    own.free((5, m), at(1))
    assert not own.is_live((5, m))
    taken = {own.choose_server_number(5, at(2)) for _ in range(1000)}
    assert m not in taken
    own.choose_server_number(5, at(limits.OUR_ASSO_PAIR_QUARANTINE + 2))
    assert (5, m) not in own._pairs


def test_a_client_that_never_chooses_m_forgets_pairs_too() -> None:
    own = numbers()
    for i in range(5000):
        pair = (i % 1000, i % 7)
        own.hold(pair)
        own.free(pair, at(i))
    assert len(own._pairs._queue) <= limits.OUR_ASSO_PAIR_QUARANTINE + 1
    assert len(own._pairs) <= limits.OUR_ASSO_PAIR_QUARANTINE + 1


def test_no_number_is_left_for_a_client_number() -> None:
    own = numbers()
    for m in range(1000):
        own.hold((5, m))
    assert own.choose_server_number(5, NOW) is None
    assert own.choose_server_number(6, NOW) is not None


def test_a_pair_taken_again_is_not_freed_by_its_old_quarantine() -> None:
    own = numbers()
    own.hold((1, 2))
    own.free((1, 2), at(0))
    own.hold((1, 2))
    own.choose_server_number(1, at(limits.OUR_ASSO_PAIR_QUARANTINE + 1))
    assert own.is_live((1, 2))


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))), st.integers(0, 10**9))
@settings(max_examples=100)
def test_workers_split_the_numbers(worker: tuple[int, int], first: int) -> None:
    own = numbers(worker, first)
    index, count = worker
    for _ in range(50):
        assert own.take_client_number(NOW)[0] % count == index
        m = own.choose_server_number(1, NOW)
        assert m is not None
        assert m % count == index
        assert 0 <= m < limits.OUR_ASSO_NUMBERS


@pytest.mark.parametrize("worker", [(1, 1), (-1, 2), (0, 0), (0, 1001)])
def test_worker_out_of_range(worker: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        Endpoint(config(CLIENT), now=NOW, worker=worker)


def test_numbers_start_at_random() -> None:
    starts = {Endpoint(config(CLIENT), now=NOW).numbers(SERVER.oid)._next_n for _ in range(20)}
    assert len(starts) > 5
    fixed = Endpoint(config(CLIENT), now=NOW, random=lambda count: bytes(count - 1) + b"\x11")
    assert fixed.numbers(SERVER.oid)._next_n == 17


def test_two_identities_in_both_roles_share_the_pairs() -> None:
    """A calls B and B calls A: no n:m is live twice."""
    start = Instant(UTC - 3_600_000, 0)
    a, b = Endpoint(config(CLIENT), now=start), Endpoint(config(SERVER), now=start)
    pairs = set()
    for i in range(20):
        ends = (a, b) if i % 2 else (b, a)
        pair = ConnectionPair(endpoints=ends, now=Instant(UTC + i, 1_000_000 + i)).open()
        pairs.add(pair.client.association.asso_id)
    assert len(pairs) == 20


def test_a_pair_that_is_live_in_the_other_role_is_not_chosen() -> None:
    """A is client of B under n:m; B calls A with the same n: A must not answer with the same m."""
    start = Instant(UTC - 3_600_000, 0)
    a, b = Endpoint(config(CLIENT), now=start), Endpoint(config(SERVER), now=start)
    first = ConnectionPair(endpoints=(a, b), now=Instant(UTC, 1_000_000)).open()
    n, _, m = first.client.association.asso_id.partition(":")
    b.numbers(CLIENT.oid)._next_n = int(n)
    a.numbers(SERVER.oid)._next_m[int(n)] = int(m)
    second = ConnectionPair(endpoints=(b, a), now=Instant(UTC + 5, 1_000_005)).open()
    assert second.client.association.asso_id.startswith(f"{n}:")
    assert second.client.association.asso_id != first.client.association.asso_id
    first.confirm()
    second.confirm()


@pytest.mark.parametrize(("ahead_ms", "expected"), [(0, 1), (5000, 5001), (599_999, 600_000), (600_000, 0), (10**9, 0)])
def test_a_clock_that_was_far_ahead_does_not_spoil_the_numbers(ahead_ms: int, expected: int) -> None:
    """Its peers have accepted nothing of then; within the window they may have."""
    own = numbers(first=5)
    assert own.take_client_number(Instant(UTC + ahead_ms, NOW.mono_ms)) == (5, UTC + ahead_ms)
    own.live_as_client.discard(5)
    own._next_n = 5
    assert own.take_client_number(NOW) == (5, UTC + expected)


@pytest.mark.parametrize(("floor_ms", "expected"), [(-1, 0), (3000, 3000), (600_000, 600_000), (600_001, 0)])
def test_own_requests_are_later_than_those_of_an_earlier_run(floor_ms: int, expected: int) -> None:
    memory = ReplayMemory()
    memory.floor_ms = UTC + floor_ms
    assert numbers(memory=memory).take_client_number(NOW)[1] == UTC + expected


def test_a_line_read_again_changes_nothing() -> None:
    memory = ReplayMemory()
    memory.tidy(UTC)
    lines = ["1.2 +s3 1:2", "1.2 +c0 3:4", "1.2 -2000000 3:4", ". =3 1795000000000", f"1.2 Q{'2' * 23}/7 {'ab' * 16}"]
    for line in lines * 3:
        memory.take(line)
    assert sorted(memory.lines(UTC)) == sorted(line for line in lines if "+c0" not in line)
