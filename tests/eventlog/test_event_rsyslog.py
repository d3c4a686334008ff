"""Our lines at a real collector: rsyslog over TLS, as a process of its own; what it parsed, over its restart."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from logfiles import WITHIN, until

from fastsec.aio.event_file import Counter
from fastsec.aio.event_log import EventLog
from fastsec.aio.event_spool import Spool
from fastsec.aio.event_syslog import SyslogOutput
from fastsec.aio.tls import TLSConfig
from fastsec.events import event, named

RSYSLOGD = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"

CONFIG = """\
global(workDirectory="{directory}" defaultNetstreamDriver="ossl"
       defaultNetstreamDriverCAFile="{pki}/root.pem"
       defaultNetstreamDriverCertFile="{pki}/collector.tls.pem"
       defaultNetstreamDriverKeyFile="{pki}/collector.tls.key")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imtcp" address="127.0.0.1" port="{port}" listenPortFileName="{directory}/port" name="tls")
template(name="parsed" type="list" option.jsonf="on") {{
    property(outname="pri" name="pri" format="jsonf")
    property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
    property(outname="hostname" name="hostname" format="jsonf")
    property(outname="app" name="app-name" format="jsonf")
    property(outname="msgid" name="msgid" format="jsonf")
    property(outname="data" name="structured-data" format="jsonf")
    property(outname="raw" name="rawmsg" format="jsonf")
}}
if $inputname == "tls" then action(type="omfile" file="{directory}/out" template="parsed")
"""


class Rsyslog:
    """The process."""

    def __init__(self, directory: Path, pki: Path) -> None:
        self._directory = directory
        self._pki = pki
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, at the port it had before."""
        config = self._directory / "rsyslog.conf"
        config.write_text(CONFIG.format(directory=self._directory, pki=self._pki, port=self.port))
        where = self._directory / "port"
        where.unlink(missing_ok=True)
        command = [RSYSLOGD, "-n", "-f", str(config), "-i", str(self._directory / "pid")]
        with (self._directory / "errors").open("ab") as errors:
            # Not with the checks of our own builds inside (make asan).
            clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
            self._process = subprocess.Popen(command, stdout=errors, stderr=errors, env=clean)
        if not self.port:  # it writes the file only if it chose the port itself
            until(lambda: where.exists() and where.read_text().strip())
            self.port = int(where.read_text())

    def stop(self, *, kill: bool = False) -> None:
        """End the process."""
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(WITHIN)
            self._process = None

    @property
    def received(self) -> list[dict[str, str]]:
        """What it wrote, line by line."""
        out = self._directory / "out"
        text = out.read_text(encoding="utf-8") if out.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    @property
    def numbers(self) -> set[int]:
        """SqNum of what came."""
        return {int(each["data"].partition('SqNum="')[2].partition('"')[0]) for each in self.received}


@pytest.fixture
def rsyslog(tmp_path: Path, log_pki: Path) -> Iterator[Rsyslog]:
    """rsyslog on loopback, started."""
    (tmp_path / "rsyslog").mkdir()
    made = Rsyslog(tmp_path / "rsyslog", log_pki)
    made.start()
    yield made
    made.stop(kill=True)


@pytest.mark.interop
@pytest.mark.event("IEC62351-14:9.5")
@pytest.mark.timeout(180)
def test_rsyslog_parses_our_lines_and_misses_none_over_its_restart(
    tmp_path: Path, rsyslog: Rsyslog, sender: TLSConfig
) -> None:
    log = EventLog(source="gw1.example", app_name="fastsec", counter=Counter(tmp_path / "counter"))
    reports: list[bool] = []

    def report(reached: bool, why: str) -> None:
        reports.append(reached)
        if not reached:
            log(named("COMM_LOG_SUBSCRIBER_FAIL", reason=why))

    to = SyslogOutput(
        "127.0.0.1", rsyslog.port, sender, Spool(directory=tmp_path / "spool"), report,
        confirm=0.5, backoff=(0.05, 0.2),
    )  # fmt: skip
    log.add(to)
    to.start()
    log.start()
    log(event("IEC62351-4", 1, 3, peer='evil" ]\n<13>1 forged', reason='ü \\ " ] \r\n[x@1 a="b"]'))
    until(lambda: len(rsyslog.received) == 1)
    (first,) = rsyslog.received
    assert (first["pri"], first["hostname"], first["app"], first["msgid"]) == (
        "105",
        "gw1.example",
        "fastsec",
        "IEC62351-14:1",
    )
    assert first["data"].startswith('[62351-14@41912 ID="IEC62351-4:1.3" MNEMONIC="INV_SIGNATURE_ASS_REQ" Text=')
    assert 'PeerInfo="evil\\"?\\]?<13>1?forged"' in first["data"]
    assert 'X.reason="ü \\\\ \\" \\] ??[x@1 a=\\"b\\"\\]"' in first["data"]
    assert first["raw"].count("\n") == 0
    assert abs(time.time() - _seconds(first["time"])) < 60
    rsyslog.stop()
    log(named("COMM_SUCCESS"))
    until(lambda: reports)
    for _ in range(5):
        log(named("COMM_SUCCESS"))
    rsyslog.start()
    until(lambda: rsyslog.numbers >= set(range(1, 9)), str(rsyslog.received))
    assert reports == [False, True]
    assert any("COMM_LOG_SUBSCRIBER_FAIL" in each["data"] for each in rsyslog.received)
    log.close()
    assert not list((tmp_path / "spool").iterdir())  # closed in good order: nothing is left to be sent again
    assert max(rsyslog.numbers) == 8


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
