"""A statement as text, Markdown or JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import chain

from fastsec.conformance.model import Row, Statement, Table


def _support(row: Row) -> str:
    return "yes" if row.supported else "no"


def _columns(table: Table) -> tuple[list[str], list[list[str]]]:
    """Heading and lines; a column that would be empty is left out."""
    asked, noted = any(row.asked for row in table.rows), any(row.note for row in table.rows)
    names = ["item", *(["asked"] if asked else []), "supported", *(["remarks"] if noted else []), "test"]
    lines = [
        [row.item, *([row.asked] if asked else []), _support(row), *([row.note] if noted else []), row.test]
        for row in table.rows
    ]
    return names, lines


def text(found: Statement) -> str:
    """For a terminal."""
    lines: list[str] = []
    for table in found.tables:
        names, rows = _columns(table)
        names, rows = names[:-1], [row[:-1] for row in rows]  # tests are in the other formats
        widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
        lines += ["", f"{table.title} ({table.reference})", ""]
        for row in chain([names], rows):
            lines.append("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    lines += ["", "Choices of ours where public facts are silent [C]", ""]
    for choice in found.choices:
        lines += [f"  {choice.topic}: {choice.text}", f"      {choice.where}"]
    return "\n".join(lines[1:]) + "\n"


def _cell(value: str) -> str:
    return value.replace("|", "\\|")


def _code(where: str) -> str:
    """Files and names in it, as code."""
    return "; ".join(f"`{part}`" for part in where.split("; "))


def markdown(found: Statement) -> str:
    """For docs/conformance.md."""
    lines: list[str] = []
    for table in found.tables:
        names, rows = _columns(table)
        lines += [f"### {table.title}", "", f"{table.reference}.", ""]
        lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        for row in rows:
            cells = [*map(_cell, row[:-1]), f"`{row[-1]}`"]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["### The choices that are ours [C]", "", "| topic | choice | set in |", "|---|---|---|"]
    for choice in found.choices:
        lines.append(f"| {_cell(choice.topic)} | {_cell(choice.text)} | {_code(choice.where)} |")
    return "\n".join(lines) + "\n"


def as_json(found: Statement) -> str:
    """For programs."""
    from fastsec import __version__

    return json.dumps({"fastsec": __version__, **asdict(found)}, indent=1, ensure_ascii=False) + "\n"
