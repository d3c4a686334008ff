"""The door of a listener: ranges, rate, number, and a report that cannot flood the log."""

from __future__ import annotations

import ipaddress

import pytest

from fastsec.gateway import admission
from fastsec.gateway.admission import Admission, allowed
from fastsec.gateway.tables import Network


def ranges(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


@pytest.mark.parametrize(
    ("source", "fine"),
    [
        ("10.1.2.3", True),
        ("10.2.0.1", False),
        ("::ffff:10.1.2.3", True),
        ("fd00::1", True),
        ("fd00::1%eth0", True),
        ("fe80::1", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_ranges(source: str, fine: bool) -> None:
    assert allowed(source, ranges("10.1.0.0/16", "fd00::/8")) is fine


def door(**changes: object) -> tuple[Admission, list[tuple[str, int]]]:
    told: list[tuple[str, int]] = []
    values = {"allow": (), "rate": 1000.0, "maximum": 1000, **changes}
    return Admission(report=lambda why, count: told.append((why, count)), **values), told  # type: ignore[arg-type]


def test_maximum_and_leaving() -> None:
    gate, _ = door(maximum=2)
    assert gate.enter("::1", 0.0) == ""
    assert gate.enter("::1", 0.0) == ""
    assert "max_associations" in gate.enter("::1", 0.0)
    gate.leave()
    assert gate.enter("::1", 0.0) == ""
    assert gate.open == 2


def test_rate_lets_a_burst_through_and_then_the_rate() -> None:
    gate, _ = door(rate=5.0)
    granted = [gate.enter("::1", 100.0) == "" for _ in range(8)]
    assert granted == [True] * 5 + [False] * 3
    assert [gate.enter("::1", 100.4) == "" for _ in range(3)] == [True, True, False]


def test_a_flood_from_one_address_takes_nothing_from_others() -> None:
    gate, _ = door(rate=5.0)
    for _ in range(100):
        gate.enter("192.0.2.1", 100.0)
    assert gate.open == 5
    assert gate.enter("192.0.2.2", 100.0) == ""
    for host in range(100):  # one attacker with a whole /64
        gate.enter(f"2001:db8::{host:x}", 100.0)
    assert gate.open == 11
    assert gate.enter("2001:db8:0:1::1", 100.0) == ""
    assert "accept_rate" in gate.enter("::ffff:192.0.2.1", 100.0)


def test_sources_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "SOURCES_MAX", 3)
    gate, _ = door(rate=5.0)
    for host in range(100):
        assert gate.enter(f"192.0.2.{host}", 100.0) == ""
    assert len(gate._credits) == 3


def test_a_full_route_asks_for_room() -> None:
    gate, _ = door(maximum=1)
    assert gate.enter("::1", 0.0) == ""

    def make_room() -> bool:
        gate.leave()
        return True

    gate.make_room = make_room
    assert gate.enter("::1", 0.0) == ""
    assert gate.open == 1


def test_refused_sources_take_no_credit() -> None:
    gate, _ = door(rate=1.0, allow=ranges("10.0.0.0/8"))
    for _ in range(5):
        assert "allowed ranges" in gate.enter("192.0.2.1", 0.0)
    assert gate.enter("10.0.0.1", 0.0) == ""


def test_reports_are_rare_and_count() -> None:
    gate, told = door(maximum=1)
    gate.enter("::1", 0.0)
    for tenth in range(99):
        gate.enter("::1", tenth / 10)
    assert [count for _, count in told] == [1]
    gate.enter("::1", 10.0)
    assert [count for _, count in told] == [1, 99]
