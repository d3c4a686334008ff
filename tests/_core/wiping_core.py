"""The searched process of test_wiping.py for the compiled core: works, then is told what to look for.

Reads lines ``name pattern`` (masked, hexadecimal) when all work is done; prints name to count as JSON.
"""

from __future__ import annotations

import gc
import json
import sys

import peephole
from guardkit import KINDS, START, T0, appl

from fastsec._core.crypto import Secret, hkdf_sha256
from fastsec._core.guard import OpenGuard, SealGuard
from fastsec._core.pk import Ephemeral, PrivateKey
from memory_search import traces

alive: list[object] = []
own: list[tuple[str, bytes]] = []


def note(name: str, masked: bytes) -> None:
    """Remember what only this process knows, in both octet orders."""
    own.append((name, masked))
    own.append((name, masked[::-1]))


def guards(end: str) -> None:
    for kind in KINDS:
        keys = hkdf_sha256(Secret.from_bytes(b"a" * 32), f"{end} {kind}".encode(), b"", 96)
        seal = SealGuard(kind.params, keys, kind.ik, kind.ek, start_time=START)
        opener = OpenGuard(kind.params, keys, kind.ik, kind.ek, start_time=START)
        assert opener.open(seal.seal(appl(300), T0), T0).appl_data == appl(300)
        if end == "secret alive":
            alive.append(keys)
        elif end == "wiped":
            keys.wipe()
            seal.wipe()
            opener.wipe()
            alive.extend((keys, seal, opener))
        elif end == "old key":
            # As at a key update: the next guards go on from the old ones, which are wiped.
            following = hkdf_sha256(Secret.from_bytes(b"a" * 32), f"new key {kind}".encode(), b"", 96)
            alive.append(SealGuard(kind.params, following, kind.ik, kind.ek, previous=seal))
            alive.append(OpenGuard(kind.params, following, kind.ik, kind.ek, previous=opener))
            seal.wipe()
            opener.wipe()
            alive.extend((seal, opener))
        elif end == "guards alive":
            alive.extend((seal, opener))


def agreement(end: str) -> None:
    for group in (14, 23, 28):
        key, peer = Ephemeral.generate(group), Ephemeral.generate(group)
        note(f"private value {end} {group}", peephole.of_ephemeral(key))
        note(f"private value {end} {group}", peephole.of_ephemeral(peer))
        for _ in range(2):
            z = key.derive(peer.public)
            note(f"z {end} {group}", peephole.of_secret(z)[:32])
            if end == "alive":
                alive.append(z)
            elif end == "wiped":
                z.wipe()
        if end == "alive":
            alive.extend((key, peer))
        elif end == "wiped":
            key.wipe()
            peer.wipe()
            alive.extend((key, peer))


def private_keys(end: str, paths: list[str]) -> None:
    for path in paths:
        with open(path, "rb") as file:
            key = PrivateKey.from_pem(file.read())
        algorithm = "1.2.840.113549.1.1.11" if key.kind == "rsa" else "1.2.840.10045.4.3.2"
        key.public_key.verify(algorithm, b"text", key.sign(algorithm, b"text"))
        for number in (b"d", b"rsa-factor1") if key.kind == "rsa" else (b"priv",):
            note(f"{key.kind} {number.decode()} {end}", peephole.of_private_key(key, number))
        if end == "alive":
            alive.append(key)


def main() -> None:
    for end in ("secret alive", "guards alive", "gone", "wiped", "old key"):
        guards(end)
    for end in ("alive", "gone", "wiped"):
        agreement(end)
    paths = sys.argv[1:]
    private_keys("alive", paths[: len(paths) // 2])
    private_keys("gone", paths[len(paths) // 2 :])
    gc.collect()
    print("worked", flush=True)
    wanted = own + [
        (name, bytes.fromhex(text)) for name, _, text in (line.rstrip().rpartition(" ") for line in sys.stdin)
    ]
    found = {name: 0 for name, _ in wanted}
    for index, hits in traces([masked for _, masked in wanted]).items():
        found[wanted[index][0]] += hits
    print(json.dumps(found))


main()
