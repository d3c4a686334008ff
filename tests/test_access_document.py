"""docs/access.md against the code: every table, and the example."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fastsec import limits
from fastsec.access import needs, rights
from fastsec.access.judge import Judge
from fastsec.access.policy import AccessPolicy, Grant
from fastsec.access.rights import Right
from fastsec.cli import main
from fastsec.gateway import settings
from fastsec.mms import services
from fastsec.pki.roles import ROLE_NAMES, RoleGrant
from mms_requests import read, request, variables, write

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "access.md").read_text(encoding="utf-8")
HEAD = '[identity]\ncertificate = "x.pem"\nkey = "x.key"\n[trust]\nanchors = ["root.pem"]\n'


def rows(heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading."""
    start = TEXT.index(f"\n| {heading} |")
    table = TEXT[start + 1 :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_the_default_map() -> None:
    found = [(name, int(number), tuple(granted.split(", "))) for name, number, granted in rows("role")]
    assert found == [(row.name, row.role, row.grants) for row in rights.DEFAULT]
    assert tuple(rights.ROLE_NAMES) == ROLE_NAMES
    for name in rights.NAMES_2011:
        assert f"`{name}`" in TEXT


def test_the_functional_constraints() -> None:
    found: dict[str, tuple[str, str]] = {}
    for names, reading, writing in rows("functional constraint")[:-2]:
        for name in names.split(", "):
            found[name] = reading.split(",")[0], writing.split(";")[0]
    assert found == {name: tuple(map(rights.names, pair)) for name, pair in needs.CONSTRAINTS.items()}


def test_the_services() -> None:
    found: dict[str, str] = {}
    for names, needed in rows("MMS service"):
        for name in names.split(", "):
            found[name] = needed.split(";")[0].split(", and")[0]
    unknown = found.pop("and numbers that ISO 9506-2 does not have"), found.pop("additionalService")
    assert unknown == ("cannot be told",) * 2
    table = {name: rights.names(needed) or "nothing" for name, needed in needs.SERVICES.items()}
    assert {**found, "read": "nothing", "write": "nothing"} == table
    assert set(table) == set(services.NAMES.values()) - needs.UNKNOWN_SERVICES


def test_the_answers() -> None:
    judge = Judge(AccessPolicy(default=(Grant(Right.LISTOBJECTS),)), ())
    for body, code in ((read(variables("a$ST$b")), 3), (write(variables("a$CF$b")), 3)):
        refusal = judge.refusal(request(body))
        assert refusal is not None
        assert refusal[1] is not None
        assert refusal[1][-1] == code
    words = " ".join(TEXT.split())
    assert f"more than {limits.OUR_MMS_VARIABLES_MAX} variables" in words
    assert f"{limits.OUR_ACCESS_TOLD} denials per minute of one association" in words
    assert f"and {limits.OUR_ACCESS_TOLD_ROUTE} of a whole route" in words
    assert f"({limits.OUR_ACCESS_VERDICTS} for each set of roles)" in words
    assert f"of up to {limits.OUR_ACCESS_VERDICT_OCTETS} octets" in words


def test_the_example() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
    policy = settings.parse(HEAD + text, Path("x.toml")).routes[0].access
    assert policy is not None

    def operates(role: int, item: str) -> bool:
        judge = Judge(policy, (RoleGrant(role, "", 0, "IEC62351-8", "certificate"),))
        return judge.refusal(request(write(variables(item)))) is None

    assert operates(1, "XCBR1$CO$Pos$Oper")
    assert not operates(1, "XCBR1")
    assert not operates(1, "CSWI1$CO$Pos$Oper")
    assert not operates(-1, "XCBR1$CO$Pos$Oper")


def test_the_explanation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
    (shown,) = re.findall(r"```\n\$ fastsec (.*?)```", TEXT, re.S)
    command, _, output = shown.partition("\n")
    (tmp_path / "der.toml").write_text(HEAD + text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)) == 1
    assert capsys.readouterr().out == output
