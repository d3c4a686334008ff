"""TimeStamp: the text that is emitted, the texts that are accepted, their order and their milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec.errors import DecodeError, LocalError
from fastsec.secpdu.timestamp import TIME_KEY_DIGITS, check_time, is_time, time_key, time_text, time_utc_ms
from reference.secpdu import time_digits as reference_digits
from reference.tlv import Fault
from reference.transfer import time_ms as reference_ms
from reference.transfer import time_text as reference_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = -62_167_219_200_000, 253_402_300_799_999  # years 0000 and 9999


@given(st.integers(-62_135_596_800_000, LAST))
def test_text_of_a_moment(utc_ms: int) -> None:
    text = time_text(utc_ms)
    assert len(text) == 19
    moment = EPOCH + timedelta(milliseconds=utc_ms)
    assert text == f"{moment.year:04}{moment:%m%d%H%M%S}.{moment.microsecond // 1000:03}Z"
    assert time_utc_ms(text) == utc_ms
    assert time_key(text) == text[:14] + text[15:18] + "000000"


@given(st.integers(0, LAST))
def test_the_reference_agrees(utc_ms: int) -> None:
    text = time_text(utc_ms)
    assert reference_text(utc_ms) == text
    assert reference_ms(text) == utc_ms


@pytest.mark.parametrize(
    ("utc_ms", "text"),
    [
        (0, "19700101000000.000Z"),
        (-1, "19691231235959.999Z"),
        (951_782_400_000, "20000229000000.000Z"),
        (4_107_542_399_999, "21000228235959.999Z"),
        (4_107_542_400_000, "21000301000000.000Z"),
        (FIRST, "00000101000000.000Z"),
        (LAST, "99991231235959.999Z"),
    ],
)
def test_edges_of_the_calendar(utc_ms: int, text: str) -> None:
    assert time_text(utc_ms) == text
    assert time_utc_ms(text) == utc_ms


@pytest.mark.parametrize("utc_ms", [FIRST - 1, LAST + 1])
def test_moments_without_a_text(utc_ms: int) -> None:
    with pytest.raises(LocalError):
        time_text(utc_ms)


@pytest.mark.parametrize(
    ("text", "key", "utc_ms"),
    [
        ("20261120114419Z", "20261120114419000000000", 1_795_175_059_000),
        ("20261120114419.1Z", "20261120114419100000000", 1_795_175_059_100),
        ("20261120114419,12Z", "20261120114419120000000", 1_795_175_059_120),
        ("20261120114419.123456789Z", "20261120114419123456789", 1_795_175_059_123),
        ("20161231235960Z", "20161231235960000000000", 1_483_228_800_000),
        ("20161231235960.999Z", "20161231235960999000000", 1_483_228_800_999),
        ("20240229000000Z", "20240229000000000000000", 1_709_164_800_000),
    ],
)
def test_forms_that_are_accepted(text: str, key: str, utc_ms: int) -> None:
    check_time(text)
    assert time_key(text) == key
    assert len(key) == TIME_KEY_DIGITS
    assert time_utc_ms(text) == utc_ms


REFUSED = [
    "",
    "20261120114419",
    "20261120114419z",
    "20261120T114419Z",
    "202611201144Z",
    "2026112011Z",
    "20261120114419.Z",
    "20261120114419,Z",
    "20261120114419.1234567890Z",
    "20261120114419.12.3Z",
    "20261120114419+0100",
    "20261120114419.123+0000",
    "261120114419Z",
    " 20261120114419Z",
    "20261120114419Z ",
    "20261120114419Z\n",
    "20261320114419Z",
    "20260020114419Z",
    "20261100114419Z",
    "20261131114419Z",
    "20261232114419Z",
    "20260229114419Z",
    "21000229114419Z",
    "20260230114419Z",
    "20260431114419Z",
    "20261120244419Z",
    "20261120116019Z",
    "20261120114461Z",
    "20261120114419.12٣Z",
    "２0261120114419Z",
]


@pytest.mark.parametrize("text", REFUSED)
def test_forms_that_are_refused(text: str) -> None:
    assert not is_time(text)
    for function in (check_time, time_key, time_utc_ms):
        with pytest.raises(DecodeError) as caught:
            function(text)
        assert caught.value.check == "protocol-error"


@given(st.text("0123456789.,Z", max_size=26) | st.from_regex(r"\d{14}([.,]\d{0,10})?Z", fullmatch=True))
def test_the_reference_judges_alike(text: str) -> None:
    try:
        digits = reference_digits(text)
    except Fault:
        digits = ""
    assert is_time(text) == bool(digits)
    if digits:
        assert time_key(text) == digits


@given(st.integers(0, LAST), st.integers(0, LAST))
def test_keys_order_as_moments_do(one: int, other: int) -> None:
    assert (time_key(time_text(one)) < time_key(time_text(other))) == (one < other)
