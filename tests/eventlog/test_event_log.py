"""The event log as a whole: records of what was raised, floods, failing outputs, and the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from logfiles import until
from rfc5424 import Message, parse

from fastsec.aio import event_log as module
from fastsec.aio.event_file import Counter
from fastsec.aio.event_log import EventLog
from fastsec.eventlog.limiter import Limiter
from fastsec.eventlog.record import Record
from fastsec.events import EventSink, SecurityEvent, by_mnemonic, event, named


class Kept:
    """An output that keeps lines; with ``broken`` it fails, with ``gate`` it waits."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.broken = False
        self.flushed = 0
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()

    def write(self, records: list[tuple[Record, bytes]]) -> None:
        self.gate.wait()
        if self.broken:
            raise OSError(28, "No space left on device")
        self.lines += [line for _, line in records]
        records.clear()

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed = True

    @property
    def messages(self) -> list[Message]:
        return [parse(line) for line in self.lines]


@pytest.fixture
def kept() -> Kept:
    return Kept()


class Logs:
    """Makes event logs and ends them."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._made: list[EventLog] = []

    def __call__(self, *, start: bool = True, **changes: object) -> EventLog:
        values: dict[str, object] = {"source": "host", "app_name": "app", **changes}
        log = EventLog(**values)  # type: ignore[arg-type]
        log.add(self._kept)
        self._made.append(log)
        if start:
            log.start()
        return log

    def close(self) -> None:
        self._kept.gate.set()
        for log in self._made:
            log.close()


@pytest.fixture
def make(kept: Kept) -> Iterator[Logs]:
    logs = Logs(kept)
    yield logs
    logs.close()


def flood(sink: EventSink, count: int, mnemonic: str, peer: str = "10.0.0.1:1", **params: object) -> None:
    for _ in range(count):
        sink(named(mnemonic, peer=peer, **params))


def test_a_record_says_what_was_raised_and_when(tmp_path: Path, kept: Kept, make: Logs) -> None:
    log = make(counter=Counter(tmp_path / "counter"))
    before = time.time()
    log.tagged(route="bay4")(event("IEC62351-4", 1, 3, peer="1.1.1.999.2:12", check="signature"))
    log(named("COMM_SUCCESS", peer="1.1.1.999.2:12"))
    assert log.flush()
    first, second = kept.messages
    assert first.params["ID"] == "IEC62351-4:1.3"
    assert first.params["PeerInfo"] == "1.1.1.999.2:12"
    assert (first.params["X.check"], first.params["X.route"]) == ("signature", "bay4")
    assert (first.priority, first.hostname, first.app_name) == (105, "host", "app")
    from datetime import datetime

    assert before - 0.01 <= datetime.fromisoformat(first.timestamp).timestamp() <= time.time()
    assert [message.params["SqNum"] for message in (first, second)] == ["1", "2"]
    assert kept.flushed == 1
    log.close()
    assert kept.closed
    kept.lines.clear()
    log = make(counter=Counter(tmp_path / "counter"))
    log(named("COMM_SUCCESS"))
    log.close()
    assert kept.messages[0].params["SqNum"] == "3"


def test_events_before_the_start_are_kept(kept: Kept, make: Logs) -> None:
    log = make(start=False)
    log(named("COMM_SUCCESS"))
    assert not kept.lines
    log.start()
    assert log.flush()
    assert len(kept.lines) == 1


def test_a_flood_is_counted_and_the_others_are_seen(kept: Kept, make: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUMMARY", 0.2)
    log = make(limiter=Limiter(rate=0.001, burst=5))
    flood(log, 3000, "INV_SIGNATURE_ASS_REQ")
    flood(log, 1, "INV_SIGNATURE_ASS_REQ", peer="10.0.0.2:1")
    until(lambda: any("X.Suppressed" in message.params for message in kept.messages))
    messages = kept.messages
    (told,) = [message for message in messages if "X.Suppressed" in message.params]
    assert told.params["ID"] == "IEC62351-4:1.3"
    assert told.params["PeerInfo"] == "10.0.0.1"
    assert told.params["X.Suppressed"] == "2995"
    assert told.params["X.Since"] <= told.timestamp
    assert [message.params["PeerInfo"] for message in messages if message is not told] == ["10.0.0.1:1"] * 5 + [
        "10.0.0.2:1"
    ]
    time.sleep(0.5)
    assert len(kept.lines) == 7  # told once


def test_what_was_suppressed_is_told_at_the_end(kept: Kept, make: Logs) -> None:
    log = make(limiter=Limiter(burst=1, rate=0.001))
    flood(log, 10, "INV_SIGNATURE_ASS_REQ")
    log.close()
    assert [message.params.get("X.Suppressed") for message in kept.messages] == [None, "9"]


def test_alarms_have_room_in_a_full_queue(kept: Kept, make: Logs) -> None:
    log = make(start=False, queue=100, limiter=Limiter(burst=1e9, total_burst=1e9))
    flood(log, 1000, "COMM_SUCCESS")
    flood(log, 1000, "TLS_NO_CRL")
    flood(log, 1000, "PROTOCOL_ERR_ASS_REQ")
    flood(log, 1000, "INV_SIGNATURE_ASS_REQ")
    log.start()
    log.close()
    written = [message.params["MNEMONIC"] for message in kept.messages if "X.Suppressed" not in message.params]
    counts = {name: written.count(name) for name in written}
    assert counts == {"COMM_SUCCESS": 50, "TLS_NO_CRL": 20, "PROTOCOL_ERR_ASS_REQ": 15, "INV_SIGNATURE_ASS_REQ": 15}
    dropped = {
        message.params["MNEMONIC"]: int(message.params["X.Suppressed"])
        for message in kept.messages
        if "X.Suppressed" in message.params
    }
    assert dropped == {name: 1000 - count for name, count in counts.items()}


def test_whoever_raises_an_event_waits_for_nothing(kept: Kept, make: Logs) -> None:
    """The output hangs; thousands of events go by."""
    kept.gate.clear()
    log = make(queue=1000)
    flood(log, 1, "INV_SIGNATURE_ASS_REQ")
    until(lambda: not log._queue)
    flood(log, 50_000, "PROTOCOL_ERR_ASS_REQ")
    assert len(log._queue) == 850
    kept.gate.set()
    log.close()
    told = sum(int(message.params.get("X.Suppressed", "1")) for message in kept.messages)
    assert told == 50_001


def test_an_output_that_fails_gets_it_again_and_others_are_not_held_up(
    kept: Kept, make: Logs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)
    other = Kept()
    log = make(start=False)
    log.add(other)
    log.start()
    kept.broken = True
    flood(log, 3, "INV_SIGNATURE_ASS_REQ")
    assert log.flush()
    assert (len(kept.lines), len(other.lines)) == (0, 3)
    assert "No space left on device" in caplog.text
    kept.broken = False
    until(lambda: len(kept.lines) == 3)
    assert kept.lines == other.lines


def test_a_fault_of_ours_does_not_end_the_log(kept: Kept, make: Logs, caplog: pytest.LogCaptureFixture) -> None:
    log = make()
    log(SecurityEvent(by_mnemonic("COMM_SUCCESS"), "", (("what", None),)))  # type: ignore[arg-type]
    log(named("COMM_SUCCESS"))
    log.close()
    assert len(kept.lines) == 1
    assert "no record can be made of an event" in caplog.text


def test_less_severe_events_are_left_out_on_demand(kept: Kept, make: Logs) -> None:
    log = make(level="error")
    for mnemonic in ("COMM_SUCCESS", "TLS_NO_CRL", "PROTOCOL_ERR_ASS_REQ", "INV_SIGNATURE_ASS_REQ"):
        log(named(mnemonic))
    log.close()
    assert [message.params["MNEMONIC"] for message in kept.messages] == [
        "PROTOCOL_ERR_ASS_REQ", "INV_SIGNATURE_ASS_REQ",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raised", "generic"),
    [
        (("IEC62351-4", 1, 3, "signature"), "COMM_PEER_AUTHENTICATION_FAIL"),
        (("IEC62351-4", 2, 11, "group"), "COMM_SA_ESTABLISHMENT_FAIL"),
        (("IEC62351-4", 5, 11, ""), "COMM_SA_ESTABLISHMENT_FAIL"),
        (("IEC62351-4", 11, 5, "icv"), "COMM_PACKET_AUTHENTICATION_FAIL"),
        (("IEC62351-4", 12, 3, "signature"), "COMM_FAIL"),
        (("IEC62351-3", 1, 2, ""), "COMM_SA_ESTABLISHMENT_FAIL"),
        (("IEC62351-3", 2, 4, ""), "COMM_PEER_AUTHENTICATION_FAIL"),
        (("IEC62351-3", 2, 5, ""), None),
        (("IEC62351-9", 2, 2, ""), None),
        (("IEC62351-14", 4, 4, ""), None),
    ],
)
def test_generic_events_on_demand(
    kept: Kept, make: Logs, raised: tuple[str, int, int, str], generic: str | None
) -> None:
    domain, group, number, check = raised
    log = make(with_generic=True)
    log(event(domain, group, number, peer="p", check=check))
    log.close()
    more = kept.messages[1:]
    assert [message.params["MNEMONIC"] for message in more] == ([generic] if generic else [])
    for message in more:
        assert message.params["RefEvtID"] == f"{domain}:{group}.{number}"
        assert message.params["PeerInfo"] == "p"


def test_threads_may_raise_events_at_once(kept: Kept, make: Logs, tmp_path: Path) -> None:
    log = make(counter=Counter(tmp_path / "counter"), limiter=Limiter(burst=1e9, total_burst=1e9))
    threads = [threading.Thread(target=flood, args=(log, 500, "INV_SIGNATURE_ASS_REQ")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert [int(message.params["SqNum"]) for message in kept.messages] == list(range(1, 4001))
