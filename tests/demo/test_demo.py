"""The whole demo: what it says when all goes well, and that it fails when something does not."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastsec.demo as demo
from fastsec.demo import pki, story
from fastsec.demo.gateways import Event, Gateway
from fastsec.demo.intermediary import Intermediary, Trick
from fastsec.demo.output import PlainNarrator

KEYS = [
    "demo",
    "environment",
    "reads",
    "writes",
    "rekeys",
    "plaintext_seen_by_intermediary",
    "tamper_detected",
    "replay_detected",
    "reorder_detected",
]


def last_line(text: str) -> dict[str, object]:
    found = json.loads(text.rstrip("\n").rsplit("\n", 1)[-1])
    assert isinstance(found, dict)
    return found


def test_the_command_line(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-m", "fastsec", "demo", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    result = last_line(done.stdout)
    assert list(result) == KEYS
    assert result["demo"] == "ok"
    assert result["environment"] == "osi"
    assert min(int(str(result[key])) for key in ("reads", "writes", "rekeys")) >= 2
    assert result["plaintext_seen_by_intermediary"] is False
    assert result["tamper_detected"] == "IEC62351-4:11.5"
    assert result["replay_detected"] == "IEC62351-4:11.7"
    assert result["reorder_detected"] in ("IEC62351-4:11.6", "IEC62351-4:11.8")
    assert "the intermediary" in done.stderr
    assert not list(tmp_path.iterdir())


def failed_at(step: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the demo in this process; it must fail at ``step``. Returns what it told."""
    assert demo.main(["--json"]) == 1
    out = capsys.readouterr()
    assert last_line(out.out) == {"demo": "failed", "step": step}
    return out.err


def test_without_its_extra_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_installed", lambda module: module != "hat.drivers")
    assert "pip install 'fastsec[demo]'" in failed_at("install", capsys)


def test_a_gateway_that_does_not_start_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pki, "_SERVER_ROUTE", "[[route]]\nrole = 'nothing'\n")
    assert "gateway der ended with code 2" in failed_at("gateways", capsys)


def test_plaintext_in_the_middle_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Integrity without encryption: everything works, but the middle reads it."""
    common = pki._COMMON.replace('encryption = "required"\nae = "required"', 'encryption = "forbidden"')
    assert common != pki._COMMON
    monkeypatch.setattr(pki, "_COMMON", common)
    assert "in the clear" in failed_at("eavesdropping", capsys)


def test_a_blind_check_for_plaintext_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Intermediary, "find", lambda self, *needles: [])
    assert "blind" in failed_at("without-security", capsys)


def test_keys_that_do_not_change_fail_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(story, "REKEY_MESSAGES", 100_000)
    assert "no key update" in failed_at("key-updates", capsys)


def test_a_trick_that_is_not_played_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Intermediary, "order", lambda self, link, trick, way: None)
    assert "found nothing to tamper with" in failed_at("flip", capsys)


@pytest.mark.parametrize(("trick", "step"), [(trick, trick.name.lower()) for trick in Trick])
def test_the_wrong_event_fails_the_demo(
    trick: Trick, step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Gateway.event

    async def event(self: Gateway, mark: int, seconds: float = 10.0) -> Event:
        found = await real(self, mark, seconds)
        return Event("IEC62351-4:11.1", "WRONG", "") if found.id in story._EXPECTED[trick] else found

    monkeypatch.setattr(Gateway, "event", event)
    assert "detected as IEC62351-4:11.1, expected" in failed_at(step, capsys)


def test_a_story_tells_its_steps_in_order(tmp_path: Path) -> None:
    stream = io.StringIO()
    told = story.Story(PlainNarrator(stream), tmp_path)
    told._begin("one", "First")
    told._begin("two", "Second")
    assert told.step == "two"
    assert stream.getvalue() == "\n1. First\n\n2. Second\n"
