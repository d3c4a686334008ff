"""Every attempt against what the attacked side has seen of it, one to one. The expectations stand in ``attacks.csv``.

Columns: ``kind``; ``side``: who is attacked and has to notice: the server, a fastsec client, or a gateway on its plain
(near) or secured (far) side; ``event``: what it has to raise, that and nothing else; ``severity``: its class;
``other``: the event at the other side, which hears the answer; ``refusals``: where there is no event because the work
was refused, the counters of which one has to count it. ``log``: the plain side of a gateway knows no security events;
its log has to name the connection and say what it broke.
"""

from __future__ import annotations

import collections
import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastsec.events import by_mnemonic

from .arena import Attempt

# What may happen to anybody while others flood: each such refusal is counted by the server and matched here.
ANYBODY = ("full", "silent", "late", "half_open", "unconfirmed")
ADMISSIONS = ("silent", "late")
REFUSALS = ("half_open", "unconfirmed", "evicted", "expired")
UNSIGNED = "aborted without a signed reason"
CUT = ("did not come in time", "its place was wanted")  # how the gateways' log tells of half associations
BROKEN = ("broke a rule", "fault of the OSI environment")
EXACT_REPEATS = ("replay-request", "flood-repeats", "middle-replay-recorded-request")


@dataclass(frozen=True)
class Expected:
    """One row of the table."""

    kind: str
    side: str
    event: str
    severity: str
    other: str
    refusals: tuple[str, ...]


