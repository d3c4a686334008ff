"""The hash chain: whatever is done to the lines afterwards shows, and where."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec.eventlog import chain
from fastsec.eventlog.chain import Head

KEY = b"k" * 32


def entry(number: int) -> bytes:
    return b'<105>1 t h a - IEC62351-14:1 [62351-14@41912 ID="x" SqNum="%d"]' % number


def files_of(key: bytes | None, *counts: int) -> tuple[list[tuple[str, bytes]], Head]:
    head, number, found = Head(), 1, []
    for index, count in enumerate(counts):
        contents = [chain.header(head, key), *(entry(number + each) for each in range(count))]
        number += count
        data, head = chain.append(head, contents, key)
        found.append((f"log.{index}", data))
    return found, head


def changed(files: list[tuple[str, bytes]], which: int, change: object) -> list[tuple[str, bytes]]:
    result = list(files)
    lines = result[which][1].splitlines(keepends=True)
    lines = change(lines)  # type: ignore[operator]
    result[which] = (result[which][0], b"".join(lines))
    return result


@pytest.mark.parametrize("key", [None, KEY])
def test_what_was_written_verifies_in_any_order_of_the_files(key: bytes | None) -> None:
    files, head = files_of(key, 5, 3, 0, 4)
    found = chain.verify(reversed(files), key, head)
    assert not found.findings
    assert (found.head, found.first, found.keyed) == (head, 0, key is not None)
    assert head.number == 4 + 12
    # The oldest file has been rotated away: what is left is whole from there on.
    found = chain.verify(files[1:], key, head)
    assert not found.findings
    assert found.first == 6


def test_the_links_are_what_is_documented() -> None:
    (file,), _ = files_of(KEY, 2)
    previous = bytes(32)
    for text in file[1].splitlines():
        stated, content = text[:64], text[65:]
        previous = hmac.new(KEY, previous + content, hashlib.sha256).digest()
        assert stated.decode() == previous.hex()
    (file,), _ = files_of(None, 1)
    first = file[1].splitlines()[0]
    assert first[:64].decode() == hashlib.sha256(bytes(32) + first[65:]).hexdigest()


TAMPERED = {
    "content": (lambda lines: [*lines[:3], lines[3].replace(b"<105>", b"<109>"), *lines[4:]], "log.1:4: changed"),
    "hash": (lambda lines: [*lines[:3], b"0" * 64 + lines[3][64:], *lines[4:]], "log.1:4: changed"),
    "no hash": (lambda lines: [*lines[:3], lines[3][65:], *lines[4:]], "log.1:4: no line of the chain"),
    "removed": (
        lambda lines: [*lines[:3], *lines[5:]],
        "log.1:4: records removed before it (SqNum 9 to 10), or it was changed",
    ),
    "inserted": (
        lambda lines: [*lines[:3], b"%s %s\n" % (b"0" * 64, entry(99)), *lines[3:]],
        "log.1:5: line 4 was inserted before this one",
    ),
    "doubled": (lambda lines: [*lines[:4], lines[3], *lines[4:]], "log.1:5: line 4 was inserted before this one"),
    "swapped": (
        lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
        "log.1:4: out of order: belongs after line 5",
    ),
    "header": (lambda lines: lines[1:], "log.1:1: the first line is missing"),
    "torn": (lambda lines: [*lines[:-1], lines[-1][:-5]], "log.1:7: the last line is incomplete"),
    "cut": (
        lambda lines: lines[:-2],
        "log.2:1: does not go on where the file before ends: lines missing between them: 2",
    ),
    "lengthened": (
        lambda lines: [*lines, chain.append(Head(0, bytes.fromhex(lines[-1][:64].decode())), [entry(12)], None)[0]],
        "log.2:1: does not go on where the file before ends: records were removed, added or changed there",
    ),
    "emptied": (lambda lines: [], "log.1: is empty"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_tampering_shows_where(what: str) -> None:
    change, expected = TAMPERED[what]
    files, head = files_of(None, 6, 6, 6)
    found = chain.verify(changed(files, 1, change), None, head)
    assert any(str(finding).startswith(expected) for finding in found.findings), [str(f) for f in found.findings]


def test_a_missing_file_shows() -> None:
    files, head = files_of(None, 6, 6, 6)
    (finding,) = chain.verify([files[0], files[2]], None, head).findings
    assert str(finding) == "log.2:1: does not go on where the file before ends: lines missing between them: 7"


def test_a_cut_end_shows_with_the_head_alone() -> None:
    files, head = files_of(None, 6, 6)
    cut = changed(files, 1, lambda lines: lines[:-2])
    assert not chain.verify(cut).findings  # nothing in the files tells
    (finding,) = chain.verify(cut, None, head).findings
    assert str(finding) == "log.1: records are missing at the end: 2"
    replaced = changed(files, 1, lambda lines: [*lines[:-1], forged_after(lines[-2])])
    (finding,) = chain.verify(replaced, None, head).findings
    assert str(finding) == "log.1: the last record is not the one that was written last"


def forged_after(text: bytes) -> bytes:
    return chain.append(Head(0, bytes.fromhex(text[:64].decode())), [entry(77)], None)[0]


def test_without_the_key_nobody_makes_a_line() -> None:
    files, head = files_of(KEY, 6)
    forged = changed(files, 0, lambda lines: [*lines[:-1], forged_after(lines[-2])])
    assert "log.0:7: " in str(chain.verify(forged, KEY, head).findings[0])
    assert "give its file" in str(chain.verify(files).findings[0])
    assert chain.verify(files, b"x" * 32).findings
    assert "without a key" in str(chain.verify(files_of(None, 2)[0], KEY).findings[0])


@given(st.data(), st.sampled_from([None, KEY]))
def test_any_octet_of_any_file(data: st.DataObject, key: bytes | None) -> None:
    files, head = files_of(key, 4, 4)
    which = data.draw(st.integers(0, 1))
    name, text = files[which]
    at = data.draw(st.integers(0, len(text) - 1))
    octet = data.draw(st.integers(0, 255).filter(lambda value: value != text[at]))
    files[which] = (name, text[:at] + bytes([octet]) + text[at + 1 :])
    assert chain.verify(files, key, head).findings


def test_the_head_says_what_it_was() -> None:
    head = Head(1234, b"\x01" * 32)
    for key in (None, KEY):
        text = chain.sealed(head, key)
        assert chain.unsealed(text, key) == head
        assert chain.unsealed(text, b"other") is None
        for at in range(len(text)):
            damaged = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
            if key is not None:
                assert chain.unsealed(damaged, key) is None
    assert chain.unsealed(b"", None) is None


def test_a_thousand_breaks_are_told_and_no_more() -> None:
    (file,), head = files_of(None, 3000)
    broken = changed([file], 0, lambda lines: [lines[0], *(text.replace(b"<105>", b"<109>") for text in lines[1:])])
    assert len(chain.verify(broken, None, head).findings) == chain.FINDINGS_MAX
