"""docs/inspect.md against the code: options, formats, the key log, every filter."""

from __future__ import annotations

import json
import re
from pathlib import Path

import inspect_writer as writer
import pytest
from inspect_world import pdus, records, whole_life

from fastsec.cli import inspect as command
from fastsec.events import CATALOGUE
from fastsec.inspect import LUA, run, text
from fastsec.inspect.association import TRIALS_MAX
from fastsec.inspect.keylog import KeyLog

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "inspect.md").read_text(encoding="utf-8")
SCRIPT = LUA.read_text(encoding="utf-8")


def rows(heading: str) -> list[tuple[str, ...]]:
    """The rows of the first table after ``heading``."""
    after = TEXT.split(heading, 1)[1]
    table = re.search(r"\n\|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", after)
    assert table is not None
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table[1].splitlines()]


def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    told = set(re.findall(r"--[a-z]+", capsys.readouterr().out)) - {"--help"}
    documented = {name for row in rows("# Looking") for name in re.findall(r"--[a-z]+", row[0])}
    assert documented == told
    formats = next(row for row in rows("# Looking") if "--format" in row[0])[1]
    assert set(re.findall(r"`(\w+)`", formats)) == set(run.FORMATS) - {"auto"}


def test_limits() -> None:
    assert f"{run.HELD_MAX >> 20} MiB of waiting octets" in TEXT
    assert f"{run.CONNECTIONS_MAX:,} TCP connections" in TEXT
    assert f"{run.TEXT_MAX >> 20} MiB of text" in TEXT
    assert f"({TRIALS_MAX} trials per direction)" in TEXT


def test_the_key_log() -> None:
    (line,) = re.findall(r"^fastsec-key 1 .*$", TEXT, re.M)
    assert KeyLog([line])
    words = {name for row in rows("One line per association") for name in re.findall(r"`(\w+)`", row[0])}
    assert words == {word.split("=")[0] for word in line.split()[2:]}
    modes = next(row for row in rows("One line per association") if row[0] == "`mode`")[1]
    assert re.findall(r"`([\w-]+)`", modes) == ["hmac", "gmac", "cbc-hmac", "cbc-gmac", "ae"]


def test_json() -> None:
    (line,) = re.findall(r'^\{"type".*$', TEXT, re.M)
    shown = json.loads(line)
    made = whole_life()
    found = pdus(records(writer.pcap(writer.segments(made.frames)), made.key_log))
    real = next(record for record in found if "opened" in record.get("secpdu", {}))
    assert set(shown) == set(real)
    assert set(shown["secpdu"]) == set(real["secpdu"])
    # What is shown as text is how that is shown.
    assert f"#9  {shown['time']}" in "\n".join(text.lines(shown))


def test_the_example_event_is_in_the_catalogue() -> None:
    ((event, mnemonic),) = re.findall(r"! error (\S+) (\w+):", TEXT)
    assert event in {kind.id: kind.mnemonic for kind in CATALOGUE.values()}
    assert {kind.id: kind.mnemonic for kind in CATALOGUE.values()}[event] == mnemonic


def test_filters() -> None:
    """Each field and each expert item of the dissector is documented, and no other."""
    in_script = {f"fastsec.{name}" for name in re.findall(r'^field\("\w+", ProtoField\.\w+, "([\w.]+)"', SCRIPT, re.M)}
    in_script |= set(re.findall(r'ProtoExpert\.new\("([\w.]+)"', SCRIPT)) | {"fastsec_subject.oid"}
    documented: set[str] = set()
    for row in rows("EncrTransfer 23:679, seq 0\n```"):
        base = ""
        for name in re.findall(r"`([\w.]+)[^`]*`", row[1]):
            if not name.startswith("."):
                base = name.rpartition(".")[0] if row[0] in SUFFIXED else ""
            documented.add(base + name if name.startswith(".") else name)
    assert documented - {"fastsec"} == in_script
    preferences = set(re.findall(r"fastsec\.prefs\.(\w+) = ", SCRIPT))
    assert {f"`fastsec.{name}`" in TEXT for name in preferences} == {True}


SUFFIXED = ("handshakes", "transfers", "Authenticator", "rejects, aborts, release")
