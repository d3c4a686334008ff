"""Log records with fields, as logfmt lines or JSON lines. Nothing a peer sends can break a line or forge a field."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import threading
import time
from functools import lru_cache
from typing import Any, ClassVar, Final, TextIO

from fastsec.events import SecurityEvent
from fastsec.gateway import words

LOGGER: Final = "fastsec.gateway"
ALARM: Final = logging.CRITICAL

_LEVEL_NAMES: Final = {
    logging.CRITICAL: "alarm",
    logging.ERROR: "error",
    logging.WARNING: "warning",
    logging.INFO: "info",
    logging.DEBUG: "debug",
}
_SEVERITIES: Final = {
    "alarm": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "notice": logging.INFO,
}
_SYSLOG: Final = {
    logging.CRITICAL: 1,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}
_VALUE_MAX: Final = 400
_SIMPLE: Final = re.compile(r"[!#-<>-\[\]-~]+")  # visible ASCII but for quote, equals sign and backslash
DAY: Final = 86400.0
TOLD_MAX: Final = 1000
GATHER: Final = 0.1  # s
GATHER_MAX: Final = 1000


class Log:
    """Writes records with the same fields each time, e.g. the route.

    Arguments:
        fields: appear in every record.
    """

    __slots__ = ("_logger", "fields")

    _told: ClassVar[dict[str, float]] = {}

    def __init__(self, **fields: object) -> None:
        self._logger = logging.getLogger(LOGGER)
        self.fields = fields

    def having(self, **fields: object) -> Log:
        """A log with further fields."""
        return Log(**{**self.fields, **fields})

    def debug(self, message: str, **fields: object) -> None:
        """For those who look for a fault."""
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: object) -> None:
        """What happened as it should."""
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """What somebody should look at."""
        self._write(logging.WARNING, message, fields)

    def daily(self, message: str, **fields: object) -> None:
        """A warning that every association would repeat: told once a day."""
        now = time.monotonic()
        if now - self._told.get(message, -DAY) >= DAY:
            if len(self._told) >= TOLD_MAX:
                self._told.clear()
            self._told[message] = now
            self._write(logging.WARNING, message, fields)

    def error(self, message: str, **fields: object) -> None:
        """What did not work."""
        self._write(logging.ERROR, message, fields)

    def event(self, event: SecurityEvent, **fields: object) -> None:
        """A security event in an operator's words, with its identifier of IEC 62351-14."""
        level = _SEVERITIES.get(event.severity, logging.ERROR)
        if self._logger.isEnabledFor(level):
            params = {f"p_{name}": value for name, value in event.params}
            peer = {"peer": event.peer} if event.peer else {}
            known = {"event": event.id, "mnemonic": event.mnemonic, **peer, **params}
            self._write(level, words.describe(event), {**known, **fields})

    def _write(self, level: int, message: str, fields: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            # Logger.log would look for the caller's file and line, which no line of ours shows.
            record = logging.LogRecord(LOGGER, level, "", 0, message, None, None)
            record.fields = {**self.fields, **fields}
            self._logger.handle(record)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    stamp = _second(int(record.created))
    result: dict[str, Any] = {
        "time": f"{stamp}.{int(record.msecs):03d}Z",
        "level": _LEVEL_NAMES.get(record.levelno, record.levelname.lower()),
    }
    result["msg"] = _cut(record.getMessage())
    fields = getattr(record, "fields", None)
    if fields is None:
        result["logger"] = record.name
    else:
        result.update((name, value) for name, value in fields.items() if value is not None and value != "")
    if record.exc_info and record.exc_info[0] is not None:
        result["error"] = record.exc_info[0].__name__
    return result


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE_MAX else text[: _VALUE_MAX - 3] + "..."


class TextFormatter(logging.Formatter):
    """``time=… level=… msg="…" route=… event=…``: logfmt, one line per record.

    Arguments:
        journal: put the syslog priority in front, as systemd's journal wants it.
    """

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        pairs = " ".join(f"{name}={_quoted(value)}" for name, value in _fields(record).items())
        return f"<{_SYSLOG.get(record.levelno, 5)}>{pairs}" if self._journal else pairs


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields = _fields(record)
        return json.dumps({name: _plain(value) for name, value in fields.items()}, ensure_ascii=True)


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | bool) else _cut(str(value))


def _quoted(value: object) -> str:
    text = _cut(value if type(value) is str else str(value))
    if _SIMPLE.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines; while a loop is given, up to ``GATHER`` s later and many at a time, but warnings at once.

    So an association does not wait for its lines to be made and written. The order of the lines stays.

    Arguments:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._records: list[logging.LogRecord] = []

    def gather(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Write what has gathered, and from now on gather in ``loop``, the running one; None: write at once again."""
        with self.lock or contextlib.nullcontext():
            self._write_out()
            self._loop = loop
            self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        loop = self._loop
        if loop is None:
            super().emit(record)
            return
        self._records.append(record)
        if record.levelno > logging.INFO or len(self._records) >= GATHER_MAX or threading.get_ident() != self._thread:
            self._write_out()
        elif len(self._records) == 1:
            loop.call_later(GATHER, self.flush)

    def flush(self) -> None:
        """Write what has gathered. Called at the end of the process too."""
        with self.lock or contextlib.nullcontext():
            self._write_out()
            super().flush()

    def _write_out(self) -> None:
        records, self._records = self._records, []
        if records:
            try:
                self.stream.write("".join([self.format(record) + self.terminator for record in records]))
                super().flush()
            except Exception:
                self.handleError(records[-1])


def setup(form: str, level: str, stream: TextIO, *, journal: bool = False) -> LineHandler:
    """Send the log of the whole package to ``stream``.

    Arguments:
        form: ``text`` or ``json``.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        journal: the stream is systemd's journal.
    Result: the handler, to be taken away with ``logging.getLogger("fastsec").removeHandler``.
    """
    handler = LineHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(journal=journal))
    root = logging.getLogger("fastsec")
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False
    return handler
