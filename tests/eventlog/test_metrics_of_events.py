"""What the metrics say of the event log: records, what a flood left out, what waits for a collector that is away."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable

from collector import Collector
from prometheus_client import CollectorRegistry

from fastsec.aio.event_log import EventLog
from fastsec.aio.event_spool import Spool
from fastsec.aio.event_syslog import SyslogOutput
from fastsec.aio.tls import TLSConfig
from fastsec.eventlog.limiter import Limiter
from fastsec.events import named
from fastsec.metrics import Collector as Metrics


def shown() -> dict[tuple[str, ...], float]:
    """The values of all metrics of event logs, by name and labels."""
    registry = CollectorRegistry()
    Metrics(registry)
    return {
        (sample.name.removeprefix("fastsec_event_"), *sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.startswith("fastsec_event_")
    }


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Held:
    """An output that waits when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.records = 0

    def write(self, records: list[object]) -> None:
        self.go.wait(30)
        self.records += len(records)
        records.clear()

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_records_and_what_a_flood_leaves_out() -> None:
    held, before = Held(), shown()
    log = EventLog(source="here", limiter=Limiter(1, 5, 1000, 1000), queue=100)
    log.add(held)
    for _ in range(300):
        log(named("COMM_SUCCESS", peer="x"))
    room = shown()[("waiting", "queue")] - before[("waiting", "queue")]
    assert 0 < room < 100
    assert shown()[("suppressed_total", "queue")] - before[("suppressed_total", "queue")] == 300 - room
    held.go.set()
    log.start()
    log.close()
    assert shown()[("waiting", "queue")] == before[("waiting", "queue")]
    assert shown()[("records_total",)] - before[("records_total",)] == held.records
    limited = shown()[("suppressed_total", "rate")] - before[("suppressed_total", "rate")]
    assert limited >= room - 6  # a burst of five, and one for a second that may have gone by
    assert held.records >= 5


def test_a_collector_that_is_away(collector_context: ssl.SSLContext, sender: TLSConfig) -> None:
    before = shown()
    first = Collector(collector_context)
    output = SyslogOutput(
        "127.0.0.1", first.port, sender, Spool(), lambda *_: None, confirm=0.3, backoff=(0.02, 0.1), timeout=5.0
    )
    log = EventLog(source="here")
    log.add(output)
    output.start()
    log.start()
    for _ in range(10):
        log(named("COMM_SUCCESS", peer="x"))
    until(lambda: len(first.lines) == 10)
    until(lambda: shown()[("waiting", "spool")] == before[("waiting", "spool")])
    first.close()
    until(lambda: shown()[("collectors_unreachable",)] == before[("collectors_unreachable",)] + 1)
    log(named("COMM_SUCCESS", peer="y"))
    until(lambda: shown()[("waiting", "spool")] == before[("waiting", "spool")] + 1)
    second = Collector(collector_context, first.port)
    until(lambda: len(second.lines) >= 1)
    until(lambda: shown()[("waiting", "spool")] == before[("waiting", "spool")])
    assert shown()[("collectors_unreachable",)] == before[("collectors_unreachable",)]
    log.close()
    second.close()
