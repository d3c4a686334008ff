"""Keys leave no trace in memory: a process looks through all of its own writable pages for a key it should not know.

The key comes out of HKDF in C memory; the process computes what to look for only after it has taken the picture.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

readable = pytest.mark.skipif(
    not os.path.exists("/proc/self/mem") or "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="needs /proc, and an address space without AddressSanitizer's terabytes of shadow",
)

SCRIPT = """
import hashlib, hmac, sys
from guardkit import BY_NAME, START, T0, appl
from fastsec._core.crypto import Secret, hkdf_sha256
from fastsec._core.guard import OpenGuard, SealGuard

def picture():
    parts = []
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            place, rights, *rest = line.split()
            path = rest[3] if len(rest) > 3 else ""
            if rights.startswith("rw") and path in ("", "[heap]", "[stack]"):
                start, end = (int(x, 16) for x in place.split("-"))
                memory.seek(start)
                parts.append(memory.read(end - start))
    return parts

keys = hkdf_sha256(Secret.from_bytes(b"a" * 32), b"salt", b"", 96)
kind = BY_NAME[sys.argv[1]]
seal = SealGuard(kind.params, keys, kind.ik, kind.ek, start_time=START)
opener = OpenGuard(kind.params, keys, kind.ik, kind.ek, start_time=START)
assert opener.open(seal.seal(appl(300), T0), T0).appl_data == appl(300)
if sys.argv[2] != "secret alive":
    keys.wipe() if sys.argv[2].endswith("wiped") else None
    del keys
if sys.argv[2].startswith("guards wiped"):
    seal.wipe()
    opener.wipe()
elif sys.argv[2] == "guards gone" or sys.argv[2] == "secret alive":
    del seal, opener
parts = picture()
prk = hmac.digest(b"salt", b"a" * 32, "sha256")
okm = block = b""
for n in (1, 2, 3):
    block = hmac.digest(prk, block + bytes([n]), "sha256")
    okm += block
pieces = [okm[i : i + 16] for i in (kind.ik or kind.ek)[:1] + ((kind.ek[0],) if kind.ek else ())]
if sys.argv[2] == "secret alive":
    pieces = [okm[:16]]
print(sum(part.count(piece) for part in parts for piece in pieces))
"""


def traces(name: str, case: str) -> int:
    path = os.pathsep.join(filter(None, sys.path))
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, case],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    return int(run.stdout)


@readable
def test_the_method_finds_a_key_that_is_there() -> None:
    assert traces("gcm256-16", "secret alive") > 0
    assert traces("gcm256-16", "guards alive") > 0
    assert traces("cbc256-gmac128-13", "guards alive") > 0


@readable
@pytest.mark.parametrize("case", ["guards gone", "guards wiped", "guards wiped, secret wiped"])
@pytest.mark.parametrize("name", ["hmac", "gmac128-16", "cbc256-gmac128-13", "gcm128-16", "gcm256-16"])
def test_nothing_is_left(name: str, case: str) -> None:
    assert traces(name, case) == 0
