"""`make coverage`: lines and branches of the floors below the adapters that the tests take, in one table.

    coverage_report.py TREE [--docs FILE]

TREE is a checkout built with FASTSEC_COVERAGE=1 in which the tests have run under coverage.py. Branches of Python are
coverage.py's; of Cython those of coverage_pyx.py. Writes build/coverage.json below TREE; with --docs also the table as
a document. Exit status 1 if an area has less than 95 % of its branches.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import coverage_pyx

FLOOR = 95.0
# Doors and adapters are tested too, but mostly through other processes; they have no floor here.
ABOVE = {"aio", "cli", "demo", "gateway", "inspect", "__init__.py", "__main__.py"}
AREAS = {"_core": "core", "envs": "environments", "pki": "pki"}
AREA_TEXT = {
    "engine": "engine: floors 0 to 3 but for the rest of this list",
    "core": "core: compiled, hot path and parsers",
    "environments": "environments: OSI",
    "pki": "pki: certificates, CRLs, paths",
}


@dataclass(slots=True)
class FileResult:
    """One source file; ``untaken`` says of each branch that no test took where it is and where it leads."""

    area: str
    lines: int
    lines_taken: int
    branches: int
    branches_taken: int
    untaken: list[str] = field(default_factory=list)


def area_of(name: str) -> str | None:
    """The area of a file, named from the package's folder on; None if it has no floor here."""
    first = name.split("/")[0]
    return None if first in ABOVE else AREAS.get(first, "engine")


def python_results(tree: Path) -> dict[str, FileResult]:
    out = tree / "build" / "coverage-python.json"
    subprocess.run([sys.executable, "-m", "coverage", "json", "-q", "-o", str(out)], cwd=tree, check=True)
    found: dict[str, FileResult] = {}
    for path, data in json.loads(out.read_text(encoding="utf-8"))["files"].items():
        name = path.rpartition("fastsec/")[2]
        area = area_of(path.partition("src/fastsec/")[2])
        if area is None or not path.startswith("src/fastsec/"):
            continue
        name = path.removeprefix("src/fastsec/")
        summary = data["summary"]
        untaken = [f"{a} to {'the end' if b < 0 else b}" for a, b in data["missing_branches"]]
        found[name] = FileResult(
            area,
            summary["num_statements"],
            summary["covered_lines"],
            summary["num_branches"],
            summary["covered_branches"],
            untaken,
        )
    return found


def cython_results(tree: Path) -> dict[str, FileResult]:
    found: dict[str, FileResult] = {}
    for path, file in coverage_pyx.measure(tree).items():
        name = path.removeprefix("fastsec/")
        ways = [(d.line, way, taken) for d in file.decisions.values() for way, taken in d.ways.items()]
        found[name] = FileResult(
            "core",
            len(file.lines),
            sum(count > 0 for count in file.lines.values()),
            len(ways),
            sum(taken > 0 for _, _, taken in ways),
            [f"{line} {way}" for line, way, taken in sorted(ways) if not taken],
        )
    return found


def percent(taken: int, total: int) -> float:
    return 100.0 * taken / total if total else 100.0


def row(name: str, files: list[FileResult]) -> str:
    lines, lines_taken = sum(file.lines for file in files), sum(file.lines_taken for file in files)
    branches, taken = sum(file.branches for file in files), sum(file.branches_taken for file in files)
    # Rounded down: 100 stands for all of them only.
    share = int(percent(taken, branches) * 10) / 10
    return f"| {name} | {lines_taken} / {lines} | {taken} / {branches} | {share:.1f} |"


def table(results: dict[str, FileResult]) -> str:
    head = "| {} | lines taken | branches taken | % of branches |\n|---|---|---|---|"
    out = [head.format("area")]
    out += [row(AREA_TEXT[area], [f for f in results.values() if f.area == area]) for area in AREA_TEXT]
    out += [row("all", list(results.values()))]
    for area in AREA_TEXT:
        files = {name: file for name, file in sorted(results.items()) if file.area == area and file.lines}
        out += ["", head.format(area), *(row(f"`{name}`", [file]) for name, file in files.items())]
    return "\n".join(out)


def untaken(results: dict[str, FileResult]) -> str:
    return "\n".join(f"- `{name}`: {', '.join(file.untaken)}" for name, file in sorted(results.items()) if file.untaken)


DOCUMENT = """# Coverage

Which branches of the floors below the adapters the tests take, by `make coverage`; it fails below {floor:g} % in an
area. Python: coverage.py, `--branch`. Cython: the modules are built with gcc's counters, and each decision in the
generated C that stands for a condition of the source is mapped back to its line. Every operand of `and` and `or`,
conditional expressions and loops are included, so it is stricter than for Python. What Cython adds for itself (error
returns, None checks, arguments) does not count. `scripts/coverage_pyx.py` has the rules. Line numbers are those of the
day it was measured.

{table}

## Branches that no test takes

{untaken}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Branch coverage of the floors below the adapters.")
    parser.add_argument("tree", type=Path)
    parser.add_argument("--docs", type=Path)
    arguments = parser.parse_args()
    tree = arguments.tree.resolve()
    results = python_results(tree) | cython_results(tree)
    record = {name: asdict(file) for name, file in sorted(results.items())}
    (tree / "build" / "coverage.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    print("\nnot taken:\n" + untaken(results))
    if arguments.docs:
        text = DOCUMENT.format(floor=FLOOR, table=table(results), untaken=untaken(results))
        arguments.docs.write_text(text, encoding="utf-8")
    low = []
    for area in AREA_TEXT:
        files = [file for file in results.values() if file.area == area]
        share = percent(sum(file.branches_taken for file in files), sum(file.branches for file in files))
        if share < FLOOR or not files:
            low.append(f"{area} {share:.1f} %")
    if low:
        print(f"\ncoverage: less than {FLOOR:g} % of the branches: {', '.join(low)}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
