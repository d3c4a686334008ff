"""Who may open one more association on a route: source addresses, a rate, a number."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from fastsec.gateway.tables import Network

REPORT_EVERY: Final = 10.0
SOURCES_MAX: Final = 10_000


class Admission:
    """The door of one listener.

    Arguments:
        allow: source ranges; empty lets all in.
        rate: connections per second of one address (IPv6: of one /64); a burst of one second's worth is let through.
        maximum: associations open or opening at a time.
        report: called with a sentence, at most every 10 s, when connections were refused.

    Attributes:
        open: places taken.
        refusals: connections refused so far, by ``address``, ``rate`` or ``full``.
        make_room: called when all are; gives one back if it can.
    """

    __slots__ = (
        "_allow", "_credits", "_next_report", "_rate", "_refused", "_report", "make_room", "maximum", "open",
        "refusals",
    )  # fmt: skip

    def __init__(
        self, *, allow: Sequence[Network], rate: float, maximum: int, report: Callable[[str, int], None]
    ) -> None:
        self._allow = tuple(allow)
        self._rate = rate
        self._credits: OrderedDict[str, tuple[float, float]] = OrderedDict()  # of each source, and when
        self.make_room: Callable[[], bool] = _no_room
        self.maximum = maximum
        self.open = 0
        self._report = report
        self._next_report = float("-inf")
        self._refused: dict[str, int] = {}
        self.refusals = {"address": 0, "rate": 0, "full": 0}

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
            self.refusals["address"] += 1
            return "the source address is not in the allowed ranges"
        # A bucket for each source, that fills at the permitted rate and holds one second's worth: who floods the port
        # does not use up what others need.
        most = max(self._rate, 1.0)
        network = _network_of(source)
        credit, at = self._credits.pop(network, (most, now))
        credit = min(most, credit + (now - at) * self._rate)
        room = credit >= 1.0 and (self.open < self.maximum or self.make_room())
        self._credits[network] = (credit - 1.0 if room else credit, now)
        if len(self._credits) > SOURCES_MAX:
            self._credits.popitem(last=False)
        if credit < 1.0:
            self.refusals["rate"] += 1
            return f"more than {self._rate:g} connections in a second from one address (accept_rate)"
        if room:
            return ""
        self.refusals["full"] += 1
        return f"the route already has its {self.maximum} associations (max_associations)"


def _no_room() -> bool:
    return False


def _network_of(source: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 that an IPv6 host may choose its addresses from."""
    if ":" not in source:
        return source
    try:
        address = ipaddress.IPv6Address(source.split("%")[0])
    except ValueError:
        return source
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else address.packed[:8].hex()


def allowed(source: str, ranges: Sequence[Network]) -> bool:
    """Whether an IP address lies in one of the ranges; an IPv4 address mapped into IPv6 counts as IPv4."""
    try:
        address = ipaddress.ip_address(source.split("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address.version == entry.version and address in entry for entry in ranges)
