"""Who may open one more association on a route: source addresses, a rate, a number."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Final

from fastsec.gateway.tables import Network

REPORT_EVERY: Final = 10.0


class Admission:
    """The door of one listener.

    Arguments:
        allow: source ranges; empty lets all in.
        rate: connections per second; a burst of one second's worth is let through.
        maximum: associations open or opening at a time.
        report: called with a sentence, at most every 10 s, when connections were refused.
    """

    __slots__ = ("_allow", "_at", "_credit", "_next_report", "_rate", "_refused", "_report", "maximum", "open")

    def __init__(
        self, *, allow: Sequence[Network], rate: float, maximum: int, report: Callable[[str, int], None]
    ) -> None:
        self._allow = tuple(allow)
        self._rate = rate
        self._credit = max(rate, 1.0)
        self._at = float("-inf")
        self.maximum = maximum
        self.open = 0
        self._report = report
        self._next_report = float("-inf")
        self._refused: dict[str, int] = {}

    def enter(self, source: str, now: float) -> str:
        """Ask for one more place; ``leave`` gives it back.

        Arguments:
            source: IP address of the caller.
            now: monotonic seconds.
        Result: empty if granted, else why not.
        """
        reason = self._judge(source, now)
        if not reason:
            self.open += 1
            return ""
        self._refused[reason] = self._refused.get(reason, 0) + 1
        if now >= self._next_report:
            self._next_report = now + REPORT_EVERY
            refused, self._refused = self._refused, {}
            for why, count in refused.items():
                self._report(why, count)
        return reason

    def leave(self) -> None:
        """An association that was let in has ended."""
        self.open -= 1

    def _judge(self, source: str, now: float) -> str:
        if self._allow and not allowed(source, self._allow):
            return "the source address is not in the allowed ranges"
        if self.open >= self.maximum:
            return f"the route already has its {self.maximum} associations (max_associations)"
        # A bucket that fills at the permitted rate and holds one second's worth.
        self._credit = min(max(self._rate, 1.0), self._credit + (now - self._at) * self._rate)
        self._at = now
        if self._credit < 1.0:
            return f"more than {self._rate:g} connections in a second (accept_rate)"
        self._credit -= 1.0
        return ""


def allowed(source: str, ranges: Sequence[Network]) -> bool:
    """Whether an IP address lies in one of the ranges; an IPv4 address mapped into IPv6 counts as IPv4."""
    try:
        address = ipaddress.ip_address(source.split("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address.version == entry.version and address in entry for entry in ranges)
