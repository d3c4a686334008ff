"""Syslog over TLS to a collector with faults: nothing is lost, order is kept, what comes twice has the same number."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest
from collector import Collector
from logfiles import made, until

from fastsec.aio.event_spool import Spool
from fastsec.aio.event_syslog import SyslogOutput
from fastsec.aio.tls import TLSConfig
from fastsec.pki.trial import TrialAuthority


class Told:
    """What the output reported."""

    def __init__(self) -> None:
        self.reports: list[tuple[bool, str]] = []

    def __call__(self, reached: bool, why: str) -> None:
        self.reports.append((reached, why))


@pytest.fixture
def told() -> Told:
    return Told()


def output(port: int, tls: TLSConfig, told: Told, spool: Spool | None = None, **changes: object) -> SyslogOutput:
    values: dict[str, object] = {"confirm": 0.3, "backoff": (0.02, 0.1), "timeout": 5.0, **changes}
    result = SyslogOutput("127.0.0.1", port, tls, spool or Spool(), told, **values)  # type: ignore[arg-type]
    result.start()
    return result


def send(to: SyslogOutput, numbers: range, size: int = 0) -> None:
    for start in range(0, len(numbers), 50):
        to.write([made(number, size) for number in numbers[start : start + 50]])


def complete(numbers: list[int], last: int) -> bool:
    return set(numbers) >= set(range(1, last + 1))


def test_lines_arrive_whole_in_order_and_once(collector: Collector, sender: TLSConfig, told: Told) -> None:
    to = output(collector.port, sender, told)
    send(to, range(1, 501))
    until(lambda: len(collector.lines) == 500)
    assert collector.lines == [made(number)[1] for number in range(1, 501)]
    until(lambda: to._spool.next == to._spool.first, "confirmed")
    send(to, range(501, 503))
    to.close()
    assert collector.numbers == list(range(1, 503))
    assert told.reports == []
    until(lambda: collector.orderly == 1)
    assert to._spool.first == to._spool.next


def test_what_comes_while_the_collector_is_away_waits(
    collector_context: ssl.SSLContext, sender: TLSConfig, told: Told
) -> None:
    first = Collector(collector_context)
    to = output(first.port, sender, told)
    send(to, range(1, 11))
    until(lambda: len(first.lines) == 10)
    first.close()
    until(lambda: told.reports and not told.reports[-1][0])
    assert "refused" in told.reports[-1][1].lower()
    send(to, range(11, 301))
    second = Collector(collector_context, first.port)
    until(lambda: complete(first.numbers + second.numbers, 300))
    assert told.reports[1:] == [(True, "")]
    numbers = second.numbers
    assert numbers == list(range(numbers[0], 301))  # in order, from something unconfirmed on
    to.close()
    second.close()


@pytest.mark.parametrize("octets", [1, 300, 5000, 20000])
def test_a_collector_that_dies_in_a_frame(collector: Collector, sender: TLSConfig, told: Told, octets: int) -> None:
    collector.dies_after = octets
    to = output(collector.port, sender, told, confirm=5.0)
    send(to, range(1, 201))
    until(lambda: complete(collector.numbers, 200))
    assert collector.connections >= 2
    numbers = collector.numbers
    again = numbers.index(1, 1) if 1 in numbers[1:] else 0
    assert numbers[again:] == list(range(numbers[again], 201))
    to.close()


def test_a_collector_that_stalls_and_dies_gets_it_all_again(
    collector_context: ssl.SSLContext, sender: TLSConfig, told: Told
) -> None:
    first = Collector(collector_context)
    to = output(first.port, sender, told, confirm=30.0)
    send(to, range(1, 4))
    until(lambda: len(first.lines) == 3)
    first.stalled.set()
    send(to, range(4, 2001), 100)
    first.close(reset=True)
    second = Collector(collector_context, first.port)
    until(lambda: complete(second.numbers, 2000))
    assert second.numbers[:3] == [1, 2, 3]  # had been read, but who could know
    to.close()
    second.close()


def test_a_collector_that_reads_nothing_is_left_after_the_timeout(
    collector: Collector, sender: TLSConfig, told: Told
) -> None:
    collector.stalled.set()
    to = output(collector.port, sender, told, timeout=0.5)
    send(to, range(1, 20001), 100)
    until(lambda: collector.connections == 1)
    until(lambda: told.reports, "the next connection is not served")
    assert told.reports[0][0] is False
    collector.stalled.clear()
    until(lambda: complete(collector.numbers, 20000))
    to.close()


def test_what_was_not_sent_at_the_end_is_sent_after_the_next_start(
    tmp_path: Path, collector_context: ssl.SSLContext, sender: TLSConfig, told: Told
) -> None:
    gone = Collector(collector_context)
    gone.close()
    to = output(gone.port, sender, told, Spool(directory=tmp_path / "spool"))
    send(to, range(1, 101))
    to.close(0.2)
    collector = Collector(collector_context)
    to = output(collector.port, sender, told, Spool(directory=tmp_path / "spool"))
    send(to, range(101, 111))
    until(lambda: len(collector.lines) == 110)
    assert collector.numbers == list(range(1, 111))
    to.close()
    assert not list((tmp_path / "spool").iterdir())
    collector.close()


def test_a_spool_that_was_full_is_told(collector_context: ssl.SSLContext, sender: TLSConfig, told: Told) -> None:
    gone = Collector(collector_context)
    gone.close()
    to = output(gone.port, sender, told, Spool(limit=10_000))
    until(lambda: told.reports)
    send(to, range(1, 101))
    collector = Collector(collector_context, gone.port)
    until(lambda: len(told.reports) == 2)
    kept = to._spool.next
    assert told.reports[1] == (True, f"records lost because the spool was full: {100 - kept}")
    until(lambda: len(collector.lines) == kept)
    assert collector.numbers == list(range(1, kept + 1))
    to.close()
    collector.close()


def test_a_collector_without_the_right_certificate_gets_nothing(
    tmp_path: Path, log_pki: Path, sender: TLSConfig, told: Told
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(log_pki / "collector.tls.pem", log_pki / "collector.tls.key")
    elsewhere = Collector(context)
    other = TLSConfig(
        log_pki / "sender.tls.pem", log_pki / "sender.tls.key", [log_pki / "root.pem"], server_hostname="elsewhere"
    )
    to = output(elsewhere.port, other, told)
    send(to, range(1, 4))
    until(lambda: told.reports)
    assert "mismatch" in told.reports[0][1].lower()
    assert not elsewhere.lines
    to.renew(sender)  # and once that is mended it goes on by itself
    until(lambda: len(elsewhere.lines) == 3)
    to.close()
    elsewhere.close()


@pytest.mark.event("IEC62351-3:2.4")
def test_a_collector_whose_certificate_is_revoked_gets_nothing(tmp_path: Path, told: Told) -> None:
    made = TrialAuthority.create(tmp_path / "pki", time.time_ns() // 1_000_000)
    issued = {name: made.issue_tls(name, ["localhost"]) for name in ("collector", "sender")}
    made.revoke(issued["collector"].certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued["collector"].paths)
    elsewhere = Collector(context)
    raised: list[str] = []
    tls = TLSConfig(
        *issued["sender"].paths, [tmp_path / "pki" / "root.pem"], [tmp_path / "pki" / "root.crl.pem"],
        server_hostname="localhost", sink=lambda event: raised.append(event.mnemonic),
    )  # fmt: skip
    to = output(elsewhere.port, tls, told)
    send(to, range(1, 4))
    until(lambda: told.reports)
    assert "revoked" in told.reports[0][1]
    assert "TLS_CERT_REVOKED" in raised
    to.close(0.1)
    assert not elsewhere.lines
    elsewhere.close()


def test_new_certificates_are_used_at_once(collector: Collector, sender: TLSConfig, told: Told) -> None:
    to = output(collector.port, sender, told)
    send(to, range(1, 4))
    until(lambda: len(collector.lines) == 3)
    to.renew(sender)
    until(lambda: collector.connections == 2)
    send(to, range(4, 6))
    until(lambda: len(collector.lines) == 5)
    to.close()
    until(lambda: collector.orderly == 2)
    assert collector.numbers == [1, 2, 3, 4, 5]
