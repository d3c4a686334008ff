"""What one association lives through, the same in memory and over sockets, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastsec.aio.handler import AssociationHandler
from fastsec.config import Policy
from test_handshake import MODES

INITIATE = bytes.fromhex("a803800101")
RESPONSE = bytes.fromhex("a903800102")
UP = [bytes.fromhex(pdu) for pdu in ("a0050102030401", "a003020102", "a0050102030403", "a003020104")]
DOWN = [bytes.fromhex("a10501020304f1"), bytes.fromhex("a1050102030402")]
ENDS = ("client releases", "server releases", "client aborts")
MODE_POLICY: dict[str, Policy] = {"ae": Policy()} | MODES


class End(AssociationHandler):
    """One application: notes what it is told."""

    def __init__(self) -> None:
        self.assoc: Any = None
        self.pdus: list[bytes] = []
        self.events: list[str] = []
        self.details: list[str] = []
        self.reasons: list[str] = []
        self.calls: list[str] = []
        self.error: Any = None
        self.ended_at: int | None = None
        self.after_end: list[str] = []
        self.clock: Callable[[], int] = lambda: 0
        self.news: Callable[[], None] = lambda: None

    @property
    def over(self) -> bool:
        return "ended" in self.calls

    def _note(self, name: str, assoc: Any) -> None:
        if self.over:
            self.after_end.append(name)
        self.calls.append(name)
        self.assoc = assoc
        self.news()

    def association_requested(self, assoc: Any, appl_data: bytes) -> bytes:
        assert appl_data == INITIATE
        self._note("association_requested", assoc)
        return RESPONSE

    def associated(self, assoc: Any) -> None:
        self._note("associated", assoc)

    def pdus_received(self, assoc: Any, pdus: list[bytes]) -> None:
        if self.over:
            self.after_end.append("pdus_received")
        self.pdus += pdus
        self.news()

    def confirmed(self, assoc: Any) -> None:
        self._note("confirmed", assoc)

    def released(self, assoc: Any) -> None:
        self._note("released", assoc)

    def ended(self, assoc: Any, error: Any) -> None:
        self.error = error
        self._note("ended", assoc)
        self.ended_at = self.clock()

    def event_received(self, assoc: Any, event: Any) -> None:
        if not event.id.startswith("IEC62351-4:"):
            self.details.append(event.id)  # of a certificate: what the next event means more exactly
            return
        self.events.append(event.id)
        self.reasons.append(dict(event.params).get("reason", ""))
        self.news()


class Step(NamedTuple):
    """One thing an application does, and how to see that it has arrived."""

    name: str
    act: Callable[[End, End], None]
    done: Callable[[End, End], bool]


def steps(end: str) -> list[Step]:
    """Handshake is step 0 and comes by itself."""
    found = [
        Step("associated", lambda c, s: None, lambda c, s: "associated" in c.calls and "associated" in s.calls),
        Step("batch up", lambda c, s: c.assoc.write_many(UP[:2]), lambda c, s: len(s.pdus) == 2),
        Step("down", lambda c, s: s.assoc.write(DOWN[0]), lambda c, s: len(c.pdus) == 1),
        Step("key update", lambda c, s: c.assoc.update_keys(), lambda c, s: c.assoc.key_updates == 1),
        Step("batch up again", lambda c, s: c.assoc.write_many(UP[2:]), lambda c, s: len(s.pdus) == 4),
        Step("down again", lambda c, s: s.assoc.write(DOWN[1]), lambda c, s: len(c.pdus) == 2),
    ]
    last: dict[str, Callable[[End, End], None]] = {
        "client releases": lambda c, s: c.assoc.release(),
        "server releases": lambda c, s: s.assoc.release(),
        "client aborts": lambda c, s: c.assoc.abort(),
    }
    found.append(Step(end, last[end], lambda c, s: c.over and s.over))
    return found


# Frames of a whole life, by direction: kind and the number of PDUs that have been delivered (up, down) before it.
UP_FRAMES = [
    ("CR", 0, 0),
    ("CN", 0, 0),
    ("DT-first", 0, 0),
    ("DT", 1, 0),
    ("DT-carrier", 2, 1),
    ("DT", 2, 1),
    ("DT", 3, 1),
]
DOWN_FRAMES = [("CC", 0, 0), ("AC", 0, 0), ("DT-first", 2, 0), ("DT-changedKey", 2, 1), ("DT", 4, 1)]
LAST_FRAMES = {
    "client releases": (("FN", 4, 2), ("DN", 4, 2)),
    "server releases": (("DN", 4, 2), ("FN", 4, 2)),
    "client aborts": (("AB", 4, 2), None),
}


def frames_of(end: str, to_server: bool) -> list[tuple[str, int, int]]:
    """Kind of each frame in this direction, with the PDUs delivered (up, down) when it is sent."""
    last = LAST_FRAMES[end][0 if to_server else 1]
    return (UP_FRAMES if to_server else DOWN_FRAMES) + ([last] if last else [])


@dataclass
class Result:
    """What came of one life.

    Attributes:
        client, server: the applications.
        finished: every step came about.
        waited: seconds of the clock that passed beyond the steps.
        frame: what was struck, as it was sent.
        hit: something was.
        unchanged: two equal octets changed places.
        alive: of client and server: still open at the horizon.
        complaints: what the loop was told: exceptions out of callbacks and tasks.
        left: what has not been given back.
    """

    client: End
    server: End
    finished: bool = False
    waited: float = 0
    frame: bytes = b""
    alive: list[bool] = field(default_factory=lambda: [False, False])
    hit: bool = False
    unchanged: bool = False
    complaints: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
