"""The narrators say the same, with rich and without."""

from __future__ import annotations

import io
import re

import pytest

from fastsec.demo import output


def tell(out: output.Narrator) -> None:
    out.step(3, "A title")
    out.say("saying [this]")
    out.proof("it holds")
    out.log("der", "IEC62351-4:11.5 ENCR_BAD_ICV")
    out.dump("octets", bytes(range(120)))
    out.fail("it does not")
    out.end("the end")


def plain() -> str:
    stream = io.StringIO()
    tell(output.PlainNarrator(stream))
    return stream.getvalue()


@pytest.mark.parametrize("word", ["3. A title", "saying [this]", "ok: it holds", "[der] IEC62351-4:11.5", "the end"])
def test_plain_narrator(word: str) -> None:
    assert word in plain()


def test_rich_narrator_says_the_same() -> None:
    stream = io.StringIO()
    out = output.narrator(stream)
    assert isinstance(out, output.RichNarrator)
    tell(out)
    words = re.findall(r"[\w:.-]{3,}", plain())
    assert all(word in stream.getvalue() for word in words if word not in ("ok:", "FAILED:"))


def test_without_rich_it_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(output.importlib, "import_module", missing)
    assert isinstance(output.narrator(io.StringIO()), output.PlainNarrator)


@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_without_utf8_is_no_reason_to_stop(rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rich:
        monkeypatch.setattr(output, "RichNarrator", lambda stream, *_parts: output.PlainNarrator(stream))
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    out = output.narrator(stream)
    out.say("client → gateway")
    stream.flush()
    assert b"client ? gateway" in raw.getvalue()


def test_hexdump() -> None:
    assert output.hexdump(b"MMS\x00\xff") == [f"0000  {'4d 4d 53 00 ff':<47}  MMS.."]
    lines = output.hexdump(bytes(100), limit=32)
    assert len(lines) == 3
    assert "68 more octets" in lines[-1]
