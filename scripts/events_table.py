"""Writes src/fastsec/data/raised.csv: where each event of the catalogue is raised, and which test brings it about.

Places come from the source, tests from the marker ``event`` that each such test is held to (tests/conftest.py).
Nothing is kept by hand but the reasons below for events that are not raised.

    python scripts/events_table.py           writes the file, and names events that lack something
    python scripts/events_table.py --check   only says whether the file is current; exit status 1 if not
"""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import itertools
import os
import sys
from pathlib import Path

import pytest

from fastsec import events, faults
from fastsec.pki import findings

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "fastsec"
TABLE = SOURCE / "data" / "raised.csv"
FIELDS = ("id", "where", "test", "reason")

# Modules that name events without raising them.
ELSEWHERE = (
    "pki/findings.py",
    "events.py",
    "gateway/words.py",
    "cli/",
    "demo/",
    "inspect/",
    "conformance/",
    "metrics.py",
)

# How else events are named: members of enumerations, functions whose first argument is the number.
ENUMS = {
    "Cert": ("IEC62351-9", findings.CERTIFICATE, findings.Cert),
    "Revocation": ("IEC62351-9", 4, findings.Revocation),
}
RAISERS = {"fault": ("IEC62351-9", 3)}
JUDGES = {"belongs_to": ("IEC62351-9", 3)}  # functions that return the number

# Why an event is not raised: by the longest beginning of its identifier.
REASONS = {
    "IEC62351-3:1.3": "TLS before 1.2 cannot be enabled",
    "IEC62351-3:1.19": "not detectable: OpenSSL handles KeyUpdate and does not tell",
    "IEC62351-4:18.": "XMPP environment not implemented",
    "IEC62351-5:": "part 5 (IEC 60870-5 and DNP3) not implemented",
    "IEC62351-6:": "GOOSE and sampled values not implemented",
    "IEC62351-8:1.9": "roles here grant rights by name, there are no operations to be unknown",
    "IEC62351-8:1.10": "profile of tokens with sequence numbers not implemented",
    "IEC62351-8:3.": "pull model (LDAP, OAuth, RADIUS) not implemented",
    "IEC62351-8:4.": "roles are not administered here, and no permission mapping in XML is read",
    "IEC62351-9:1.": "enrolment (SCEP, EST) not implemented",
    "IEC62351-9:5.": "group key management (GDOI) not implemented",
    "IEC62351-11:": "signed XML not implemented",
    "IEC62351-14:1.": "no logins of users",
    "IEC62351-14:2.": "no accounts of users",
    "IEC62351-14:3.": "values are not forced here",
    "IEC62351-14:5.": "requests are the device's; what the gateway refuses itself has events of IEC62351-8",
    "IEC62351-14:6.1": "software is updated by the operating system",
    "IEC62351-14:6.2": "software is updated by the operating system",
    "IEC62351-14:6.3": "keys are read at each start; their use shows in what follows",
    "IEC62351-14:6.4": "a key that cannot be read is INVALID_CONFIG_OR_FW",
    "IEC62351-14:6.5": "keys are not transferred",
    "IEC62351-14:6.6": "keys are not transferred",
    "IEC62351-14:6.7": "configuration is not exported",
    "IEC62351-14:6.9": "who may write the configuration is the operating system's business",
    "IEC62351-14:6.11": "the operating system's event",
    "IEC62351-14:6.13": "configuration is not signed",
    "IEC62351-14:7.": "the operating system's events",
    "IEC62351-14:8.": "the operating system's events",
    "IEC62351-14:9.1": "the log is a file; the operating system knows who reads it",
    "IEC62351-14:9.2": "the log is a file; the operating system knows who reads it",
    "IEC62351-14:9.4": "an event of collectors",
}


