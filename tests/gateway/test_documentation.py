"""docs/gateway.md names every key there is, and its examples are accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastsec.gateway import settings
from fastsec.gateway.model import SettingsError

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8") if (ROOT / "docs").exists() else ""

HEAD = '[identity]\ncertificate = "x.pem"\nkey = "x.key"\n[trust]\nanchors = ["root.pem"]\n'


def examples() -> list[tuple[str, str]]:
    """The left and the right column of each TOML block."""
    found = []
    for block in re.findall(r"```toml\n(.*?)```", TEXT, re.S):
        left = "\n".join(line.split("#")[0].rstrip() for line in block.splitlines())
        right = "\n".join(line.split("#")[1].strip() if "#" in line else "" for line in block.splitlines())
        found.append((left, "\n".join(line for line in right.splitlines() if line[:1] == "[" or " = " in line)))
    return found


@pytest.mark.parametrize("number", range(2))
def test_examples_are_accepted(number: int) -> None:
    left, right = examples()[number]
    for text in (left, right):
        body = text if "[identity]" in text else HEAD + text
        assert settings.parse(body, Path("x.toml")).routes


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("[identity]", "[identity]\n?=1\n"),
        ("[trust]", "[trust]\n?=1\n"),
        ("[policy]", "[policy]\n?=1\n"),
        ("[tls]", "[tls]\n?=1\n"),
        ("[gateway]", "[gateway]\n?=1\n"),
        ("[log]", "[log]\n?=1\n"),
        ("[[route]]", "[[route]]\n?=1\n"),
        ("[route.near]", "[[route]]\n[route.near]\n?=1\n"),
        ("[route.near.local]", "[[route]]\n[route.near.local]\n?=1\n"),
    ],
)
def test_every_key_is_documented(where: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.parse(text.replace("?", "zzzzzz"), Path("x.toml"))
    (message,) = [str(problem) for problem in caught.value.problems if "zzzzzz" in str(problem)]
    assert where in message
    for key in message.split("known here: ")[1].split(", "):
        assert re.search(rf"`(\[route\.near\.)?([a-z]+\.)?{key}[`\]]", TEXT), f"{key} of {where} is not documented"
