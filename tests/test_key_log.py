"""Keys leave the process only where ``Config.key_log`` says so, and then as lines that fit both sides."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine_pair import CLIENT, SERVER, ConnectionPair, config
from fastsec import profile
from fastsec.aio.keylog import HEADER, KeyLogFile
from fastsec.config import Policy
from fastsec.errors import ConfigError
from test_secrets import ENDS, Noted, finish, noted, released

__all__ = ["noted"]  # a fixture

POLICIES = {
    "ae": (Policy(), 0, 16),
    "ae-256": (Policy(ae_algorithms=((profile.AES256_GCM, 12),)), 0, 32),
    "cbc-hmac": (Policy(ae="forbidden"), 32, 16),
    "cbc-gmac": (Policy(ae="forbidden", icv_algorithms=((profile.AES256_GCM, 16),)), 32, 16),
    "hmac": (Policy(encryption="forbidden"), 32, 0),
    "gmac": (Policy(encryption="forbidden", icv_algorithms=((profile.AES128_GCM, 12),)), 16, 0),
}


def values(line: str) -> dict[str, str]:
    """The words of a line by their names."""
    head, version, *words = line.split(" ")
    assert (head, version) == ("fastsec-key", "1")
    return dict(word.split("=", 1) for word in words)


def logging_pair(policy: Policy = Policy()) -> tuple[ConnectionPair, list[str], list[str]]:  # noqa: B008
    mine: list[str] = []
    theirs: list[str] = []
    pair = ConnectionPair(
        config(CLIENT, policy=policy, key_log=mine.append), config(SERVER, policy=policy, key_log=theirs.append)
    )
    return pair, mine, theirs


@pytest.mark.parametrize("name", POLICIES)
def test_both_sides_log_the_same_keys_through_updates(name: str) -> None:
    policy, ik, ek = POLICIES[name]
    pair, mine, theirs = logging_pair(policy)
    released(pair)
    finish(pair)
    assert mine == theirs
    lines = [values(line) for line in mine]
    assert [(line["from"], line["epoch"]) for line in lines] == [
        (side, str(epoch)) for epoch in range(3) for side in ("client", "server")
    ]
    assert {line["asso"] for line in lines} == {pair.client.association.asso_id}
    assert len({line["h2"] for line in lines}) == 1
    assert {line["mode"] for line in lines} == {name.removesuffix("-256")}
    for line in lines:
        assert (0 if line["ik"] == "-" else len(line["ik"]) // 2, 0 if line["ek"] == "-" else len(line["ek"]) // 2) == (
            ik,
            ek,
        )
    keys = [line[which] for line in lines for which in ("ik", "ek") if line[which] != "-"]
    assert len(set(keys)) == len(keys)


def refuse(*facts: Any) -> Any:
    raise AssertionError("a key was copied")


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_without_it_nothing_is_exported(
    end: Callable[[ConnectionPair], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even where the environment asks for it."""
    for name in ("FASTSEC_KEYLOG", "FASTSEC_KEY_LOG", "SSLKEYLOGFILE"):
        monkeypatch.setenv(name, str(tmp_path / "keys.log"))
    monkeypatch.setattr("fastsec.engine.key_lines", refuse)
    pair = ConnectionPair(config(CLIENT, policy=Policy(groups=(23, 28))), config(SERVER))
    end(pair)
    finish(pair)
    assert not list(tmp_path.iterdir())


def test_the_guard_against_exports_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsec.engine.key_lines", refuse)
    pair, _, _ = logging_pair()
    with pytest.raises(AssertionError, match="a key was copied"):
        pair.open()


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_with_it_nothing_else_is_left(end: Callable[[ConnectionPair], None], noted: Noted) -> None:
    """Logging copies; the secrets themselves are wiped as ever."""
    pair, _, _ = logging_pair()
    end(pair)
    finish(pair)
    assert not noted.left()


def test_a_configuration_does_not_show_it() -> None:
    assert "key_log" not in repr(config(CLIENT, key_log=print))


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_is_private_and_told_of_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.log"
    old = os.umask(0)
    try:
        with caplog.at_level(logging.CRITICAL, "fastsec"):
            log = KeyLogFile(path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert "INSECURE" in record.getMessage()
    assert str(path) in record.getMessage()
    log("one")
    log.close()
    again = KeyLogFile(path)
    again("two")
    again.close()
    assert path.read_text() == HEADER + "one\ntwo\n"


@pytest.mark.parametrize("how", ["readable", "link", "fifo", "directory", "nowhere"])
def test_a_file_that_others_may_read_is_refused(how: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    if how == "readable":
        path.write_text("")
        path.chmod(0o640)
    elif how == "link":
        (tmp_path / "target").write_text("")
        path.symlink_to(tmp_path / "target")
    elif how == "fifo":
        os.mkfifo(path, 0o600)
    elif how == "directory":
        path.mkdir()
    else:
        path = tmp_path / "none" / "keys.log"
    with pytest.raises(ConfigError, match="key log"):
        KeyLogFile(path)


def test_a_file_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = KeyLogFile(tmp_path / "keys.log")
    log.close()
    with caplog.at_level(logging.ERROR, "fastsec"):
        caplog.clear()
        log("lost")
        log("lost")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "lost" not in caplog.text
