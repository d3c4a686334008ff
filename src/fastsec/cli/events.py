"""``fastsec events``: the event catalogue, and checking an event file."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

USAGE: Final = """\
usage: fastsec events list [--domain DOMAIN] [--raised | --not-raised] [--json]
       fastsec events verify [--key FILE] [--json] FILE...

list      the security events of IEC 62351-14: where each is raised, and which test makes a peer bring it about; or why
          it is not raised. DOMAIN is, e.g., 62351-4 or IEC62351-4.
verify    check the hash chain of event files: changed, removed, inserted and reordered records, and records missing at
          the end (by FILE.head, if it is there). Give the file and those rotated away together: events.log*

  --key FILE    the key of the chain ([events] chain_key)
  --json        for programs

Exit status: 0 fine, 1 something is wrong with the files, 2 wrong use.
"""

EXIT_USAGE: Final = 2


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand; the exit status."""
    args = list(arguments)
    if not args or args[0] in ("-h", "--help", "help") or "--help" in args:
        (sys.stdout if args else sys.stderr).write(USAGE)
        return 0 if args else EXIT_USAGE
    what = {"list": _list, "verify": _verify}.get(args[0])
    if what is None:
        print(f"fastsec events: no command {args[0]!r}; commands are list, verify", file=sys.stderr)
        return EXIT_USAGE
    try:
        return what(args[1:])
    except _Usage as error:
        print(f"fastsec events {args[0]}: {error}", file=sys.stderr)
        return EXIT_USAGE


class _Usage(Exception):
    """Wrong use."""


def _options(args: list[str], flags: Sequence[str], values: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    found: dict[str, str] = {}
    rest: list[str] = []
    given = iter(args)
    for arg in given:
        name, equals, value = arg.partition("=")
        if name in flags and not equals:
            found[name] = "yes"
        elif name in values:
            found[name] = value if equals else next(given, "")
            if not found[name]:
                raise _Usage(f"{name} needs a value")
        elif arg.startswith("-") and arg != "-":
            raise _Usage(f"there is no option {name}")
        else:
            rest.append(arg)
    return found, rest


# --- list -------------------------------------------------------------------------------------------------------------
def raised() -> dict[str, dict[str, str]]:
    """By identifier: ``where``, ``test`` and ``reason`` (not raised), from ``data/raised.csv``."""
    text = resources.files("fastsec").joinpath("data/raised.csv").read_text(encoding="utf-8")
    return {row["id"]: row for row in csv.DictReader(text.splitlines())}


def _rows(domain: str) -> Iterator[dict[str, str]]:
    from fastsec.events import CATALOGUE

    known = raised()
    for (of, _, _), entry in CATALOGUE.items():
        if domain in ("", of):
            row = known.get(entry.id, {})
            yield {
                "id": entry.id,
                "mnemonic": entry.mnemonic,
                "severity": entry.severity,
                "edition": entry.edition,
                "text": entry.text,
                "note": entry.note,
                "where": row.get("where", ""),
                "test": row.get("test", ""),
                "reason": row.get("reason", ""),
            }


def _list(args: list[str]) -> int:
    options, rest = _options(args, ("--json", "--raised", "--not-raised"), ("--domain",))
    if rest:
        raise _Usage(f"what is {rest[0]!r}? a domain is given with --domain")
    domain = options.get("--domain", "").upper()
    domain = f"IEC{domain}" if domain and not domain.startswith("IEC") else domain
    rows = list(_rows(domain))
    if not rows:
        from fastsec.events import CATALOGUE

        raise _Usage(f"no domain {domain}; there are {', '.join(dict.fromkeys(key[0] for key in CATALOGUE))}")
    if "--raised" in options:
        rows = [row for row in rows if not row["reason"]]
    if "--not-raised" in options:
        rows = [row for row in rows if row["reason"]]
    if "--json" in options:
        json.dump(rows, sys.stdout, indent=1)
        print()
        return 0
    for row in rows:
        print(f"{row['id']} {row['mnemonic']} ({row['severity']}, {row['edition']}): {row['text']}")
        if row["note"]:
            print(f"    note: {row['note']}")
        if row["reason"]:
            print(f"    not raised: {row['reason']}")
            continue
        print(f"    raised in {row['where'] or 'no module that is known'}")
        print(f"    test {row['test'] or 'none yet'}")
    count = sum(not row["reason"] for row in rows)
    print(f"{len(rows)} events, {count} of them raised")
    return 0


# --- verify -----------------------------------------------------------------------------------------------------------
def _verify(args: list[str]) -> int:
    from fastsec.eventlog import chain

    options, rest = _options(args, ("--json",), ("--key",))
    if not rest:
        raise _Usage("name the event file, and those rotated away: events.log*")
    key = _read(Path(options["--key"])) if "--key" in options else None
    paths = [path for path in map(Path, rest) if path.suffix not in (".head", ".number") and not path.is_dir()]
    if not paths:
        raise _Usage("name the event file itself, too")
    head = None
    findings: list[chain.Finding] = []
    for path in paths:
        beside = Path(f"{path}.head")
        if beside.exists():
            head = chain.unsealed(_read(beside), key)
            if head is None:
                findings.append(chain.Finding(str(beside), 0, "is damaged, or was made with another key"))
    found = chain.verify([(str(path), _read(path)) for path in paths], key, head)
    findings += found.findings
    number = found.head.number - found.first
    if "--json" in options:
        result = {
            "ok": not findings,
            "findings": [{"file": each.file, "line": each.line, "text": each.text} for each in findings],
            "lines": number,
            "before": found.first,
            "keyed": found.keyed,
            "end_known": head is not None,
        }
        json.dump(result, sys.stdout, indent=1)
        print()
        return 1 if findings else 0
    for each in findings:
        print(each)
    if not findings:
        print(f"{number} lines in {len(paths)} files: whole and in order")
    if found.first:
        print(f"{found.first} lines of the chain were before these: rotated away, or not given")
    if head is None and not findings:
        print("there is no .head file beside: records missing at the end would not show")
    if not found.keyed and not findings:
        print("made without a key: whoever may write the files can have made the whole chain anew")
    return 1 if findings else 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _Usage(f"{path}: {error.strerror}") from None
