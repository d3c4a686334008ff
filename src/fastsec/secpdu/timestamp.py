"""TimeStamp ::= GeneralizedTime of the SecPDUs (62351-4 TimeStamp): text, order and UTC milliseconds."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from fastsec.errors import DecodeError, LocalError
from fastsec.secpdu.fields import TIME_PATTERN

_MATCH: Final = re.compile(TIME_PATTERN).fullmatch
_DAY_MS: Final = 86_400_000
_DAYS_IN_MONTH: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_UTC_MS_RANGE: Final = range(-62_167_219_200_000, 253_402_300_800_000)  # years 0000 to 9999
TIME_KEY_DIGITS: Final = 23


def time_text(utc_ms: int) -> str:
    """The TimeStamp that is emitted for a moment: exactly 19 characters ``YYYYMMDDhhmmss.sssZ``.

    Arguments:
        utc_ms: milliseconds since 1970-01-01T00:00:00Z, in the years 0000 to 9999; else LocalError.
    """
    if utc_ms not in _UTC_MS_RANGE:
        raise LocalError("time_text: milliseconds outside the years 0000 to 9999")
    days, ms = divmod(utc_ms, _DAY_MS)
    seconds, ms = divmod(ms, 1000)
    return f"{_date_text(days)}{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}.{ms:03}Z"


@lru_cache(maxsize=4)
def _date_text(days: int) -> str:
    """YYYYMMDD of a day counted from 1970-01-01; mostly today's."""
    # Days to calendar date over eras of 400 years that begin on 1 March, so that leap days come last.
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year = 400 * era + year_of_era + (month <= 2)
    return f"{year:04}{month:02}{day:02}"


def is_time(text: str) -> bool:
    """Whether ``text`` is a TimeStamp: ``YYYYMMDDhhmmss``, 0 to 9 digits of fraction after a dot or comma, ``Z``; a
    date that exists; second 60 allowed."""
    if _MATCH(text) is None:
        return False
    if text[6:8] <= "28":
        return True
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return day <= _DAYS_IN_MONTH[month] - (month == 2 and not leap)


def check_time(text: str) -> None:
    """DecodeError unless ``text`` is a TimeStamp, see ``is_time``."""
    if not is_time(text):
        raise DecodeError("not a TimeStamp", step="time")


@lru_cache(maxsize=256)
def time_key(text: str) -> str:
    """What orders and equates TimeStamps: their 23 digits, the fraction padded with zeros to nine.

    DecodeError if ``text`` is not a TimeStamp (see ``is_time``).
    """
    check_time(text)
    return text[:14] + text[15:-1].ljust(9, "0")


@lru_cache(maxsize=256)
def time_utc_ms(text: str) -> int:
    """Milliseconds since 1970-01-01T00:00:00Z of a TimeStamp, parts of a millisecond cut off.

    Second 60 counts as the second after 59. DecodeError if ``text`` is not a TimeStamp (see ``is_time``).
    """
    check_time(text)
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    days = era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468
    seconds = int(text[8:10]) * 3600 + int(text[10:12]) * 60 + int(text[12:14])
    return days * _DAY_MS + seconds * 1000 + int(text[15:-1].ljust(3, "0")[:3])
