"""After the end of an association, and after a key update, the process's memory holds none of the keys concerned.

tests/test_secrets.py sees that every owner has been wiped; here the octets themselves are looked for, in all writable
memory of a process that has led associations of every mode to every kind of end and still holds the objects.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import native

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs /proc")
MODES = ("ae", "ae256", "cbc-hmac", "cbc-gmac", "hmac", "gmac")


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, int]]:
    here = Path(__file__).parent
    path = os.pathsep.join(filter(None, [*sys.path, str(here / "_core"), str(native.build("peephole"))]))
    run = subprocess.run(
        [sys.executable, str(here / "key_memory_engine.py")],
        check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}, timeout=100,
    )  # fmt: skip
    return json.loads(run.stdout)


def test_every_end_leaves_nothing(found: dict[str, dict[str, int]]) -> None:
    ended = {name: hits for name, hits in found.items() if "alive" not in name}
    assert len(ended) == 22
    assert {what for hits in ended.values() for what in hits} == {"private value", "z", "okm"}
    assert {name: hits for name, hits in ended.items() if any(hits.values())} == {}


@pytest.mark.parametrize("mode", MODES)
def test_a_key_update_leaves_nothing_of_the_old_keys(mode: str, found: dict[str, dict[str, int]]) -> None:
    old = found[f"{mode} alive"]
    assert (old["z"], old["okm"]) == (0, 0)
    # Of the first private values the server's is kept: later updates need it. This shows that the search finds it.
    assert old["private value"] > 0
    new = found[f"{mode} alive, after the update"]
    assert new["z"] == 0
    # Control: the keys in use are found; those of HMAC only as hash states, see tests/_core/test_wiping.py.
    assert (new["okm"] > 0) == (mode != "hmac")
