"""Security events to the standard library's logging."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fastsec.events import SecurityEvent

LEVELS: Final = {
    "alarm": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "notice": logging.INFO,
}


class LoggingSink:
    """An event sink that writes one log record per event.

    The record's attribute ``security_event`` is the event itself, for structured handlers.

    Arguments:
        logger: where to; by default the logger ``fastsec.events``.
    """

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("fastsec.events")

    def __call__(self, event: SecurityEvent) -> None:
        """Log ``event``: alarm as CRITICAL, error as ERROR, warning as WARNING, notice as INFO."""
        level = LEVELS.get(event.severity, logging.ERROR)
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={"security_event": event})


default_sink: Final = LoggingSink()
