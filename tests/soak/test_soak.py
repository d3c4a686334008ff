"""The hostile world in short, the table it is judged by, and that the judge lets nothing pass."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fastsec.aio.server import Admissions
from fastsec.events import by_mnemonic
from fastsec.peers import Refusals

from .arena import ATTACKS, Attempt, load
from .honest import SOURCE
from .judge import ANYBODY, Judge, table
from .running import FLOODS, SLOW, Plan, SoakFailed, soak

load()


# --- the table --------------------------------------------------------------------------------------------------------
def test_each_attack_has_its_row_and_each_row_its_attack() -> None:
    assert sorted(table()) == sorted(ATTACKS)
    assert set(SLOW) | set(FLOODS) <= set(ATTACKS)


@pytest.mark.parametrize("row", table().values(), ids=lambda row: row.kind)
def test_a_row_names_what_the_catalogue_and_the_counters_have(row) -> None:
    counters = {field.name for kind in (Admissions, Refusals) for field in dataclasses.fields(kind)}
    assert row.side in ("server", "client", "near", "far")
    assert set(row.refusals) | set(ANYBODY) <= counters | ({"log"} if row.side == "near" else set())
    assert row.event or row.refusals
    if row.event:
        assert by_mnemonic(row.event).severity == row.severity
        assert row.severity in ("alarm", "error")
    if row.other:
        by_mnemonic(row.other)


# --- the judge --------------------------------------------------------------------------------------------------------
KIND, EVENT, HERE = "certificate-revoked", "PKCERT_ALARM_ASS_REQ", "127.0.2.9:5"


def _judge(attempts: list[Attempt], records: list[dict[str, Any]], **counted: int) -> Judge:
    """A judge that knows of one kind of attack only."""
    judge = Judge(SOURCE)
    judge._table = {KIND: judge._table[KIND]}
    judge.attempts, judge.records = attempts, records
    events: dict[str, int] = {}
    for record in records:
        for event in record["events"]:
            events[event] = events.get(event, 0) + 1
    admissions = {"accepted": len(records), "unopened": sum(not record["opened"] for record in records)}
    judge.judge(
        {
            "admissions": dataclasses.asdict(Admissions()) | admissions | {"full": counted.pop("full", 0)},
            "refusals": dataclasses.asdict(Refusals(**counted)),
            "events": events,
        },
        {"turned_away": 0},
        repeats=(),
    )
    return judge


def _record(*events: str, at: str = HERE, refusal: str = "", opened: bool = False) -> dict[str, Any]:
    details = ["CERT_V_REVOKED"] if EVENT in events else []
    return {"at": at, "events": list(events), "details": details, "opened": opened, "refusal": refusal}


GOOD = Attempt(KIND, HERE, ending="reject")


def test_an_attempt_with_its_event() -> None:
    judge = _judge([GOOD], [_record(EVENT)])
    assert not judge.faults
    assert judge.scores[KIND].as_json() == {"attempts": 1, "detected": 1, "refused": 0}
    assert judge.matched_percent == 100.0


@pytest.mark.parametrize(
    "records",
    [
        [],
        [_record()],
        [_record("PKCERT_ERROR_ASS_REQ")],
        [_record(EVENT) | {"details": []}],
        [_record(EVENT, EVENT)],
        [_record(EVENT, at="127.0.2.9:6")],
        [_record(EVENT), _record(EVENT)],
        [_record(EVENT), _record("INV_TIME_ASS_REQ", at=f"{SOURCE}:7")],
        [_record(EVENT), _record(at=f"{SOURCE}:7", refusal="evicted", opened=True)],
        [_record(refusal="expired")],
    ],
    ids=[
        "nothing",
        "no event",
        "another event",
        "unsaid",
        "two",
        "elsewhere",
        "one more",
        "honest",
        "honest ended",
        "refusal",
    ],
)
def test_an_attempt_without_exactly_its_event(records: list[dict[str, Any]]) -> None:
    assert _judge([GOOD], records).faults


def test_a_refusal_counts_only_if_the_server_has_counted_it() -> None:
    other = Attempt(KIND, "127.0.2.9:6", ending="away")
    assert not _judge([GOOD, other], [_record(EVENT)], full=1).faults
    assert _judge([GOOD, other], [_record(EVENT)], full=0).faults
    crowd = _record(at="127.0.2.9:6", refusal="unconfirmed")
    assert not _judge([GOOD, other], [_record(EVENT), crowd], unconfirmed=1).faults
    assert _judge([GOOD, other], [_record(EVENT), crowd], unconfirmed=2).faults


def test_a_kind_that_is_only_ever_refused_is_not_detected() -> None:
    assert _judge([Attempt(KIND, HERE, ending="away")], [], full=1).faults


def test_unsigned_rejects_are_counted_to_the_last_one() -> None:
    plain = Attempt(KIND, HERE, ending="plain")
    assert not _judge([plain], [_record(EVENT)], unsigned=1).faults
    assert _judge([plain], [_record(EVENT)]).faults
    assert _judge([GOOD], [_record(EVENT)], unsigned=1).faults


# --- the hostile world ------------------------------------------------------------------------------------------------
@pytest.mark.timeout(400)
def test_a_short_soak(tmp_path: Path) -> None:
    """Every attack at least once, twenty honest associations meanwhile; ``make soak`` is the long one."""
    try:
        result = asyncio.run(soak(Plan(10, 20, hurried=True, pace=3.0), tmp_path, quiet=True))
    except SoakFailed as failure:
        pytest.fail("\n".join((failure.step, *failure.faults[:20])))
    assert result["detected_percent"] == 100.0
    assert result["honest_lost"] == result["plain_lost"] == 0
    assert result["honest_pdus"] > 0
    assert all(score["attempts"] for score in result["attacks"].values())
