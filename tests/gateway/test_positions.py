"""The position index finds the line of everything that tomllib can return."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsec.gateway.positions import Positions

TEXT = '''# a comment with [brackets] and "quotes"
title = "x"  # after
[identity]
certificate = "cc.pem"
"odd key" = 'it''s' # never mind
[trust]
anchors = [
  "root.pem",  # one ]
  "other.pem",
]
note = """
[fake]
key = 1
"""
[[route]]
role = "client"
near.local.tsel = "00 01"
[route.tls]
certificate = "a"
[[route]]
role = "server"
peers = ["1.2:3", "1.2:4"]
policy = { encryption = "required", groups = [14,
  23] }
[route.near.remote]
psel = "00"
last = 3.5'''.replace("'it''s'", '"its"')


def test_lines_of_the_example() -> None:
    tomllib.loads(TEXT)
    positions = Positions(TEXT)
    expected = {
        ("title",): 2,
        ("identity",): 3,
        ("identity", "certificate"): 4,
        ("identity", "odd key"): 5,
        ("trust", "anchors"): 7,
        ("trust", "anchors", 0): 8,
        ("trust", "anchors", 1): 9,
        ("trust", "note"): 11,
        ("route", 0): 15,
        ("route", 0, "near", "local", "tsel"): 17,
        ("route", 0, "tls", "certificate"): 19,
        ("route", 1): 20,
        ("route", 1, "peers", 1): 22,
        ("route", 1, "policy", "groups"): 23,
        ("route", 1, "policy", "groups", 1): 24,
        ("route", 1, "near", "remote", "psel"): 26,
        ("route", 1, "near", "remote", "last"): 27,
    }
    assert {path: positions.line(path) for path in expected} == expected


def test_a_path_that_is_missing_has_its_ancestors_line() -> None:
    positions = Positions("a = 1\n[b]\nc = 2\n")
    assert positions.line(("b", "missing", 3)) == 2
    assert positions.line(("nowhere",)) is None
    assert positions.line(()) is None


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += _paths(inner, (*path, index))
    return found


_names = st.text("abc-_ .é\"'#[]=", min_size=1, max_size=5)
_strings = st.text("ab\"'#[]{}=,\\\n\t", max_size=8)
_scalars = st.one_of(st.integers(-99, 99), st.booleans(), _strings)
_values = st.recursive(
    _scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_names, inner, max_size=3))
)


def _escape(text: str) -> str:
    return '"' + "".join({'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}.get(c, c) for c in text) + '"'


def _write(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _escape(value)
    if isinstance(value, list):
        return "[\n" + ",\n".join(_write(inner) for inner in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_escape(key)} = {_write(inner)}" for key, inner in value.items()) + "}"
    return str(value)


@settings(max_examples=150)
@given(st.dictionaries(_names, st.dictionaries(_names, _values, max_size=4), max_size=4))
def test_every_path_of_any_document_has_its_own_line(document: dict[str, dict[str, object]]) -> None:
    lines = []
    for table, pairs in document.items():
        lines.append(f"[{_escape(table)}]")
        lines += [f"{_escape(key)} = {_write(value)}" for key, value in pairs.items()]
    text = "\n".join(lines)
    assert tomllib.loads(text) == document
    positions = Positions(text)
    for path in _paths(document):
        line = positions.line(path)
        assert line is not None
        if len(path) == 1:
            assert text.split("\n")[line - 1] == f"[{_escape(str(path[0]))}]"
        elif len(path) == 2:
            assert text.split("\n")[line - 1].startswith(f"{_escape(str(path[1]))} =")


@pytest.mark.parametrize("text", ["", "\n", "a=1", "a = [", "= 3", '"', "[", "a = {b", "[[x]]\n[x", "a = '''"])
def test_even_broken_text_ends(text: str) -> None:
    try:
        Positions(text)
    except IndexError:
        pytest.fail("the scanner must stop at the end of the text")
