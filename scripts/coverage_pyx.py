"""Which branches of the .pyx and .pxd sources were taken, from gcov's counts of the C that Cython made of them.

Coverage.py's Cython plugin knows lines only. Here every C decision that stands for a condition of ours is mapped back,
through the position comments that Cython writes, to its line: ``if`` and ``while``, each operand of ``and`` and ``or``,
conditional expressions, the entry and the end of ``for``, the cases of what became a ``switch``. What Cython adds for
itself does not count: error returns, None checks, argument parsing, type dispatch. A function of a .pxd is compiled
into several modules; a branch counts as taken if it was in one of them.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_POSITION = re.compile(r'^\s*/\* "(fastsec/[^"]+\.p(?:yx|xd))":(\d+)$')
_FUNCTION = re.compile(r"^static .*\b__pyx_(?:f|pf)_\w+\(.*\{$")
# A condition of ours is a bare value: Cython puts comparisons into a temporary first. Its own checks compare in place
# (``== Py_None``, ``< 0``) or call something.
_VALUE = r"\(*(?:__pyx_t_\d+|__pyx_v_\w+)(?:[\w.\[\]()]|->)*"
_IF = re.compile(rf"^\s*if \((?:unlikely\({_VALUE}\)|likely\({_VALUE}\)|!?{_VALUE})\) (?:\{{|break;)$")
_FOR_LIST = re.compile(r"^\s*if \(__pyx_t_\d+ >= (?:__pyx_temp|\d+)\) break;$")
_FOR_RANGE = re.compile(r"^\s*for \(__pyx_t_\d+ = .*; __pyx_t_\d+ < .*\) \{$")
_SWITCH = re.compile(r"^\s*switch \(__pyx_v_.*\) \{$")
_EXCEPT = re.compile(r"= __Pyx_PyErr_(?:Given)?ExceptionMatches")
_MEMBERSHIP = re.compile(r"^\s*__pyx_t_\d+ = [01];$")  # the body of a switch that only says whether x is in (a, b)


@dataclass(slots=True)
class Decision:
    """One place in a source line where the way parts.

    Attributes:
        ways: per way out what it is called, and how often it was taken.
    """

    line: int
    ways: dict[str, int]


@dataclass(slots=True)
class SourceFile:
    """What was seen of one .pyx or .pxd; ``lines`` maps line to count."""

    lines: dict[int, int] = field(default_factory=dict)
    decisions: dict[tuple[str, int, int], Decision] = field(default_factory=dict)


@dataclass(slots=True)
class _Line:
    number: int
    text: str
    source: str
    source_line: int
    function: str


def own_lines(c_file: Path) -> Iterator[_Line]:
    """The lines of C that come from a statement of ours."""
    function = source = ""
    source_line = 0
    in_comment = False
    for number, text in enumerate(c_file.read_text(encoding="utf-8").splitlines(), 1):
        if match := _POSITION.match(text):
            source, source_line, in_comment = match[1], int(match[2]), True
        elif in_comment or text.lstrip().startswith("/* "):
            in_comment = "*/" not in text
        elif _FUNCTION.match(text):
            function, source = text, ""
        elif text.startswith("}"):
            function = ""
        elif function and source:
            yield _Line(number, text, source, source_line, function)


def gcov(counts: Path, build: Path) -> dict[int, tuple[int, list[int]]]:
    """Per line of the C file the count and the counts of its branches."""
    done = subprocess.run(
        ["gcov", "--json-format", "--branch-probabilities", "--stdout", str(counts)],
        cwd=build, check=True, capture_output=True,
    )  # fmt: skip
    found: dict[int, tuple[int, list[int]]] = {}
    for file in json.loads(done.stdout)["files"]:
        if not file["file"].endswith(f"/{counts.stem}.c"):
            continue
        for line in file["lines"]:
            branches = [branch["count"] for branch in line["branches"] if not branch["throw"]]
            count, before = found.get(line["line_number"], (0, []))
            found[line["line_number"]] = (max(count, line["count"]), before or branches)
    return found


def _ways(kind: str, lines: list[_Line], index: int, counts: list[int]) -> dict[str, int]:
    """Names for gcc's edges. The first is the one on which the C condition holds; where the body is empty and only an
    ``else`` follows (Cython's ``and`` and ``or``) gcc turns the condition round."""
    text = lines[index].text
    if kind == "switch":
        return {f"case {number}": count for number, count in enumerate(counts, 1)}
    if kind == "for":
        names = ("ended", "entered") if "break;" in text else ("entered", "ended")
    else:
        following = next((line.text.strip() for line in lines[index + 1 :] if line.text.strip()), "")
        names = ("false", "true") if ("(!" in text) != following.startswith("} else") else ("true", "false")
    return dict(zip(names, counts, strict=True))


def _kind(lines: list[_Line], index: int) -> str | None:
    text = lines[index].text
    if _FOR_LIST.match(text) or _FOR_RANGE.match(text):
        return "for"
    if _SWITCH.match(text):
        return None if any(_MEMBERSHIP.match(line.text) for line in lines[index + 1 : index + 5]) else "switch"
    if not _IF.match(text):
        return None
    # What no ``except`` of ours names goes on as an exception: that is no branch of ours.
    before = lines[max(0, index - 8) : index]
    return None if any(_EXCEPT.search(line.text) for line in before) else "if"


def add(files: dict[str, SourceFile], c_file: Path, counts: dict[int, tuple[int, list[int]]]) -> None:
    """Add one module's counts."""
    lines = list(own_lines(c_file))
    seen: dict[tuple[str, str, int], int] = {}
    for index, line in enumerate(lines):
        if line.number not in counts:
            continue
        file = files.setdefault(line.source, SourceFile())
        count, branches = counts[line.number]
        file.lines[line.source_line] = max(file.lines.get(line.source_line, 0), count)
        kind = _kind(lines, index)
        if kind is None or len(branches) < 2:
            continue
        # The n-th decision of a line is the same one in every module that includes it.
        place = (line.source, line.function.split("_core_")[-1], line.source_line)
        order = seen[place] = seen.get(place, 0) + 1
        ways = _ways(kind, lines, index, branches)
        decision = file.decisions.setdefault((place[1], line.source_line, order), Decision(line.source_line, {}))
        for name, taken in ways.items():
            decision.ways[name] = decision.ways.get(name, 0) + taken


def assertion_lines(source: Path) -> set[int]:
    """Lines of the functions that say of themselves to be for assertions; those are not compiled here."""
    found: set[int] = set()
    indent = -1
    inside: list[int] = []
    for number, text in enumerate([*source.read_text(encoding="utf-8").splitlines(), "end"], 1):
        depth = len(text) - len(text.lstrip())
        if text.strip() and depth <= indent:
            indent, inside = -1, []
        if text.lstrip().startswith("cdef ") and text.rstrip().endswith(":"):
            indent, inside = depth, [number]
        elif indent >= 0:
            inside.append(number)
            if text.rstrip().endswith('for assertions."""') or found & set(inside):
                found.update(inside)
    return found


def measure(build: Path) -> dict[str, SourceFile]:
    """All modules below a build folder of FASTSEC_COVERAGE=1 whose tests have run."""
    files: dict[str, SourceFile] = {}
    for counts in sorted(build.glob("build/temp.*/**/*.gcda")):
        (c_file,) = build.glob(f"build/cython-coverage/src/fastsec/_core/{counts.stem}.c")
        add(files, c_file, gcov(counts.resolve(), build))
    for name, file in files.items():
        skipped = assertion_lines(build / "src" / name)
        file.lines = {line: count for line, count in file.lines.items() if line not in skipped}
        file.decisions = {key: each for key, each in file.decisions.items() if each.line not in skipped}
    return files
