"""``fastsec gateway --insecure-key-log FILE``: told as loudly as the log can, kept over a reload, off without it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from gateway_pair import HEAD, free_port

from fastsec.demo.gateways import Gateway
from fastsec.gateway import service, settings

ROUTE = '[[route]]\nrole = "client"\nlisten = "127.0.0.1:{near}"\nconnect = "127.0.0.1:1"\npeer = "1.1.1.999.2:12"\n'
LOG = '[log]\nformat = "json"\nlevel = "{level}"\n'


def start_and_stop(pki: Path, level: str, key_log: Path | None) -> list[dict[str, str]]:
    """The log of a gateway that started and ended."""
    path = pki / f"keylog-{level}.toml"
    path.write_text(HEAD.format(name="cc") + LOG.format(level=level) + ROUTE.format(near=free_port()))

    async def run() -> list[str]:
        gateway = await Gateway.start("cc", path, key_log=key_log)
        await gateway.process.stop()
        return list(gateway.process.lines)

    return [json.loads(line) for line in asyncio.run(run()) if line.startswith("{")]


def test_it_is_an_alarm_in_the_log(pki: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    alarms = [record for record in start_and_stop(pki, "info", path) if record["level"] == "alarm"]
    assert [str(path) in record["msg"] and "INSECURE" in record["msg"] for record in alarms] == [True]
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_it_nothing_is_written(pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FASTSEC_KEYLOG", "FASTSEC_INSECURE_KEY_LOG", "SSLKEYLOGFILE"):
        monkeypatch.setenv(name, str(tmp_path / "keys.log"))
    assert not [record for record in start_and_stop(pki, "info", None) if "INSECURE" in record["msg"]]
    assert not list(tmp_path.iterdir())


def test_a_file_that_others_may_read_ends_the_start(pki: Path, tmp_path: Path) -> None:
    path, toml = tmp_path / "keys.log", pki / "keylog-refused.toml"
    path.touch()
    path.chmod(0o644)
    toml.write_text(HEAD.format(name="cc") + ROUTE.format(near=free_port()))
    command = [sys.executable, "-m", "fastsec", "gateway", str(toml), "--insecure-key-log", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "chmod 600" in done.stderr
    assert not path.read_text()


def test_a_reload_keeps_it(pki: Path) -> None:
    parsed = settings.parse(HEAD.format(name="cc") + ROUTE.format(near=free_port()), pki / "cc.toml")
    lines: list[str] = []
    for given in (lines.append, None):
        gateway, _ = service.prepare(parsed, given)
        assert [config.key_log for config in gateway._loaded.configs] == [given]
        assert gateway.reload()
        assert [config.key_log for config in gateway._loaded.configs] == [given]
