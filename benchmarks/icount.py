"""`make icount`: instructions per operation of the hot path, of a base commit and of HEAD, counted in one run.

Both commits are built as a release below build/icount and counted by callgrind with the same driver
(icount_driver.py). A case is counted for N and for 2 N rounds; the difference is free of what a start costs. Two
figures per case: what is ours (fastsec and the interpreter) and what libcrypto spends. A case of which either grows
by more than 3 % fails the run unless a commit between base and HEAD says why with a trailer ``Icount: reason``.

The base is, in this order: the commit named by ICOUNT_BASE; the merge base with origin/main unless that is HEAD; the
commit in benchmarks/icount-base. JSON lines go to build/icount/icount.jsonl, and with --json to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "icount"
LIMIT = 3.0  # percent
TRAILER = "Icount"
# The handshake's libcrypto part is public-key work on random numbers: it is shown, but it cannot be held to a limit.
OURS_ONLY = {"handshake"}

Counts = dict[str, tuple[float, float]]  # case: instructions per operation outside and inside libcrypto


@dataclass(slots=True)
class Row:
    """One case: instructions per operation, ours and libcrypto's, and their change in percent."""

    case: str
    base: float | None
    head: float | None
    change_percent: float | None
    base_libcrypto: float | None
    head_libcrypto: float | None
    change_percent_libcrypto: float | None

    @property
    def grown(self) -> bool:
        changes = [self.change_percent]
        if self.case not in OURS_ONLY:
            changes.append(self.change_percent_libcrypto)
        return any(change is not None and change > LIMIT for change in changes)


class NothingToCompareError(Exception):
    """There is no base here; why."""


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LookupError(done.stderr.strip())
    return done.stdout.strip()


def commit(name: str) -> str:
    return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")


def choose_base(head: str) -> str:
    """The full id of the base commit."""
    if wanted := os.environ.get("ICOUNT_BASE"):
        try:
            return commit(wanted)
        except LookupError:
            raise NothingToCompareError(f"ICOUNT_BASE={wanted} is no commit of this clone") from None
    try:
        merge_base = git("merge-base", "origin/main", head)
        if merge_base != head:
            return merge_base
    except LookupError:
        pass
    named = (HERE / "icount-base").read_text(encoding="ascii").strip()
    try:
        return commit(named)
    except LookupError:
        raise NothingToCompareError(
            f"commit {named[:12]} of benchmarks/icount-base is not in this clone (shallow?)"
        ) from None


def built(name: str) -> Path:
    """The tree of a commit, built as a release; one that is there already is used again."""
    tree = BUILD / name
    if (tree / ".built").exists():
        return tree
    print(f"building {name[:12]}", file=sys.stderr, flush=True)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    with tempfile.TemporaryFile() as file:
        subprocess.run(["git", "archive", name, "src", "setup.py", "pyproject.toml"], cwd=ROOT, check=True, stdout=file)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            archive.extractall(tree, filter="data")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FASTSEC_")}
    argv = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(argv, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name[:12]} did not build:\n{done.stderr[-2000:]}")
    (tree / ".built").touch()
    return tree


def marks() -> Path:
    library = BUILD / "icount_mark.so"
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(HERE / "icount_mark.c")], check=True
    )  # fmt: skip
    return library


def self_costs(dump: Path) -> tuple[str, int, int]:
    """Of one of callgrind's files: the mark's name, instructions outside and inside libcrypto."""
    name, inside, outside = "", 0, 0
    objects: dict[str, str] = {}
    in_libcrypto = skip = False
    with dump.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line[:1] in "0123456789+-*":
                if skip:  # the line after calls= repeats the callee's cost
                    skip = False
                    continue
                cost = int(line.split()[1])
                inside, outside = (inside + cost, outside) if in_libcrypto else (inside, outside + cost)
            elif line.startswith("calls="):
                skip = True
            elif match := re.match(r"(c?ob)=(\(\d+\))(?: (.*))?$", line):
                objects.setdefault(match[2], match[3] or "")
                if match[1] == "ob":
                    in_libcrypto = "libcrypto" in objects[match[2]]
            elif line.startswith("desc: Trigger: Client Request: "):
                name = line.rstrip().rpartition(": ")[2]
    return name, outside, inside


