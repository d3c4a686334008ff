"""The fault tables against the catalogue: every pairing exists, alarms are silent, errors speak."""

from __future__ import annotations

import pytest

from fastsec.events import CATALOGUE
from fastsec.faults import CHECKS, RECEIVED, Group, received, verdict
from fastsec.profile import DtDiag, HandshakeDiag

ROWS = [(group, check) for group, table in CHECKS.items() for check in table]


@pytest.mark.parametrize(("group", "check"), ROWS, ids=[f"{group.name} {check}" for group, check in ROWS])
def test_each_check_has_an_event_and_alarms_carry_no_diagnostic(group: Group, check: str) -> None:
    found = verdict(group, check)
    entry = CATALOGUE["IEC62351-4", group, found.number]
    assert (entry.severity == "alarm") == (found.diag is None)
    assert found.diag is None or found.diag in (set(HandshakeDiag) | set(DtDiag))


def test_every_event_of_the_groups_is_raised_by_some_check_or_diagnostic() -> None:
    for group, table in CHECKS.items():
        raised = {number for number, _ in table.values()} | set(RECEIVED.get(group, {}).values())
        if group is Group.HANDSHAKE_SEC_REJECT:
            raised.add(received(group, HandshakeDiag.ENCRYPTION_NOT_REQUIRED, encryption_list_offered=True))
        listed = {number for _, number, in_group in _rows(group) if in_group}
        assert raised == listed, group.name


def _rows(group: Group) -> list[tuple[str, int, bool]]:
    return [(domain, number, g == group) for (domain, g, number) in CATALOGUE if domain == "IEC62351-4"]


def test_every_diagnostic_is_sent_for_some_check() -> None:
    handshake = {diag for group in (1, 2) for _, diag in CHECKS[Group(group)].values()}
    assert handshake == {None, *HandshakeDiag}
    data = {diag for group in (10, 11, 12) for _, diag in CHECKS[Group(group)].values()}
    assert data == {None, *DtDiag}


@pytest.mark.parametrize("group", RECEIVED)
def test_a_received_diagnostic_without_an_event_of_its_own_counts_as_protocol_error(group: Group) -> None:
    protocol_error = received(group, 1)
    names = DtDiag if group is Group.DT_SEC_ABORT else HandshakeDiag
    for diag in [*names, 99]:
        number = received(group, diag)
        assert number == RECEIVED[group].get(diag, protocol_error)
    assert CATALOGUE["IEC62351-4", group, received(group, None)].severity == "alarm"


def test_an_unknown_check_counts_as_protocol_error() -> None:
    assert verdict(Group.RELEASE_REQ, "something new") == verdict(Group.RELEASE_REQ, "protocol-error")