# --- places -----------------------------------------------------------------------------------------------------------
def places() -> dict[str, set[str]]:
    """By event: the modules that raise it."""
    unique: dict[str, list[str]] = {}
    for entry in events.CATALOGUE.values():
        unique.setdefault(entry.mnemonic, []).append(entry.id)
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith(ELSEWHERE):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants: dict[str, list[object]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        constants.setdefault(target.id, []).extend(_values(node.value, {}))
        for node in ast.walk(tree):
            for identifier in _named(node, unique) | _numbered(node, constants):
                found.setdefault(identifier, set()).add(name)
    for group, checks in faults.CHECKS.items():
        for check, (number, _) in checks.items():
            place = f"faults.py ({group.name}: {check})"
            found.setdefault(f"{events.DOMAIN_E2E}:{int(group)}.{number}", set()).add(place)
    for group, diags in faults.RECEIVED.items():
        for diag, number in diags.items():
            told = "no diagnostic" if diag is None else f"diagnostic {int(diag)}"
            place = f"faults.py ({group.name}: {told})"
            found.setdefault(f"{events.DOMAIN_E2E}:{int(group)}.{number}", set()).add(place)
    group = faults.Group.HANDSHAKE_SEC_REJECT
    listed = f"{events.DOMAIN_E2E}:{int(group)}.{faults.ENCRYPTION_LIST_REJECTED}"
    found.setdefault(listed, set()).add(f"faults.py ({group.name}: ENCRYPTION_LIST_REJECTED)")
    return found


def _named(node: ast.AST, unique: dict[str, list[str]]) -> set[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(unique.get(node.value, ())) == 1:
        return set(unique[node.value])
    return set()


def _numbered(node: ast.AST, constants: dict[str, list[object]]) -> set[str]:
    """Events by number: ``event("IEC62351-9", 2, 1, ...)``, ``Cert.EXPIRED``, ``fault(8, ...)``, "IEC62351-3:1.2"."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ENUMS:
        domain, group, members = ENUMS[node.value.id]
        return _known(domain, group, getattr(members, node.attr, None))
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
        domain, _, place = node.value.partition(":")
        group, _, number = place.partition(".")
        return _known(domain, int(group), int(number)) if group.isdigit() and number.isdigit() else set()
    if isinstance(node, ast.FunctionDef) and node.name in JUDGES:
        returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value is not None]
        numbers = [number for value in returned for number in _values(value, {})]
        return {found for number in numbers for found in _known(*JUDGES[node.name], number)}
    if not isinstance(node, ast.Call):
        return set()
    given = [_values(argument, constants) for argument in node.args[:3]]
    if isinstance(node.func, ast.Name) and node.func.id in RAISERS and given:
        given = [*([part] for part in RAISERS[node.func.id]), *given]
    if len(given) < 3:
        return set()
    return {found for values in itertools.product(*given[:3]) for found in _known(*values)}


def _values(argument: ast.AST, constants: dict[str, list[object]]) -> list[object]:
    if isinstance(argument, ast.IfExp):
        return _values(argument.body, constants) + _values(argument.orelse, constants)
    if isinstance(argument, ast.Constant):
        return [argument.value]
    return constants.get(argument.id, []) if isinstance(argument, ast.Name) else []


def _known(*place: object) -> set[str]:
    entry = events.CATALOGUE.get(place)  # type: ignore[call-overload]  # whatever it is
    return set() if entry is None else {entry.id}


# --- tests ------------------------------------------------------------------------------------------------------------
class Collected:
    """A plugin of pytest that notes who promises what."""

    def __init__(self) -> None:
        self.tests: dict[str, str] = {}
        self.errors: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for marker in item.iter_markers("event"):
                for identifier in marker.args:
                    self.tests.setdefault(str(identifier), item.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(report.nodeid)


def tests() -> dict[str, str]:
    """By event: the first test that promises to bring it about."""
    plugin = Collected()
    output = io.StringIO()
    os.chdir(ROOT)
    with contextlib.redirect_stdout(output):
        pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "tests"], plugins=[plugin])
    if plugin.errors:
        raise SystemExit(f"tests cannot be collected: {', '.join(plugin.errors)}")
    return plugin.tests


# --- the table --------------------------------------------------------------------------------------------------------
def reason(identifier: str) -> str:
    """Why an event is not raised."""
    fitting = [key for key in REASONS if identifier == key or (key[-1] in ".:" and identifier.startswith(key))]
    return REASONS[max(fitting, key=len)] if fitting else ""


def table() -> tuple[str, list[str]]:
    """The file's text, and what is missing."""
    where, who = places(), tests()
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(FIELDS)
    missing = []
    for entry in events.CATALOGUE.values():
        place, test = "; ".join(sorted(where.get(entry.id, ()))), who.get(entry.id, "")
        why = "" if place or test else reason(entry.id) or "not raised"
        if not place and not test and why == "not raised":
            missing.append(f"{entry.id} {entry.mnemonic}: neither raised nor a reason why not")
        elif place and not test:
            missing.append(f"{entry.id} {entry.mnemonic}: raised in {place}, but by no test")
        elif test and not place:
            missing.append(f"{entry.id} {entry.mnemonic}: brought about by {test}, but raised nowhere that is known")
        writer.writerow((entry.id, place, test, why))
    return output.getvalue(), missing


def main(arguments: list[str]) -> int:
    """Write or check the file."""
    text, missing = table()
    current = TABLE.exists() and TABLE.read_text(encoding="utf-8") == text
    if "--check" in arguments:
        if not current:
            print(f"{TABLE.relative_to(ROOT)} is not current; run: make events")
        return 0 if current else 1
    TABLE.write_text(text, encoding="utf-8")
    for line in missing:
        print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
