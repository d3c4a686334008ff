"""`make icount`: instructions per operation of the hot path, of a base commit and of HEAD, counted in one run.

Both commits are built as a release below build/icount and counted by callgrind with the same driver
(icount_driver.py). A case is counted for N and for 2 N rounds; the difference is free of what a start costs. Three
figures per case: what is ours (fastsec's modules and the interpreter), libcrypto's, and libc's. The first two repeat to
the instruction. libc's depends on where in memory the buffers lie, so it is the mean of several places and has a wider
limit, which still shows a payload that is copied once more. A case of which one grows by more than its limit fails the
run unless a commit between base and HEAD says why with a trailer ``Icount: reason``.

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
LIMIT_LIBC = 25.0
TRAILER = "Icount"
# The handshake's libcrypto part is public-key work on random numbers: it is shown, but it cannot be held to a limit.
OURS_ONLY = {"handshake"}

Costs = tuple[float, float, float]  # ours, libc, libcrypto
Counts = dict[str, Costs]  # case: instructions per operation


@dataclass(slots=True)
class Row:
    """One case: instructions per operation, and their change in percent; first what is ours."""

    case: str
    base: float | None
    head: float | None
    change_percent: float | None
    base_libc: float | None
    head_libc: float | None
    change_percent_libc: float | None
    base_libcrypto: float | None
    head_libcrypto: float | None
    change_percent_libcrypto: float | None

    @property
    def grown(self) -> list[str]:
        """What of it grew by more than its limit."""
        changes = {"ours": (self.change_percent, LIMIT), "libc": (self.change_percent_libc, LIMIT_LIBC)}
        if self.case not in OURS_ONLY:
            changes["libcrypto"] = (self.change_percent_libcrypto, LIMIT)
        return [name for name, (change, limit) in changes.items() if change is not None and change > limit]


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


def owner(library: str) -> int:
    """Whose instructions these are: 0 ours, 1 libc, 2 libcrypto."""
    name = library.rpartition("/")[2]
    return 2 if name.startswith("libcrypto") else 1 if name.startswith("libc.") else 0


def self_costs(dump: Path) -> tuple[str, list[int]]:
    """Of one of callgrind's files: the mark's name, and the instructions of each owner."""
    name, costs = "", [0, 0, 0]
    owners: dict[str, int] = {}
    whose = 0
    skip = False
    with dump.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line[:1] in "0123456789+-*":
                if skip:  # the line after calls= repeats the callee's cost
                    skip = False
                    continue
                costs[whose] += int(line.split()[1])
            elif line.startswith("calls="):
                skip = True
            elif match := re.match(r"(c?ob)=(\(\d+\))(?: (.*))?$", line):
                owners.setdefault(match[2], owner(match[3] or ""))
                if match[1] == "ob":
                    whose = owners[match[2]]
            elif line.startswith("desc: Trigger: Client Request: "):
                name = line.rstrip().rpartition(": ")[2]
    return name, costs


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
    costs = {name: each for name, each in parts if name}
    found: Counts = {}
    for line in done.stdout.splitlines():
        case, _, rest = line.partition(" ")
        if not rest.isdigit():
            print(f"left out: {line}", file=sys.stderr)
            continue
        repeats = [name.rpartition(" ")[0] for name in costs if name.startswith(f"{case} ") and name.endswith(" 1")]
        pairs = [(costs[f"{name} 1"], costs[f"{name} 2"]) for name in repeats]
        means = [sum(twice[i] - once[i] for once, twice in pairs) / len(pairs) / int(rest) for i in range(3)]
        found[case] = (means[0], means[1], means[2])
    return found


def change(base: float | None, head: float | None) -> float | None:
    return None if not base or head is None else round(100 * (head - base) / base, 2)


def compare(base: Counts, head: Counts) -> list[Row]:
    rows = []
    for case in dict.fromkeys([*head, *base]):
        cells: list[float | None] = []
        for i in range(3):
            values = [side[case][i] if case in side else None for side in (base, head)]
            cells += [None if value is None else round(value, 1) for value in values]
            cells.append(change(*values))
        rows.append(Row(case, *cells))
    return rows


def table(rows: list[Row]) -> str:
    def cell(value: float | None, form: str) -> str:
        return format("-" if value is None else format(value, form), ">8")

    columns = f"{'base':>8}{'HEAD':>8}{'change':>8}"
    lines = [f"{'':18}{'ours':>24} {'libc':>24} {'libcrypto':>24}", f"{'case':18}{columns} {columns} {columns}"]
    for row in rows:
        values = list(asdict(row).values())[1:]
        groups = [values[i : i + 3] for i in (0, 3, 6)]
        cells = " ".join(cell(a, ".0f") + cell(b, ".0f") + cell(c, "+.2f") for a, b, c in groups)
        lines.append(f"{row.case:18}{cells}" + "".join(f"  > {name}" for name in row.grown))
    return "\n".join(lines)


def verdict(rows: list[Row], reasons: list[str]) -> int:
    limits = f"{LIMIT:g} % (libc: {LIMIT_LIBC:g} %)"
    grown = [f"{row.case} ({', '.join(row.grown)})" for row in rows if row.grown]
    if not grown:
        print(f"icount: no case grew by more than {limits}")
        return 0
    print(f"icount: grown by more than {limits}: {'; '.join(grown)}")
    if reasons:
        print("\n".join(["the commits in between say why:", *reasons]))
        return 0
    print(f"make it cheaper, or say why in a commit's trailer line `{TRAILER}: reason`")
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
