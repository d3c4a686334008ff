"""A short run of every fuzz target (docs/fuzzing.md): committed inputs, inputs mutated from them, and a bit of atheris.

Each in a process of its own, because the targets replace the adapter's clock and the trial keys.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastsec._core.cursor import Reader
from fuzz.campaign import Account, slices, table
from fuzz.check import mutated
from fuzz.der_mutator import mutate, nodes
from fuzz.kit import Bits, edited, packed, tree
from fuzz.registry import CORPUS, QUICK, TARGETS, corpus
from fuzz.scaling import SHAPES, Shape, lines_of

TESTS = Path(__file__).resolve().parents[1]
MODULES = sorted({module for module, _ in TARGETS.values()})


def run(module: str, *arguments: str, **environment: str) -> str:
    """What ``python -m module`` prints; it has to succeed."""
    paths = os.pathsep.join((str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def names(module: str) -> list[str]:
    return [name for name, (where, _) in TARGETS.items() if where == module]


@pytest.mark.parametrize("module", MODULES)
def test_committed_inputs(module: str) -> None:
    lines = run("fuzz.check", "corpus", *names(module)).splitlines()
    assert lines == [f"{name} {len(corpus(name))}" for name in names(module)]


@pytest.mark.parametrize("module", MODULES)
def test_mutated_inputs(module: str) -> None:
    lines = run("fuzz.check", "mutate", *names(module)).splitlines()
    assert lines == [f"{name} {QUICK[module]}" for name in names(module)]


def test_every_target_has_a_small_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    for name in TARGETS:
        assert 1 <= len(corpus(name)) <= 150, name
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) <= 1 << 20


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: make fuzz installs it")
def test_under_atheris(tmp_path: Path) -> None:
    """Without clang: only the Python modules tell their branches."""
    (tmp_path / "corpus").mkdir()
    limits = ("-runs=3000", "-max_total_time=8", "-timeout=60", "-print_final_stats=1", f"-artifact_prefix={tmp_path}/")
    text = run("fuzz.run", "acse", str(tmp_path / "corpus"), str(CORPUS / "acse"), *limits, FASTSEC_FUZZ_TRACE="1")
    assert "number_of_executed_units" in text


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_scaling(shape: Shape) -> None:
    """Lines of Python; ``make fuzz`` measures the compiled code too."""
    small, large = (lines_of(shape.run, shape.make(factor * shape.size)) for factor in (1, 4))
    assert large <= 5 * small + 50


def test_what_is_quadratic_is_seen() -> None:
    def quadratic(octets: bytes) -> None:
        for _ in octets:
            for _ in octets:
                pass

    small, large = lines_of(quadratic, bytes(20)), lines_of(quadratic, bytes(80))
    assert large > 5 * small + 50


# --- the tools themselves -------------------------------------------------------------------------------------------


def test_a_finding_is_told(tmp_path: Path) -> None:
    """What a target raises ends the process, and the input is named."""
    (tmp_path / "bad").write_bytes(b"x")
    broken = "import fuzz.registry as r; from fuzz import check, kit; import sys\n"
    broken += "r.load = check.load = lambda name: kit.Target(lambda data: 1 // 0, 1, list)\n"
    broken += f"sys.argv = ['x', 'file', 'oid', {str(tmp_path / 'bad')!r}]; check.main()"
    done = subprocess.run(
        [sys.executable, "-c", broken], env={**os.environ, "PYTHONPATH": str(TESTS)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"FINDING in oid: {tmp_path / 'bad'}" in done.stdout
    assert "ZeroDivisionError" in done.stderr


def test_time_is_shared_by_weight() -> None:
    found = slices(1000, 2, list(TARGETS))
    assert sum(each.seconds for each in found) == pytest.approx(2000, rel=0.1)
    assert {each.target for each in found} == set(TARGETS)
    weights = {name: sum(each.seconds for each in found if each.target == name) for name in ("server_open", "oid")}
    wanted = TARGETS["server_open"][1] / TARGETS["oid"][1]
    assert weights["server_open"] / weights["oid"] == pytest.approx(wanted, rel=0.1)


def test_the_table_has_the_sum() -> None:
    lines = table({"one": Account(executions=1000, seconds=2.0), "two": Account(executions=5, findings=["x"])})
    assert lines[1].split()[:3] == ["one", "1,000", "500"]
    assert lines[-1].split() == ["sum", "1,005", "1"]


def test_bits() -> None:
    bits = Bits(packed(7, -1, b"abc", bytes(300)))
    assert (bits.octet(), bits.signed(), bits.chunk(), bits.chunk()) == (7, -1, b"abc", bytes(300))
    assert not bits.more()
    assert (bits.octet(), bits.word(), bits.chunk(), bits.rest()) == (0, 0, b"", b"")


def test_edited_changes_what_it_is_told() -> None:
    assert edited(Bits(b""), b"abcdef") == b"abcdef"
    assert edited(Bits(bytes((1, 0, 0, 2, 0xFF))), b"abcdef") == b"ab\x9cdef"
    assert edited(Bits(bytes((1, 5, 0, 1))), b"abcdef") == b"acdef"


def test_tree_writes_the_shortest_lengths() -> None:
    assert tree(bytes.fromhex("30810502820001ff")) == bytes.fromhex("30030201ff")
    for octets in ("30", "3005", "3080", "1f"):
        with pytest.raises(ValueError):
            tree(bytes.fromhex(octets))


def test_mutations_of_tlvs_keep_the_lengths_right() -> None:
    data = bytes.fromhex("300a0201053005040161a000")
    assert len(nodes(data)) == 5
    other = 0
    for seed in range(300):
        found = mutate(b"\x07" + data, 100, seed, 1)
        assert len(found) <= 100
        assert found[:1] == b"\x07"
        other += found[1:] != data
        outer = Reader(found[1:])
        while len(found) < 100 and outer.more():
            outer.next()
    assert other > 250


def test_mutations_are_the_same_each_time() -> None:
    one, two = (mutated(random.Random(5), b"abcdef", [b"xyz"], 50) for _ in range(2))
    assert one == two
    assert len(mutated(random.Random(5), bytes(50), [b"xyz"], 10)) <= 10