def count(tree: Path, library: Path, only: list[str]) -> Counts:
    """Run the driver on a tree under callgrind."""
    python = [sys.executable, str(HERE / "icount_driver.py"), str(library), *only]
    with tempfile.TemporaryDirectory(prefix="fastsec-icount-") as folder:
        valgrind = ["valgrind", "--tool=callgrind", "-q", "--instr-atstart=no", f"--callgrind-out-file={folder}/cg"]
        # Nothing of the caller's environment: its size alone moves the stack.
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": folder,
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{tree}/src:{HERE}",
        }
        done = subprocess.run([*valgrind, *python], env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the driver ended with {done.returncode}")
        parts = [self_costs(path) for path in Path(folder).glob("cg.*")]
    costs = {name: (ours, theirs) for name, ours, theirs in parts if name}
    found: Counts = {}
    for line in done.stdout.splitlines():
        case, _, rest = line.partition(" ")
        if not rest.isdigit():
            print(f"left out: {line}", file=sys.stderr)
            continue
        once, twice = costs[f"{case} 1"], costs[f"{case} 2"]
        found[case] = (twice[0] - once[0]) / int(rest), (twice[1] - once[1]) / int(rest)
    return found


def change(base: float | None, head: float | None) -> float | None:
    return None if not base or head is None else round(100 * (head - base) / base, 2)


def compare(base: Counts, head: Counts) -> list[Row]:
    rows = []
    for case in dict.fromkeys([*head, *base]):
        ours, theirs = zip(*(side.get(case, (None, None)) for side in (base, head)), strict=True)
        rounded = [None if value is None else round(value, 1) for value in (*ours, *theirs)]
        rows.append(Row(case, rounded[0], rounded[1], change(*ours), rounded[2], rounded[3], change(*theirs)))
    return rows


def table(rows: list[Row]) -> str:
    def cell(value: float | None, form: str) -> str:
        return format("-" if value is None else format(value, form), ">9")

    columns = f"{'base':>9} {'HEAD':>9} {'change':>9}"
    lines = [f"{'':26}{'ours':>29}  {'libcrypto':>29}", f"{'instructions per operation':26}{columns}  {columns}"]
    for row in rows:
        own = f"{cell(row.base, '.0f')} {cell(row.head, '.0f')} {cell(row.change_percent, '+.2f')}"
        theirs = f"{cell(row.base_libcrypto, '.0f')} {cell(row.head_libcrypto, '.0f')}"
        mark = f"  > {LIMIT:g} %" if row.grown else ""
        lines.append(f"{row.case:26}{own}  {theirs} {cell(row.change_percent_libcrypto, '+.2f')}{mark}")
    return "\n".join(lines)


def verdict(rows: list[Row], reasons: list[str]) -> int:
    grown = [row.case for row in rows if row.grown]
    if not grown:
        print(f"icount: no case grew by more than {LIMIT:g} %")
        return 0
    if reasons:
        print(f"icount: grown by more than {LIMIT:g} %: {', '.join(grown)}; the commits say why:")
        for reason in reasons:
            print(f"  {reason}")
        return 0
    print(
        f"icount: grown by more than {LIMIT:g} %: {', '.join(grown)}; make it cheaper, or say why in a commit's "
        f"trailer line `{TRAILER}: reason`"
    )
    return 1


def reasons_between(base: str, head: str) -> list[str]:
    text = git("log", f"--format=%(trailers:key={TRAILER},valueonly)", f"{base}..{head}")
    return [line for line in text.splitlines() if line.strip()]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Instructions per operation of a base commit and of HEAD.")
    parser.add_argument("cases", nargs="*", help="only these cases, e.g. seal.ae.256")
    parser.add_argument("--json", action="store_true", help="JSON lines on stdout instead of the table")
    arguments = parser.parse_args(argv)
    try:
        head = commit("HEAD")
        base = choose_base(head)
    except LookupError as error:
        print(f"icount: nothing compared: no git checkout here ({error})")
        return 0
    except NothingToCompareError as error:
        print(f"icount: nothing compared: {error}")
        return 0
    same = git("rev-parse", f"{base}:src", f"{base}:setup.py") == git("rev-parse", f"{head}:src", f"{head}:setup.py")
    if same and not os.environ.get("ICOUNT_BASE"):
        print(f"icount: nothing compared: base {base[:12]} and HEAD have the same sources")
        return 0
    if git("status", "--porcelain", "--untracked-files=no", "src", "setup.py"):
        print("icount: what is not committed does not count", file=sys.stderr)
    library = marks()
    trees = [built(base), built(head)]
    counts = []
    for name, tree in zip((base, head), trees, strict=True):
        print(f"counting {name[:12]}", file=sys.stderr, flush=True)
        counts.append(count(tree, library, arguments.cases))
    rows = compare(*counts)
    records = [json.dumps(asdict(row)) for row in rows]
    (BUILD / "icount.jsonl").write_text("\n".join(records) + "\n", encoding="utf-8")
    print("\n".join(records) if arguments.json else table(rows))
    print(f"base {base[:12]}, HEAD {head[:12]}", file=sys.stderr)
    return verdict(rows, reasons_between(base, head))


if __name__ == "__main__":
    raise SystemExit(main())
