"""Make the committed corpora anew from what ``make fuzz`` has kept: the fewest inputs that reach the same.

    python -m fuzz.minimise [--from DIR ...] [TARGET ...]      in build/fuzz-tree, with PYTHONPATH=src:tests

libFuzzer keeps, per target, inputs that together have all edges, those of Python included where it is traced.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from fuzz.campaign import TREE, environment
from fuzz.registry import CORPUS, TARGETS, TRACED

FILES_MAX: Final = 140
OCTETS_MAX: Final = 40 * 1024


def minimise(name: str, sources: list[Path], into: Path) -> list[Path]:
    """Merge the inputs of ``sources`` into the empty directory ``into``; the smallest first."""
    into.mkdir(parents=True)
    traced = TARGETS[name][0] in TRACED
    with tempfile.TemporaryDirectory() as folder:
        # libFuzzer runs itself again for a merge, so its own name must be something that can be run.
        script = Path(folder) / "run"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fuzz.run {name} "$@"\n')
        script.chmod(0o755)
        found = environment(False, traced)
        found["FASTSEC_FUZZ_SELF"] = str(script)
        done = subprocess.run(
            [str(script), "-merge=1", "-timeout=120", "-rss_limit_mb=2048", f"-artifact_prefix={folder}/", str(into)]
            + [str(source / name) for source in sources if (source / name).is_dir()],
            env=found, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stdout.decode("utf-8", "replace")[-3000:])
    return spread(sorted(into.iterdir(), key=lambda each: (each.stat().st_size, each.name)))


def spread(paths: list[Path]) -> list[Path]:
    """As many as are allowed, of all sizes."""
    for count in range(min(FILES_MAX, len(paths)), 0, -1):
        kept = [paths[number * len(paths) // count] for number in range(count)]
        if sum(path.stat().st_size for path in kept) <= OCTETS_MAX:
            return kept
    return paths[:1]


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="fuzz.minimise")
    parser.add_argument("--from", dest="sources", type=Path, action="append")
    parser.add_argument("--to", type=Path, default=CORPUS)
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    sources = [path.resolve() for path in options.sources or [TREE.parent / "fuzz-corpus"]]
    for name in options.targets or TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            kept = minimise(name, [*sources, CORPUS], Path(folder) / "merged")
            target = options.to.resolve() / name
            if target.is_dir():
                shutil.rmtree(target)
            target.mkdir(parents=True)
            for path in kept:
                shutil.copy(path, target / path.name)
        print(f"{name} {len(kept)} {sum(path.stat().st_size for path in target.iterdir())}", flush=True)


if __name__ == "__main__":
    main()
