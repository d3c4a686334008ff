"""benchmarks/icount.py: what it reads out of callgrind's files, which base it takes, and when it fails."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "icount.py"

DUMP = """\
version: 1
desc: Trigger: Client Request: seal.ae.64 2
positions: line
events: Ir
ob=(1) /usr/lib/libfast.so
fl=(1) a.c
fn=(1) seal
10 100
+2 20
cob=(2) /usr/lib/libcrypto.so.3
cfn=(2) EVP_EncryptUpdate
calls=1 5
* 700

ob=(2)
fn=(2)
5 700

ob=(1)
fn=(3) other
7 3
cob=(3) /lib/libc.so.6
cfn=(4) memcpy
calls=2 1
* 40

ob=(3)
fn=(4)
1 40
totals: 863
"""


@pytest.fixture
def icount(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("icount", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "icount", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.delenv("ICOUNT_BASE", raising=False)
    return module


def test_costs_are_split_by_object_and_calls_are_not_counted_twice(icount: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "cg.1").write_text(DUMP)
    assert icount.self_costs(tmp_path / "cg.1") == ("seal.ae.64 2", [123, 40, 700])


BASE = (1000.0, 200.0, 500.0)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ((1030.0, 200.0, 515.0), 0),
        ((1030.9, 200.0, 500.0), 1),
        ((1000.0, 200.0, 520.0), 1),
        ((1000.0, 250.0, 500.0), 0),
        ((1000.0, 260.0, 500.0), 1),
        ((900.0, 100.0, 400.0), 0),
    ],
)
def test_more_than_the_limit_fails(icount: ModuleType, head: tuple[float, float, float], status: int) -> None:
    rows = icount.compare({"seal": BASE}, {"seal": head})
    assert icount.verdict(rows, []) == status
    assert icount.verdict(rows, ["one more check per PDU"]) == 0


def test_it_says_which_case_grew(icount: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    rows = icount.compare({"a": BASE, "b": BASE}, {"a": BASE, "b": (1100.0, 200.0, 600.0)})
    assert icount.verdict(rows, []) == 1
    assert "25 %): b (ours, libcrypto)\n" in capsys.readouterr().out


def test_random_public_key_work_is_not_held_to_the_limit(icount: ModuleType) -> None:
    assert icount.verdict(icount.compare({"handshake": BASE}, {"handshake": (1000.0, 200.0, 600.0)}), []) == 0
    assert icount.verdict(icount.compare({"handshake": BASE}, {"handshake": (1040.0, 200.0, 500.0)}), []) == 1


def test_a_case_that_only_one_side_has_is_shown_and_not_judged(icount: ModuleType) -> None:
    rows = icount.compare({"old": BASE}, {"new": BASE})
    assert [(row.case, row.change_percent) for row in rows] == [("new", None), ("old", None)]
    assert icount.verdict(rows, []) == 0
    assert "new" in icount.table(rows)


class Clone:
    """A checkout with two commits, the folder of icount-base among its files."""

    def __init__(self, folder: Path, icount: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        for name in [name for name in os.environ if name.startswith("GIT_")]:
            monkeypatch.delenv(name)  # else a hook's repository would be meant
        self.git("init", "-q", "-b", "main")
        self.base = self.change("a = 1\n", "Begin")
        self.head = self.change("a = 2\n", "Go on\n\nIcount: one more check per PDU")
        (folder / "icount-base").write_text(self.base + "\n")
        monkeypatch.setattr(icount, "ROOT", folder)
        monkeypatch.setattr(icount, "HERE", folder)

    def change(self, text: str, message: str) -> str:
        (self.folder / "src").mkdir(exist_ok=True)
        (self.folder / "src" / "a.py").write_text(text)
        (self.folder / "setup.py").write_text("")
        self.git("add", "src", "setup.py")
        self.git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, icount: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Clone:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    return Clone(tmp_path, icount, monkeypatch)


def test_the_base_is_the_one_wanted_then_the_merge_base_then_the_one_on_file(
    icount: ModuleType, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert icount.choose_base(clone.head) == clone.base  # on file
    clone.git("update-ref", "refs/remotes/origin/main", clone.head)
    assert icount.choose_base(clone.head) == clone.base  # HEAD is the merge base: that says nothing
    third = clone.change("a = 3\n", "Go on")
    assert icount.choose_base(third) == clone.head
    monkeypatch.setenv("ICOUNT_BASE", clone.base[:10])
    assert icount.choose_base(third) == clone.base


@pytest.mark.parametrize("wanted", ["", "f" * 40])
def test_without_its_base_it_says_so_and_compares_nothing(
    icount: ModuleType, clone: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wanted: str
) -> None:
    (clone.folder / "icount-base").write_text("e" * 40)
    monkeypatch.setenv("ICOUNT_BASE", wanted)
    assert icount.main([]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("icount: nothing compared: ")


def test_reasons_come_from_the_trailers_in_between(icount: ModuleType, clone: Clone) -> None:
    assert icount.reasons_between(clone.base, clone.head) == ["one more check per PDU"]
    assert icount.reasons_between(clone.head, clone.head) == []
