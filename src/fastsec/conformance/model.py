"""The parts of a conformance statement: plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes:
        item: what it is about.
        supported: whether this installation does it.
        asked: what the standard asks: ``m`` mandatory, ``r`` recommended, ``o`` optional, empty: not public.
        note: a value, a restriction; where it is not supported, why.
        test: the test that shows it, ``path::function``.
    """

    item: str
    supported: bool
    asked: str = ""
    note: str = ""
    test: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        title: its heading.
        reference: standard and clause.
        rows: its lines.
    """

    title: str
    reference: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of ours where public facts are silent, [C].

    Attributes:
        topic: what it is about.
        text: what was chosen.
        where: file, and the name in it, where it is set.
    """

    topic: str
    text: str
    where: str


@dataclass(frozen=True, slots=True)
class Statement:
    """All of it."""

    tables: tuple[Table, ...]
    choices: tuple[Choice, ...]
