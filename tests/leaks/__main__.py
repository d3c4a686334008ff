"""``make leaks``: rounds of everything under valgrind; afterwards nothing is lost, and 4 N rounds hold what N held.

Grown means by a block in each of the 4 N rounds; a free list of Cython's may take a few objects more at some time.
Lost or grown means: a record of memcheck's with a frame of the extensions or of libcrypto. Of all other blocks, mostly
CPython's, only the sum is watched; for Python's objects see tests/_core/test_refcounts.py.

The process that valgrind runs counts malloc's blocks three times: after a warm-up, after N more rounds, after 4 N more.
A control does the same with a deliberate leak in a copy of the code and has to find it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import native

HERE = Path(__file__).parent
WARM_UP = 12  # rounds; CPython fills caches of its own in the first ones
PER_ROUND = 30  # blocks of Python; a round ends some 70 associations, so one lost block for each shows even here
LEAK = {"dh": (("                EVP_PKEY_free(key)\n                if not good:", "                if not good:"),)}


def child(rounds: int) -> None:
    """What valgrind runs."""
    import ctmark

    from leaks.rounds import one_round

    counts = []
    for many in (WARM_UP, rounds, 4 * rounds):
        for _ in range(many):
            one_round()
        gc.collect()
        gc.collect()
        ctmark.note("SEARCH")
        counts.append(ctmark.blocks(full=len(counts) == 2))
        ctmark.note("DONE")
    print(json.dumps(counts))


def ours(log: str, least: int) -> tuple[list[str], list[str]]:
    """Records with a frame of the extensions or of libcrypto: those of lost blocks, those that grew by ``least``."""
    text = re.sub(r"(?m)^==\d+== ?", "", log)
    searches = [part.partition("DONE\n")[0].split("\n\n") for part in text.split("SEARCH\n")[1:]]
    frame = re.compile(r"__pyx_\w*7fastsec|libcrypto\.so")
    lost = [one for one in searches[1] + searches[2] if re.search(r"are (definitely|indirectly) lost", one)]
    more = re.compile(r"\(\+([\d,]+)\) blocks are")
    grown = [one for one in searches[2] if (by := more.search(one)) and int(by[1].replace(",", "")) >= least]
    return [one for one in lost if frame.search(one)], [one for one in grown if frame.search(one)]


def soak(source: Path, rounds: int, log: Path) -> tuple[list[list[int]], tuple[list[str], list[str]]]:
    """Returns (lost, possibly lost, reachable, suppressed) blocks at the three points, and records of what is lost."""
    path = os.pathsep.join(map(str, (source, HERE.parent, HERE.parent / "_core", native.build("ctmark"))))
    run = subprocess.run(
        ["valgrind", "--tool=memcheck", "--leak-check=full", "--show-leak-kinds=all",
         "--undef-value-errors=no", "--num-callers=30",
         f"--log-file={log}",
         sys.executable, "-P", "-m", "leaks", "--child", "--rounds", str(rounds)],
        stdout=subprocess.PIPE, text=True, check=False,
        env=os.environ | {"PYTHONPATH": path, "PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    if run.returncode:
        sys.exit(f"the soak failed:\n{log.read_text()[-2000:]}")
    return json.loads(run.stdout), ours(log.read_text(), 4 * rounds)


def verdict(name: str, source: Path, rounds: int, log: Path) -> bool:
    """Print the counts. Returns whether it is clean."""
    counts, (lost, grown) = soak(source, rounds, log)
    totals = [sum(count[:3]) for count in counts]
    print(f"{name}: blocks {totals} after {WARM_UP}, + {rounds} and + {4 * rounds} rounds; "
          f"definitely lost {[count[0] for count in counts]}; "
          f"of _core and libcrypto {len(lost)} lost, {len(grown)} grown")  # fmt: skip
    for record in (lost + grown)[:3]:
        print(record)
    # What is lost at the start belongs to imports. CPython's own caches still fill a little in each round.
    return not lost and not grown and counts[2][0] == counts[0][0] and totals[2] - totals[1] < PER_ROUND * 4 * rounds


def main() -> None:
    parser = argparse.ArgumentParser(prog="leaks")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        child(options.rounds)
        return
    folder = native.ROOT / "build" / "leaks"
    folder.mkdir(parents=True, exist_ok=True)
    if not verdict("fastsec", native.ROOT / "src", options.rounds, folder / "log"):
        sys.exit(f"memory leaks; see {folder / 'log'}")
    if verdict("control with a leak", native.core_with_faults("leak", LEAK), 1, folder / "control-log"):
        sys.exit("the control's leak was not found")
    print("nothing lost, no growth; the control's leak was found")


if __name__ == "__main__":
    main()
