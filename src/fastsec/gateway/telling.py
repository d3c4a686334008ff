"""Security events as lines of the log: in words, and no more of them than somebody can read.

What every association would repeat, such as that nobody says whether certificates are revoked, is told once a day for
each peer. Of a flood the same is written as of ``[events]``: some per event and peer, and how many more there were.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from fastsec.eventlog.limiter import Limiter, who
from fastsec.gateway.logs import DAY, Log

if TYPE_CHECKING:
    from fastsec.eventlog.limiter import Suppressed
    from fastsec.events import EventSink, SecurityEvent

# A state of affairs rather than something that happened.
STANDING: Final = frozenset(
    (
        "CERT_V_R_NR_CRL",
        "CERT_V_CRL_EXP",
        "CERT_V_CRL_SIG_FAIL",
        "CERT_V_R_NR_OCSP",
        "CERT_V_PKCE_NCDP",
        "CERT_V_PKCE_NOCSP",
        "TLS_NO_CRL",
        "TLS_CRL_EXP",
        "TLS_MIN_KEY",
        "TLS_NO_RENEG_TICKET",
    )
)
TOLD_MAX: Final = 4096
SUMMARY: Final = 10.0  # s


class Telling:
    """What has been told lately. Its sinks may be called in any thread.

    Arguments:
        limiter: of what happens; None: somebody else limits it.
    """

    def __init__(self, limiter: Limiter | None = None) -> None:
        self._limiter = limiter
        self._lock = threading.Lock()
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._summed = time.monotonic()
        self._later: asyncio.TimerHandle | None = None

    def through(self, log: Log) -> EventSink:
        """A sink that writes to ``log``."""

        def tell(event: SecurityEvent) -> None:
            self.tell(event, log)

        return tell

    def tell(self, event: SecurityEvent, log: Log) -> None:
        """Write a line about ``event``, unless there have been enough."""
        now = time.monotonic()
        with self._lock:
            admitted = not self._is_old(event, now) and (self._limiter is None or self._limiter.admit(event, now))
            found = self._suppressed(now)
        _sum_up(found)
        if admitted:
            log.event(event)

    def _is_old(self, event: SecurityEvent, now: float) -> bool:
        if event.mnemonic not in STANDING:
            return False
        told, key = self._told, (event.id, who(event))
        if now - told.get(key, -DAY) < DAY:
            return True
        told[key] = now
        told.move_to_end(key)
        if len(told) > TOLD_MAX:
            told.popitem(last=False)
        return False

    def _suppressed(self, now: float) -> list[Suppressed]:
        """What to sum up, if it is time to; else see to it that it will be."""
        if self._limiter is None:
            return []
        if now - self._summed >= SUMMARY:
            self._summed = now
            return self._limiter.suppressed()
        if self._later is None:
            with contextlib.suppress(RuntimeError):  # in a thread without a loop: the next event will do
                self._later = asyncio.get_running_loop().call_later(SUMMARY, self._sum_up_later)
        return []

    def _sum_up_later(self) -> None:
        self._later = None
        self.sum_up()

    def sum_up(self) -> None:
        """Write how many events were not told one by one."""
        with self._lock:
            self._summed = time.monotonic()
            found = self._limiter.suppressed() if self._limiter is not None else []
        _sum_up(found)


def _sum_up(found: list[Suppressed]) -> None:
    for each in found:
        Log().warning(
            "more of these were not told one by one",
            event=each.type.id,
            mnemonic=each.type.mnemonic,
            peer=each.peer,
            count=each.count,
        )
