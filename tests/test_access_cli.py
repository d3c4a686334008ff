"""fastsec access explain."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastsec.cli import main

FILE = """\
[identity]
certificate = "x.pem"
key = "x.key"
[trust]
anchors = ["root.pem"]
[access.a]
revision = 2
[access.a.roles]
"-1" = ["CONTROL:*/XCBR?$CO"]
[[route]]
name = "bay"
role = "server"
listen = "10.0.0.2:3782"
connect = "127.0.0.1:102"
peers = "any"
access = "a"
"""
SECOND = FILE[FILE.index("[[route]]") :].replace("bay", "other").replace("3782", "3783").replace('"a"', "true")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("--role VIEWER --service read --object A1LD0/GGIO1$ST$Ind1", 0, "VIEWER: read is allowed"),
        ("--role VIEWER --service write --object A1LD0/GGIO1$CO$x$Oper", 1, "lacks: CONTROL"),
        ("--role -1 --service write --object A1LD0/XCBR1$CO$Pos$Oper", 0, "-1: write is allowed"),
        ("--role -1 --service write --object A1LD0/CSWI1$CO$Pos$Oper", 1, "object: A1LD0/CSWI1$CO$Pos$Oper"),
        ("--role 0 --role -1 --service write --object A/XCBR1$CO$a --object A/XCBR2$CO$a", 0, "VIEWER and -1: write"),
        ("--service getNameList", 1, "without a role: getNameList is denied"),
        ("--service status", 0, "allowed"),
        ("--role ENGINEER --service write --list A1LD0/LLN0$ds", 1, "lacks: CONTROL"),
        ("--role ENGINEER --service read --list A1LD0/LLN0$ds", 0, "allowed"),
        ("--role ENGINEER --service defineNamedVariableList --list @/ds --object A/G$ST$a", 0, "allowed"),
        ("--role VIEWER --service defineNamedVariableList --list @/ds --object A/G$ST$a", 1, "lacks: DATASET"),
        ("--role ENGINEER --service deleteNamedVariableList", 0, "allowed"),
        ("--role ENGINEER --service read --object GGIO1", 1, "reason: what this variable is cannot be told"),
        ("--role ENGINEER --service read --object A/G$xx", 1, "reason: what this variable is cannot be told"),
        ("--role ENGINEER --service additionalService", 1, "reason: what additionalService does is not known"),
    ],
)
def test_explain(file: Path, arguments: str, status: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["access", "explain", str(file), *arguments.split()]) == status
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--role BOSS --service status", "BOSS: no role; write one of VIEWER"),
        ("--service Read", "Read: no MMS service"),
        ("--service read", "name what, with --object"),
        ("--service read --object A/B --list A/C", "name what, with --object"),
        ("--service status --route other", "name one of bay with --route"),
    ],
)
def test_wrong_questions(file: Path, arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["access", "explain", str(file), *arguments.split()]) == 2
    assert words in capsys.readouterr().err


def test_files(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = ["--role", "OPERATOR", "--service", "status"]
    file.write_text(FILE + SECOND, encoding="utf-8")
    assert main(["access", "explain", str(file), *question]) == 2
    assert "name one of bay, other" in capsys.readouterr().err
    assert main(["access", "explain", str(file), *question, "--route", "other"]) == 0
    assert 'route "other", access "default"' in capsys.readouterr().out
    file.write_text(FILE.replace('access = "a"', ""), encoding="utf-8")
    assert main(["access", "explain", str(file), *question]) == 2
    assert "no route has access" in capsys.readouterr().err
    file.write_text("x", encoding="utf-8")
    assert main(["access", "explain", str(file), *question]) == 2
