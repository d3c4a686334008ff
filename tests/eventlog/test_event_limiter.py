"""Rate limits: what gets through of a flood, and that everything else is counted."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec.eventlog.limiter import PEERS_TOLD, Limiter
from fastsec.events import SecurityEvent, event, named

ALARM, ERROR, NOTICE = (("IEC62351-4", 1, 3), ("IEC62351-4", 1, 5), ("IEC62351-14", 4, 1))


def happened(which: tuple[str, int, int], peer: str = "10.0.0.1:1") -> SecurityEvent:
    return event(*which, peer=peer)


def test_a_burst_then_the_rate_per_event_and_peer() -> None:
    limiter = Limiter(rate=2, burst=5)
    assert sum(limiter.admit(happened(ALARM), 0) for _ in range(50)) == 5
    assert sum(limiter.admit(happened(ERROR), 0) for _ in range(50)) == 5
    assert sum(limiter.admit(happened(ALARM, "10.0.0.2:1"), 0) for _ in range(50)) == 5
    assert sum(limiter.admit(happened(ALARM), 10 + step / 100) for step in range(1000)) == 5 + 2 * 10 - 1
    told = {(each.type.id, each.peer): each.count for each in limiter.suppressed()}
    assert told["IEC62351-4:1.3", "10.0.0.1"] == 45 + 1000 - 24
    assert told["IEC62351-4:1.5", "10.0.0.1"] == 45
    assert not limiter.suppressed()


def test_a_new_port_is_no_new_peer() -> None:
    limiter = Limiter(burst=5)
    assert sum(limiter.admit(happened(ALARM, f"10.0.0.1:{port}"), 0) for port in range(1000)) == 5


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("10.0.0.1:40000", "10.0.0.1"),
        ("[fe80::1]:40000", "[fe80::1]"),
        ("fe80::1:40000", "fe80::1"),
        ("1.1.1.999.2:12", "1.1.1.999.2:12"),
        ("1.1.999:12", "1.1.999:12"),
        ("CN=x:y:1", "CN=x:y:1"),
        ("", ""),
    ],
)
def test_what_a_peer_is(peer: str, host: str) -> None:
    limiter = Limiter(burst=1)
    assert [limiter.admit(happened(ALARM, peer), 0) for _ in range(2)] == [True, False]
    assert [each.peer for each in limiter.suppressed()] == [host]


def test_alarms_find_room_after_a_flood_of_notices() -> None:
    limiter = Limiter(total_burst=100, total_rate=0)
    assert sum(limiter.admit(happened(NOTICE, f"peer{n}"), 0) for n in range(1000)) == 50
    assert sum(limiter.admit(happened(ERROR, f"peer{n}"), 0) for n in range(1000)) == 35
    assert sum(limiter.admit(happened(ALARM, f"peer{n}"), 0) for n in range(1000)) == 15


def test_many_peers_are_bounded_in_memory_and_in_what_is_told() -> None:
    limiter = Limiter(burst=1, total_burst=10, total_rate=0, keys=100)
    admitted = sum(limiter.admit(happened(ALARM, f"peer{n}"), n) for n in range(5000))
    assert len(limiter._table) == 100
    told = limiter.suppressed()
    assert len(told) == PEERS_TOLD + 1
    assert sum(each.count for each in told) + admitted == 5000
    (rest,) = [each for each in told if not each.peer]
    assert rest.since == 10  # when the first was suppressed


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ALARM, ERROR, NOTICE]),
            st.sampled_from([f"p{number}" for number in range(6)]),
            st.floats(0, 2),
            st.booleans(),
        ),
        max_size=200,
    )
)
def test_every_event_is_either_admitted_or_counted_once(
    steps: list[tuple[tuple[str, int, int], str, float, bool]],
) -> None:
    limiter = Limiter(rate=0.5, burst=2, total_rate=1, total_burst=8, keys=4)
    now = 0.0
    came, through, counted = Counter[str](), Counter[str](), Counter[str]()
    for which, peer, wait, ask in steps:
        now += wait
        one = happened(which, peer)
        came[one.id] += 1
        through[one.id] += limiter.admit(one, now)
        for each in limiter.suppressed() if ask else ():
            counted[each.type.id] += each.count
    for each in limiter.suppressed():
        counted[each.type.id] += each.count
    assert all(came[key] == through[key] + counted[key] for key in came)
    assert sum(through.values()) <= 8 + now


def test_a_source_that_nobody_is_known_behind_has_a_bucket_of_its_own() -> None:
    limiter = Limiter(rate=1, burst=3)
    told = [named("OSI_ENV_PROT_ERR", source=f"10.0.0.{number % 2}:{number}") for number in range(20)]
    assert sum(limiter.admit(each, 0.0) for each in told) == 6
    assert {each.peer: each.count for each in limiter.suppressed()} == {"10.0.0.0": 7, "10.0.0.1": 7}
