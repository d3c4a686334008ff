"""``fastsec inspect`` as a command: files, standard input, exit status, keys; and where keys come from."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envs.osi.support import CAPTURES
from fastsec import cli
from fastsec.inspect import LUA

CAPTURE = CAPTURES / "mms_plain.pcapng"
KEY = f"fastsec-key 1 h2={'ab' * 32} asso=1:2 from=client epoch=0 mode=ae icv=16 ik=- ek={'cd' * 16}\n"


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "fastsec", "inspect", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)


def test_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(CAPTURE)]) == 0
    shown = capsys.readouterr().out
    assert "MMS in clear, without end-to-end security: confirmed-Request" in shown
    assert "session CONNECT" in shown
    assert cli.main(["inspect", "--json", str(CAPTURE)]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[-1]["type"] == "end"
    assert {"connection", "frame", "time", "from", "to", "layers"} <= set(found[0])
    assert "hex" not in found[4]["mms"]
    assert cli.main(["inspect", "--json", "--full", str(CAPTURE)]) == 0
    assert "hex" in json.loads(capsys.readouterr().out.splitlines()[4])["mms"]


def test_standard_input() -> None:
    octets = CAPTURE.read_bytes()
    done = run("-", "--json", stdin=octets)
    assert done.returncode == 0, done.stderr
    assert done.stdout == run(CAPTURE, "--json").stdout


def test_a_capture_that_is_going_on() -> None:
    """What has come is shown before more comes."""
    octets = CAPTURE.read_bytes()
    command = [sys.executable, "-m", "fastsec", "inspect", "-", "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(octets[: len(octets) // 2])
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["pdu"] == 1
        process.stdin.write(octets[len(octets) // 2 :])
        process.stdin.close()
        assert json.loads(process.stdout.read().splitlines()[-1])["damaged"] is False
        assert process.wait(30) == 0


def test_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut\x1b[2J.pcap"
    path.write_bytes(CAPTURE.read_bytes()[:-9])
    assert cli.main(["inspect", str(path)]) == 1
    shown = capsys.readouterr()
    assert "DAMAGED" in shown.out
    assert "the file ends within" in shown.out
    assert "\x1b" not in shown.out + shown.err
    assert "is damaged" in shown.err
    assert cli.main(["inspect", "--json", str(path)]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["damaged"] is True


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert cli.main(["inspect", str(tmp_path)]) == 1
    assert cli.main(["inspect", str(CAPTURE), "--keys", str(tmp_path / "none")]) == 1


def test_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.log"
    path.write_text("# comment\n" + KEY)
    assert cli.main(["inspect", str(CAPTURE), "--keys", str(path)]) == 0
    path.write_text(KEY + "\x1b[31mred\n")
    capsys.readouterr()
    assert cli.main(["inspect", str(CAPTURE), "--keys", str(path)]) == 1
    told = capsys.readouterr()
    assert "key log, line 2" in told.err
    assert "\x1b" not in told.err
    assert not told.out


@pytest.mark.parametrize("arguments", [[], ["--format", "exe", "x"], ["a", "b"]])
def test_wrong_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["inspect", *arguments])
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_lua(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "--lua"]) == 0
    assert capsys.readouterr().out == f"{LUA}\n"
    assert LUA.is_file()


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """As with ``| head``."""
    command = f"{sys.executable} -m fastsec inspect {CAPTURES / 'mms_rs_rejects.pcapng'} --full | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=60)
    assert b"Traceback" not in done.stderr
    assert done.stdout.startswith(b"#1 ")


def test_a_terminal_that_knows_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr("fastsec.inspect.text.lines", lambda record: iter(["Münster"]))
    assert cli.main(["inspect", str(CAPTURE)]) == 0
    out.flush()
    assert b"M\\xfcnster" in out.buffer.getvalue()  # type: ignore[attr-defined]


# --- where keys come from ---------------------------------------------------------------------------------------------


def test_a_gateway_exports_keys_only_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option opens the file and warns as loudly as the log can; without it the environment changes nothing."""
    from fastsec.cli import gateway
    from fastsec.gateway import service

    given: list[Any] = []
    monkeypatch.setattr(service, "serve", lambda settings, **more: given.append(more) or 0)
    monkeypatch.setattr("fastsec.gateway.settings.load", lambda path, environ: None)
    monkeypatch.setenv("FASTSEC_KEYLOG", str(tmp_path / "env.log"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "env.log"))
    assert gateway.main(["x.toml"]) == 0
    assert gateway.main(["x.toml", "--insecure-key-log", "k.log"]) == 0
    assert given == [{"insecure_key_log": None}, {"insecure_key_log": Path("k.log")}]
    assert not (tmp_path / "env.log").exists()
