"""docs/events.md against the code: the line it shows, and its numbers."""

from __future__ import annotations

import re
from pathlib import Path

from fastsec.aio import event_file, event_log, event_spool, event_syslog
from fastsec.eventlog import limiter
from fastsec.eventlog.record import LINE_MAX, SQNUM_MAX, line, record
from fastsec.events import event
from fastsec.gateway.events import BURST_FACTOR, EventSettings

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text(encoding="utf-8")


def test_the_line_is_what_the_code_makes() -> None:
    (shown,) = re.findall(r"^<105>.*$", TEXT, re.M)
    happened = event("IEC62351-4", 11, 5, peer="1.1.1.999.1:12", check="icv")
    made = record(
        happened, utc_ms=1_786_521_600_123, sqnum=42, source="gw1.example", app_name="fastsec", extra={"route": "plant"}
    )
    assert line(made).decode() == shown


def test_the_numbers_are_those_of_the_code() -> None:
    usual = EventSettings()
    flat = re.sub(r"\s+", " ", TEXT)
    for words in (
        f"one event from one peer | {usual.burst} at once, {usual.rate} per second",
        f"all events | {BURST_FACTOR * usual.total_rate:,} at once, {usual.total_rate} per second",
        f"events and peers told apart | {limiter.KEYS_MAX:,}",
        f"queue | {event_log.QUEUE:,};",
        f"file | {usual.file_size >> 20} MiB, and {usual.file_count} older ones",
        f"Every {event_log.SUMMARY:g} s, and at the end",
        f"the {limiter.PEERS_TOLD} worst peers",
        f"up to {event_log.QUEUE:,} records, then counted",
        f"It is bounded ({event_spool.LIMIT >> 20} MiB",
        f"lived for {event_syslog.CONFIRM:g} s",
        f"after {event_syslog.BACKOFF[0]} s, then ever more seldom",
        f"up to {event_file.BLOCK:,} may be left out",
        f"1 to {SQNUM_MAX}, then 1 again",
        f"at most {LINE_MAX:,} octets",
    ):
        assert words in flat, words
    assert limiter.RESERVE["notice"] == 0.5
    assert limiter.RESERVE["alarm"] == 0
