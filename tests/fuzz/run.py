"""One target under atheris: ``python -m fuzz.run TARGET [libFuzzer arguments]``, from a tree with src and tests.

FASTSEC_FUZZ_TRACE=1 lets the target's Python modules report their branches too, and changes whole TLVs of inputs that
are DER. That finds more and runs slower. FASTSEC_FUZZ_SEEDS names a directory that gets the target's seeds first,
FASTSEC_FUZZ_SELF a script that runs this target again, for libFuzzer's merge.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import atheris

from fuzz import fixed
from fuzz.der_mutator import mutate
from fuzz.registry import TARGETS, load


def _mutated(skip: int, data: bytes, most: int, seed: int) -> bytes:
    """Half of the time a TLV, else whatever libFuzzer thinks of."""
    if seed & 1:
        return mutate(data, most, seed, skip)
    found: bytes = atheris.Mutate(data, most)
    return found


def main() -> None:
    """Run the target named first; the other arguments are libFuzzer's."""
    name, *arguments = sys.argv[1:]
    tracing = os.environ.get("FASTSEC_FUZZ_TRACE") == "1"
    traced: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if tracing:
        traced = atheris.instrument_imports(include=["fastsec"])
    with traced:
        fixed.install()
        target = load(name)
    more: dict[str, Callable[[bytes, int, int], bytes]] = {}
    if tracing and target.der is not None:
        more["custom_mutator"] = partial(_mutated, target.der)
    garden = os.environ.get("FASTSEC_FUZZ_SEEDS")
    if garden:
        for octets in target.seeds():
            (Path(garden) / hashlib.sha1(octets, usedforsecurity=False).hexdigest()).write_bytes(
                octets[: target.max_len]
            )
    itself = os.environ.get("FASTSEC_FUZZ_SELF", f"fuzz.run {name}")
    atheris.Setup([itself, *arguments, f"-max_len={target.max_len}"], target.run, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz.run TARGET [libFuzzer arguments]; targets: {' '.join(TARGETS)}")
    main()
