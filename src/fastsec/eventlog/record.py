"""A log record (62351-14, Table 2) and its RFC 5424 line (62351-14, Clause 6).

What a peer says comes into a record as peer and as parameters. Whatever it says, the line stays one line and its
fields stay apart: characters that cannot be printed are replaced, ASCII fields hold visible ASCII only, values are cut
at the sizes of Table 2 and escaped as RFC 5424 wants.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fastsec.events import SecurityEvent

IEC_VERSION: Final = 1
LOG_TYPE: Final = "IEC62351-14"
MSG_ID: Final = f"{LOG_TYPE}:{IEC_VERSION}"
SD_ID: Final = "62351-14@41912"
FACILITY: Final = 13  # log audit
SEVERITIES: Final = MappingProxyType({"alarm": 1, "error": 3, "warning": 4, "notice": 5})
SQNUM_MAX: Final = 2**31 - 1
LINE_MAX: Final = 8192  # octets; what RFC 5425 says a collector should take
SOURCE_MAX: Final = 255
APP_NAME_MAX: Final = 48
PEER_MAX: Final = 64
USER_MAX: Final = 32
ROLE_MAX: Final = 29
REFERENCE_MAX: Final = 32
NAME_MAX: Final = 32
VALUE_MAX: Final = 128

_PLACEHOLDER: Final = re.compile(r"\{P\.([0-9A-Za-z_]+)\}")
_NOT_NAME: Final = re.compile(r"[^0-9A-Za-z_]")
# Parameters of an event that have a field of their own.
_OWN: Final = MappingProxyType({"UsrID": USER_MAX, "Role": ROLE_MAX, "RefEvtID": REFERENCE_MAX})


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        utc_ms: when it happened, ms since 1970 UTC.
        sqnum: 1..SQNUM_MAX, or 0 where numbers are not kept.
        event: what happened.
        source: host name or IP address.
        app_name: the program.
        peer, user, role, reference: empty where they do not apply. ``role`` is ``roleID:revision:roleDefinition``.
        params: ``P.`` names and values: one per placeholder in the text.
        extras: ``X.`` names and values.
    """

    utc_ms: int
    sqnum: int
    event: SecurityEvent
    source: str
    app_name: str
    peer: str
    user: str
    role: str
    reference: str
    params: tuple[tuple[str, str], ...]
    extras: tuple[tuple[str, str], ...]


def record(
    event: SecurityEvent,
    *,
    utc_ms: int,
    sqnum: int,
    source: str,
    app_name: str,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> Record:
    """The record of ``event``.

    A parameter of the event whose name stands as ``{P.name}`` in its text becomes ``P.name``; ``UsrID``, ``Role`` and
    ``RefEvtID`` fill the fields of these names; every other one becomes ``X.name``, as does ``extra``.
    """
    wanted = _placeholders(event.text)
    own = dict.fromkeys(_OWN, "")
    params: dict[str, str] = dict.fromkeys((f"P.{name}" for name in wanted), "")
    extras: dict[str, str] = {}
    for name, value in (*event.params, *extra.items()):
        if name in own:
            own[name] = ascii_text(value, _OWN[name])
        elif name in wanted:
            params[f"P.{name}"] = printable(value)
        else:
            extras.setdefault(f"X.{_NOT_NAME.sub('_', name)}"[:NAME_MAX], printable(value))
    return Record(
        utc_ms,
        sqnum,
        event,
        ascii_text(source, SOURCE_MAX),
        ascii_text(app_name, APP_NAME_MAX),
        ascii_text(event.peer, PEER_MAX),
        own["UsrID"],
        own["Role"],
        own["RefEvtID"],
        tuple(params.items()),
        tuple(extras.items()),
    )


@lru_cache(maxsize=1024)
def _placeholders(text: str) -> frozenset[str]:
    return frozenset(name[: NAME_MAX - 2] for name in _PLACEHOLDER.findall(text))


def printable(text: str, maximum: int = VALUE_MAX) -> str:
    """``text`` cut to ``maximum`` characters, with ``?`` for every one that cannot be printed."""
    text = text[:maximum]
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def ascii_text(text: str, maximum: int) -> str:
    """``text`` cut to ``maximum`` characters of visible ASCII, with ``?`` for every other one."""
    text = text[:maximum]
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    return "".join(char if "!" <= char <= "~" else "?" for char in text)


def line(entry: Record) -> bytes:
    """The RFC 5424 line of a record, in UTF-8, without any end: at most ``LINE_MAX`` octets.

    MSG is empty: everything stands in the structured data. PROCID says nothing (62351-14, 6.3).
    """
    kind = entry.event.type
    pairs = [("ID", kind.id), ("MNEMONIC", kind.mnemonic), ("Text", printable(kind.text))]
    pairs.append(("SqNum", str(entry.sqnum)))
    own = (("PeerInfo", entry.peer), ("UsrID", entry.user), ("Role", entry.role))
    pairs += [(name, value) for name, value in own if value]
    pairs += entry.params
    last = f' RefEvtID="{_escaped(entry.reference)}"' if entry.reference else ""
    priority = FACILITY * 8 + SEVERITIES.get(kind.severity, SEVERITIES["error"])
    head = (
        f"<{priority}>1 {timestamp(entry.utc_ms)} {entry.source or '-'} {entry.app_name or '-'} - {MSG_ID} [{SD_ID}"
        + "".join(f' {name}="{_escaped(value)}"' for name, value in pairs)
    ).encode()
    room = LINE_MAX - len(head) - len(last) - 1
    for name, value in entry.extras:
        extra = f' {name}="{_escaped(value)}"'.encode()
        if len(extra) <= room:
            head += extra
            room -= len(extra)
    return head + f"{last}]".encode()


def _escaped(value: str) -> str:
    if '"' in value or "\\" in value or "]" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
    return value


def timestamp(utc_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return f"{_second(utc_ms // 1000)}.{utc_ms % 1000:03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
