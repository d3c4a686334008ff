"""``fastsec events list`` and ``verify``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastsec.aio.event_file import EventFile
from fastsec.cli import main
from fastsec.eventlog.record import line, record
from fastsec.events import CATALOGUE, event

KEY = bytes(range(48))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["events", *arguments])
    told = capsys.readouterr()
    return status, told.out + told.err


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "events.log"
    (tmp_path / "key").write_bytes(KEY)
    file = EventFile(path, size=2000, key=KEY)
    for number in range(1, 31):
        made = record(event("IEC62351-4", 1, 3), utc_ms=number, sqnum=number, source="h", app_name="a")
        file.write([(made, line(made))])
    file.close()
    (tmp_path / "events.log.number").write_text("not of the chain")
    (tmp_path / "events.log.spool").mkdir()
    return path


def given(log: Path) -> list[str]:
    return ["--key", str(log.parent / "key"), *sorted(map(str, log.parent.glob("events.log*")))]


def test_list_tells_of_every_event(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "list")
    assert status == 0
    for entry in CATALOGUE.values():
        assert f"{entry.id} {entry.mnemonic} ({entry.severity}, CDV2025): " in text
    status, text = run(capsys, "list", "--json")
    rows = {row["id"]: row for row in json.loads(text)}
    assert len(rows) == len(CATALOGUE)
    bad_icv = rows["IEC62351-4:11.5"]
    assert "faults.py (ENCR_TRANSFER: icv)" in bad_icv["where"]
    assert bad_icv["test"].startswith("tests/")
    assert rows["IEC62351-4:18.1"]["reason"] == "XMPP environment not implemented"
    assert "crossed" in rows["IEC62351-3:1.17"]["note"]


@pytest.mark.parametrize("domain", ["62351-4", "IEC62351-4", "iec62351-4"])
def test_list_of_one_domain(capsys: pytest.CaptureFixture[str], domain: str) -> None:
    _, raised = run(capsys, "list", "--domain", domain, "--raised")
    _, silent = run(capsys, "list", f"--domain={domain}", "--not-raised")
    assert raised.endswith("188 events, 188 of them raised\n")
    assert silent.endswith("6 events, 0 of them raised\n")
    assert "not raised: XMPP environment not implemented" in silent


def test_verify_what_is_whole(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    status, text = run(capsys, "verify", *given(log))
    assert (status, text) == (0, f"{30 + 5} lines in 5 files: whole and in order\n"), text
    status, text = run(capsys, "verify", "--json", *given(log))
    assert json.loads(text) == {
        "ok": True, "findings": [], "lines": 35, "before": 0, "keyed": True, "end_known": True,
    }  # fmt: skip
    status, text = run(capsys, "verify", "--key", str(log.parent / "key"), str(log))
    assert status == 0
    assert "were before these: rotated away, or not given" in text
    Path(f"{log}.head").unlink()
    assert "records missing at the end would not show" in run(capsys, "verify", *given(log))[1]


def test_verify_says_where_it_was_changed(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    older = Path(f"{log}.2")
    older.write_bytes(older.read_bytes().replace(b"IEC62351-4:1.3", b"IEC62351-4:1.5", 1))
    status, text = run(capsys, "verify", *given(log))
    assert status == 1
    assert f"{older}:2: " in text
    older.unlink()
    status, text = run(capsys, "verify", *given(log))
    assert status == 1
    assert f"{log}.1:1: does not go on where the file before ends: lines missing" in text


def test_verify_with_the_wrong_key(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    (log.parent / "key").write_bytes(b"x" * 48)
    status, text = run(capsys, "verify", *given(log))
    assert status == 1
    assert "another key" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage:"),
        (["lst"], "commands are list, verify"),
        (["list", "x"], "given with --domain"),
        (["list", "--domain", "62351-7"], "there are IEC62351-3, IEC62351-4"),
        (["list", "--domain"], "needs a value"),
        (["list", "--jsn"], "there is no option --jsn"),
        (["verify"], "name the event file"),
        (["verify", "nowhere.log"], "No such file"),
        (["verify", "x.head"], "the event file itself"),
    ],
)
def test_wrong_use_is_told(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    status, text = run(capsys, *arguments)
    assert status == 2
    assert words in text


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "--help")
    assert status == 0
    assert "usage: fastsec events list" in text
