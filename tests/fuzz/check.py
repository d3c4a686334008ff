"""Targets without atheris: every committed input, and inputs mutated from them by a fixed seed.

    python -m fuzz.check corpus|mutate [TARGET...]      prints a line per target
    python -m fuzz.check file TARGET FILE...            tries these inputs, as they are

A process of its own, because the targets replace the adapter's clock and the trial keys.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Final

from fuzz import fixed
from fuzz.registry import QUICK, TARGETS, corpus, load

SEED: Final = 20261121
_SPECIAL: Final = (0, 1, 2, 3, 4, 5, 6, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xA0, 0xFE, 0xFF, 0x30)


def mutated(rng: random.Random, octets: bytes, others: list[bytes], most: int) -> bytes:
    """One to four changes: octets set, flipped, inserted, left out, doubled, or a piece of another input."""
    data = bytearray(octets)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(data))
        match rng.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.choice(_SPECIAL)
            case 2:
                data[at:at] = bytes((rng.choice(_SPECIAL),)) * rng.choice((1, 1, 2, 8))
            case 3:
                del data[at : at + rng.choice((1, 1, 2, 5, 20))]
            case 4:
                data[at:at] = data[at : at + rng.randint(1, 40)]
            case 5:
                other = rng.choice(others)
                cut = rng.randint(0, len(other))
                data[at:] = other[cut:]
            case _:
                data[at : at + 1] = rng.randbytes(rng.choice((1, 2, 4)))
    return bytes(data[:most])


def try_corpus(name: str) -> int:
    """Every committed input of a target, and its seeds; returns how many of the first."""
    target = load(name)
    for octets in target.seeds():
        _try(name, target.run, octets, f"seed {octets.hex()}")
    paths = corpus(name)
    for path in paths:
        _try(name, target.run, path.read_bytes(), str(path))
    return len(paths)


def try_mutated(name: str) -> int:
    """Some mutated inputs of a target, the same at each call; returns how many."""
    target = load(name)
    rng = random.Random(f"{SEED}{name}")
    begin = [octets[: target.max_len] for octets in target.seeds()] + [path.read_bytes() for path in corpus(name)]
    for number in range(QUICK[TARGETS[name][0]]):
        octets = mutated(rng, rng.choice(begin), begin, target.max_len)
        _try(name, target.run, octets, f"mutated input {number}: {octets.hex()}")
    return QUICK[TARGETS[name][0]]


def _try(name: str, run: object, octets: bytes, what: str) -> None:
    try:
        run(octets)  # type: ignore[operator]
    except BaseException:
        print(f"FINDING in {name}: {what}", flush=True)
        raise


def main() -> None:
    """See above."""
    fixed.install()
    what, *names = sys.argv[1:] or ("corpus",)
    if what == "file":
        target = load(names[0])
        for path in names[1:]:
            _try(names[0], target.run, Path(path).read_bytes(), path)
        return
    for name in names or TARGETS:
        count = try_corpus(name) if what == "corpus" else try_mutated(name)
        print(f"{name} {count}", flush=True)


if __name__ == "__main__":
    main()