def table() -> dict[str, Expected]:
    """The rows by kind."""
    with open(Path(__file__).with_name("attacks.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["kind"]: Expected(**{**row, "refusals": tuple(row["refusals"].split())}) for row in rows}


@dataclass
class Score:
    """One kind of attack."""

    attempts: int = 0
    detected: int = 0
    refused: collections.Counter[str] = field(default_factory=collections.Counter)

    def as_json(self) -> dict[str, Any]:
        return {"attempts": self.attempts, "detected": self.detected, "refused": self.refused.total()}


class Judge:
    """Collects what all sides tell, and at the end judges.

    Attributes:
        attempts: of the attackers.
        records: of the server, one for each connection that has ended.
        faults: what does not fit; empty means that all is well.
    """

    def __init__(self, honest_source: str) -> None:
        self.attempts: list[Attempt] = []
        self.records: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.scores: dict[str, Score] = {}
        self._honest_source = honest_source + ":"
        self._table = table()
        self._plain = 0
        self._at_gateways: list[Attempt] = []

    def judge(self, counted: dict[str, Any], honest: dict[str, Any], repeats: tuple[str, ...] = EXACT_REPEATS) -> None:
        """Match everything.

        Arguments:
            counted: what the server has counted.
            honest: the report of the honest clients.
            repeats: kinds that repeat a HandshakeReq octet by octet.
        """
        self.scores = {kind: Score() for kind in self._table}
        by_address: dict[str, collections.deque[dict[str, Any]]] = collections.defaultdict(collections.deque)
        of_honest: list[dict[str, Any]] = []
        for record in self.records:
            if record["at"].startswith(self._honest_source):
                of_honest.append(record)
            else:
                by_address[record["at"]].append(record)
        for attempt in self.attempts:
            if self._table[attempt.kind].side in ("near", "far"):
                self._at_gateways.append(attempt)
                continue
            waiting = by_address.get(attempt.at)
            self._match(attempt, waiting.popleft() if waiting else None)
        for address, left in by_address.items():
            for record in left:
                self.faults.append(f"a connection that nobody made: {address} {record}")
        self._judge_honest(of_honest)
        self._judge_counters(counted, of_honest, honest)
        detected = sum(self.scores[kind].detected for kind in repeats)
        self._same("exact repeats", counted["refusals"]["repeats"], detected)
        self._judge_kinds("server", "client")

    def judge_gateways(self, report: dict[str, Any]) -> None:
        """Match what was done to the gateways, after ``judge``.

        Their log names the connections that came to nothing by address and port, their events by address alone; but
        each kind of attack has an address of its own.
        """
        events = {source: dict(found) for source, found in report["events"].items()}
        nothing = dict(report["nothing"])
        for attempt in self._at_gateways:
            score, row = self.scores[attempt.kind], self._table[attempt.kind]
            score.attempts += 1
            ending, source = nothing.pop(attempt.at, None), attempt.at.rpartition(":")[0]
            if ending is None or attempt.note:
                self.faults.append(f"{attempt.kind} at {attempt.at}: {attempt.note or 'the gateways do not name it'}")
            elif any(words in ending for words in CUT):
                score.refused["late"] += 1
            elif row.refusals == ("log",) and any(words in ending for words in BROKEN):
                score.detected += 1
            elif events.get(source, {}).get(row.event):
                events[source][row.event] -= 1
                score.detected += 1
            else:
                self.faults.append(f"{attempt.kind} at {attempt.at}: expected {row}, gateways {ending!r}")
        left = {source: found for source, found in events.items() if any(found.values())}
        if left or nothing:
            self.faults.append(f"the gateways noticed what nobody did: {left} {nothing}")
        self._judge_kinds("near", "far")

    def _judge_kinds(self, *sides: str) -> None:
        for kind, score in self.scores.items():
            if self._table[kind].side not in sides:
                continue
            if not score.attempts:
                self.faults.append(f"{kind}: no attempt was made")
            elif self._table[kind].event and not score.detected:
                self.faults.append(f"{kind}: none of {score.attempts} attempts raised its event: {dict(score.refused)}")

    # --- one attempt ---

    def _match(self, attempt: Attempt, record: dict[str, Any] | None) -> None:
        if attempt.aside:
            if record is None or record["events"]:
                self.faults.append(f"{attempt.kind}: preparing at {attempt.at} gave {record}")
            return
        score, row = self.scores[attempt.kind], self._table[attempt.kind]
        score.attempts += 1
        if attempt.note:
            self.faults.append(f"{attempt.kind}: the attack itself went wrong: {attempt.note}")
            return
        refusal = self._refusal(attempt, record, row)
        if refusal:
            score.refused[refusal] += 1
            self._plain += attempt.ending == "plain"
            return
        if self._is_detected(attempt, record, row):
            score.detected += 1
            if record and row.side == "server" and attempt.ending == "plain" and attempt.kind not in EXACT_REPEATS:
                self._plain += by_mnemonic(row.event).id.startswith("IEC62351-4:1.")
            return
        self.faults.append(f"{attempt.kind} at {attempt.at}: expected {row}, server {record}, victim {attempt.heard}")

    @staticmethod
    def _refusal(attempt: Attempt, record: dict[str, Any] | None, row: Expected) -> str:
        """The counter that has to have counted this attempt, or "" if it has to have its event."""
        if record is None:
            turned_away = attempt.at and attempt.ending in ("away", "closed")
            return "full" if (turned_away and row.side == "server") or attempt.ending == "away" else ""
        refusal = record["refusal"]
        if record["events"] or attempt.heard:
            return ""
        return refusal if refusal in row.refusals or refusal in ANYBODY else ""

    @staticmethod
    def _is_detected(attempt: Attempt, record: dict[str, Any] | None, row: Expected) -> bool:
        if not row.event or attempt.ending == "away":
            return False
        other = [row.other] if row.other else []
        if row.side == "client":
            # A side that cannot sign its abort in time sends a plain one (OUR_SIGN): then the other one hears no event.
            told = record["events"] if record else []
            unsigned = record is not None and not told and UNSIGNED in record.get("error", "")
            return attempt.heard == [row.event] and (told == other or unsigned)
        if record is None or record["events"] != [row.event]:
            return False
        if row.event.startswith("PKCERT_") != bool(record["details"]):  # of a certificate it is said what is wrong
            return False
        # A source that has had its signed rejects hears a plain ABRT.
        return attempt.heard is None or attempt.heard == other or (attempt.ending == "plain" and not attempt.heard)

    # --- the rest ---

    def _judge_honest(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            if record["events"]:
                self.faults.append(f"an honest association raised {record}")
            elif record["opened"] and record["refusal"]:
                self.faults.append(f"an honest association was ended: {record}")

    def _judge_counters(self, counted: dict[str, Any], of_honest: list[dict[str, Any]], honest: dict[str, Any]) -> None:
        """What the server has counted is what was refused, to the last one."""
        seen = collections.Counter(record["refusal"] for record in self.records)
        admissions, refusals = counted["admissions"], counted["refusals"]
        for names, counters in ((ADMISSIONS, admissions), (REFUSALS, refusals)):
            for name in names:
                self._same(f"refusals of kind {name}", counters[name], seen[name])
        unopened = sum(not record["opened"] for record in of_honest)
        full = sum(score.refused["full"] for score in self.scores.values()) + honest["turned_away"] - unopened
        self._same("connections refused because the server was full", admissions["full"], full)
        self._same("connections", admissions["accepted"], len(self.records))
        self._same(
            "connections without association", admissions["unopened"], sum(not r["opened"] for r in self.records)
        )
        if not self._plain <= refusals["unsigned"] <= self._plain + unopened:
            self.faults.append(f"unsigned rejects: counted {refusals['unsigned']}, seen by attackers {self._plain}")
        for name in set(refusals) - {*REFUSALS, "repeats", "unsigned"}:
            self._same(f"refusals of kind {name}", refusals[name], 0)
        raised = collections.Counter(event for record in self.records for event in record["events"])
        if raised != counted["events"]:
            apart = {name: (n, raised[name]) for name, n in counted["events"].items() if raised[name] != n}
            self.faults.append(f"events of the sink are not those of the connections: {apart}")

    def _same(self, what: str, counted: int, seen: int) -> None:
        if counted != seen:
            self.faults.append(f"{what}: the server counted {counted}, the attackers and clients saw {seen}")

    @property
    def matched_percent(self) -> float:
        """Attempts that had their event or their counted refusal."""
        attempts = sum(score.attempts for score in self.scores.values())
        matched = sum(score.detected + score.refused.total() for score in self.scores.values())
        return round(100 * matched / attempts, 3) if attempts else 0.0
