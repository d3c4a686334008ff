"""Keys leave no trace in memory: a process looks through all of its own writable pages for keys it should not know.

What comes out of HKDF the process is told when it has done its work; private values and Z it remembers masked.
"""

from __future__ import annotations

import hmac
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from guardkit import KINDS, Kind

import native
from memory_mask import masked
from reference.sha256 import state_after

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs /proc")
ENDS = ("secret alive", "guards alive", "gone", "wiped", "old key", "new key")


def hkdf(salt: str) -> tuple[bytes, bytes]:
    """PRK and the OKM of 96 octets."""
    prk = hmac.digest(salt.encode(), b"a" * 32, "sha256")
    okm = block = b""
    for n in (1, 2, 3):
        block = hmac.digest(prk, block + bytes([n]), "sha256")
        okm += block
    return prk, okm


def patterns(end: str, kind: Kind) -> dict[str, bytes]:
    """What must not be found of one pair of guards: PRK, the keys, and what an HMAC key is turned into."""
    prk, okm = hkdf(f"{end} {kind}")
    found = {"prk": prk[:16]}
    if kind.ik:
        ik = okm[kind.ik[0] : sum(kind.ik)]
        found["ik"] = ik[:16]
        if kind.suite.icv and kind.suite.icv[1] == 32:
            for name, pad in (("inner", 0x36), ("outer", 0x5C)):
                found[name] = state_after(bytes(x ^ pad for x in ik.ljust(64, b"\0")))[:16]
    if kind.ek:
        found["ek"] = okm[kind.ek[0] : kind.ek[0] + 16]
    return found


def pem(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Name to how often it was found."""
    return searched(tmp_path_factory.mktemp("keys"))


def searched(folder: Path) -> dict[str, int]:
    """Name to how often it was found, in a process of its own with new keys."""
    paths = []
    for end in ("alive", "gone"):
        paths += [
            pem(folder / f"p256-{end}", ec.generate_private_key(ec.SECP256R1())),
            pem(folder / f"bp256-{end}", ec.generate_private_key(ec.BrainpoolP256R1())),
            pem(folder / f"rsa-{end}", rsa.generate_private_key(65537, 2048)),
        ]
    wanted = [
        f"{end}, {kind}, {name} {masked(pattern).hex()}\n"
        for end in ENDS
        for kind in KINDS
        for name, pattern in patterns(end, kind).items()
    ]
    path = os.pathsep.join(filter(None, [*sys.path, str(native.build("peephole"))]))
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("wiping_core.py")), *paths],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "worked\n"
    out, _ = child.communicate("".join(wanted), timeout=100)
    assert child.returncode == 0
    return json.loads(out)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_method_finds_keys_that_are_there(kind: Kind, found: dict[str, int]) -> None:
    for name in ("ik", "ek"):
        if f"secret alive, {kind}, {name}" in found:
            assert found[f"secret alive, {kind}, {name}"] > 0
    for end in ("guards alive", "new key"):
        # An HMAC key itself is nowhere in a guard, but the two states that it begins with are.
        for name in patterns(end, kind).keys() - {"prk"} - ({"ik"} if kind.mac == 32 else set()):
            assert found[f"{end}, {kind}, {name}"] > 0, name


@pytest.mark.parametrize("end", ["gone", "wiped", "old key"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_nothing_is_left_of_guards(kind: Kind, end: str, found: dict[str, int]) -> None:
    for name in patterns(end, kind):
        assert found[f"{end}, {kind}, {name}"] == 0, name


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_pseudorandom_key_is_wiped_at_once(kind: Kind, found: dict[str, int]) -> None:
    assert [found[f"{end}, {kind}, prk"] for end in ENDS] == [0] * len(ENDS)


@pytest.mark.parametrize("group", [14, 23, 28])
@pytest.mark.parametrize("what", ["private value", "z"])
def test_key_agreement(group: int, what: str, found: dict[str, int]) -> None:
    assert found[f"{what} alive {group}"] > 0
    assert found[f"{what} gone {group}"] == 0
    assert found[f"{what} wiped {group}"] == 0


@pytest.mark.parametrize("number", ["secp256r1 priv", "brainpoolP256r1 priv", "rsa d", "rsa rsa-factor1"])
def test_private_keys(number: str, found: dict[str, int], tmp_path: Path) -> None:
    assert found[f"{number} alive"] > 0
    # libcrypto reads key files, and hands a number to this test, through memory that it frees unwiped; what is there
    # next covers it nearly always (it was seen once that it did not). What the key itself leaves is there every time.
    again = (searched(tmp_path)[f"{number} gone"] for _ in range(2))
    assert found[f"{number} gone"] == 0 or 0 in again
