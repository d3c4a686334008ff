"""The house: every module stands on a floor, imports only go down, and no two modules import each other in a circle.

The list below IS the architecture; a new module is entered here first, or this test fails.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "fastsec"

# Rooms from the ground up. A room imports only from rooms above it in this list's order, that is: earlier entries.
FLOORS: dict[str, list[str]] = {
    "0 facts": ["events", "errors", "limits", "instant", "profile"],
    "1 tools": ["_core", "secpdu", "pki", "mms", "access", "eventlog", "config"],
    "2 rules": [
        "outputs",
        "faults",
        "state",
        "attribute",
        "negotiation",
        "keys",
        "key_update",
        "replay",
        "aprofile",
        "peers",
        "control",
        "handshake",
    ],
    "3 engine": ["engine", "data_phase", "handshake_phase", "association"],
    "3 environments": ["envs"],
    "4 adapters": ["aio"],
    "5 doors": ["", "metrics", "gateway", "demo", "inspect", "conformance", "cli", "__main__"],
}
ROOMS = [room for rooms in FLOORS.values() for room in rooms]
NEVER_TOGETHER = {pair for room in FLOORS["3 engine"] for pair in ((room, "envs"), ("envs", room))}
# Only adapters and doors may know a loop, a socket or a clock.
SANS_IO = {room for floor, rooms in FLOORS.items() if floor[0] in "0123" for room in rooms} - {"instant"}
IO_MODULES = {"asyncio", "socket", "ssl", "selectors", "threading", "concurrent", "logging", "time", "uvloop"}

_CIMPORT = re.compile(r"^\s*(?:from\s+(fastsec[\w.]*)\s+c?import\s+\(?\s*([\w, ]+)|c?import\s+(fastsec[\w.]*))", re.M)


def module_name(path: Path) -> str:
    parts = list(path.relative_to(SRC).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[0]


def for_types_only(tree: ast.AST) -> set[ast.AST]:
    """The nodes below ``if TYPE_CHECKING``."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def imports_of(path: Path, *, types: bool = True) -> set[str]:
    """Modules of fastsec (without the leading name) that a file imports, plus the top-level names of others.

    ``types`` says whether imports for annotations alone count: for the direction they do, for circles they do not.
    """
    text = path.read_text(encoding="utf-8")
    found: set[str] = set()
    if path.suffix == ".py":
        tree = ast.parse(text)
        skipped = set() if types else for_types_only(tree)
        for node in ast.walk(tree):
            if node in skipped:
                continue
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert node.level == 0, f"{path}: imports are absolute here"
                if node.module != "fastsec":
                    found.add(node.module)
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
    else:
        for base, names, plain in _CIMPORT.findall(text):
            if base != "fastsec":
                found.add(plain or base)
            found.update(f"{base}.{name.strip()}" for name in names.split(",") if base and name.strip())
    return found


def own(imported: str) -> str | None:
    """The importable module inside fastsec that a dotted name stands for, or None."""
    if imported.split(".")[0] != "fastsec":
        return None
    parts = imported.split(".")[1:]
    while parts:
        path = SRC.joinpath(*parts)
        if path.is_dir() or any(path.with_suffix(end).exists() for end in (".py", ".pyx", ".pxd")):
            return ".".join(parts)
        parts.pop()
    return ""


FILES = sorted(path for end in ("py", "pyx", "pxd") for path in SRC.rglob(f"*.{end}"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_imports_go_down(path: Path) -> None:
    module = module_name(path)
    room = room_of(module)
    assert room in ROOMS, f"{module} has no place in the house; enter it in FLOORS"
    for name in imports_of(path):
        target = own(name)
        if target is None:
            top = name.split(".")[0]
            assert not (room in SANS_IO and top in IO_MODULES), f"{module} imports {top}: no clock, socket or log here"
            continue
        other = room_of(target)
        if other != room:
            assert ROOMS.index(other) < ROOMS.index(room), f"{module} imports {target}: that goes up"
            assert (room, other) not in NEVER_TOGETHER, f"{module} imports {target}: the adapter composes these"


def test_no_circle_between_modules() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        module = module_name(path)
        targets = {own(name) for name in imports_of(path, types=False)}
        # A package's __init__ re-exports its modules; its modules do not count it as a dependency.
        graph.setdefault(module, set()).update(
            target
            for target in targets
            if target is not None and not module.startswith(f"{target}.") and target != module
        )
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "circle: " + " -> ".join((*trail, module))
        if module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_every_room_is_built() -> None:
    for room in ROOMS:
        place = SRC / room if room else SRC / "__init__.py"
        assert place.exists() or any(place.with_suffix(end).exists() for end in (".py", ".pyx")), f"no room {room}"


def test_test_modules_have_names_of_their_own() -> None:
    """Those outside packages share one namespace; two of a name, and pytest collects nothing at all."""
    seen: dict[str, Path] = {}
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        if not (path.parent / "__init__.py").exists():
            assert path.name not in seen, f"{path} and {seen[path.name]}: rename one"
            seen[path.name] = path


def test_no_file_is_larger_than_a_room() -> None:
    large = {str(path): count for path in FILES if (count := len(path.read_text().splitlines())) > 600}
    assert not large
