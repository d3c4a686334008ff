"""What the formal model is asked: the protocol as it is, broken on purpose, and its documented limits.

Every case says whether the checker has to find something. A case with ``broken`` switches that finds nothing would mean
that the model cannot see that mistake; a case of the protocol itself that finds something is an attack.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["holds", "broken", "limit", "reached"]
HOLDS: Kind = "holds"
BROKEN: Kind = "broken"
LIMIT: Kind = "limit"
REACHED: Kind = "reached"


class Case(NamedTuple):
    """One question.

    Attributes:
        part: the model: a ``.maude`` file here, or "phases" for the Promela model.
        about: what is asked, in words.
        kind: "holds" (nothing may be found), "broken" (a mutation: an attack must be found), "limit" (does not hold and
            is documented), "reached" (the model gets where it should).
        broken: the switches that are on.
        start, goal: Maude: the first state, and what must not (or must) be reached.
        settings: Promela: bounds.
        quick: part of the test suite.
    """

    part: str
    about: str
    kind: Kind
    broken: tuple[str, ...] = ()
    start: str = "start"
    goal: str = ""
    settings: tuple[tuple[str, int], ...] = ()
    quick: bool = False

    @property
    def must_find(self) -> bool:
        """Whether the checker has to find the goal, or a violation."""
        return self.kind != HOLDS


def handshake(
    about: str, kind: Kind, start: str, *broken: str, goal: str = "violations(X) =/= fine", quick: bool = False
) -> Case:
    """A case of the handshake."""
    return Case("handshake", about, kind, broken, start, goal, quick=quick)


def simple(part: str, goal: str, about: str, kind: Kind, *broken: str, quick: bool = False) -> Case:
    """A case of one of the smaller Maude models."""
    return Case(part, about, kind, broken, goal=goal, quick=quick)


def phases(about: str, kind: Kind, *broken: str, quick: bool = False, **settings: int) -> Case:
    """A case of the Promela model."""
    return Case("phases", about, kind, broken, settings=tuple(settings.items()), quick=quick)


TWICE, FORGED, BAD = "twice(X)", "forged(X)", "bad(X)"

CASES = (
    # --- handshake and confirmation ---
    handshake("an honest pair gets confirmed and agrees", REACHED, "honest", goal="works(X)", quick=True),
    handshake("secrecy, agreement: one client, one server", HOLDS, "honest", quick=True),
    handshake("a calls b and the attacker; b serves twice; keys of a, b stolen at any time", HOLDS, "dishonest"),
    handshake("a and b, each in both roles; keys stolen at any time", HOLDS, "mirror", quick=True),
    handshake("two associations of one pair; keys stolen at any time", HOLDS, "twins"),
    handshake("two clients of one server with one number; keys stolen at any time", HOLDS, "shared"),
    handshake("three parties, five sessions, one calls the attacker; key of c stolen", HOLDS, "crowd"),
    handshake("groups and modes to choose from: no downgrade", HOLDS, "choice", quick=True),
    handshake("modes hashed but not signed: the confirmation alone is enough", HOLDS, "choice", "modesUnsigned"),
    handshake("identity hashed but not signed: likewise", HOLDS, "dishonest", "certificateUnsigned"),
    handshake("a broken group that nobody offers", HOLDS, "dishonest", "weakGroupBroken"),
    handshake("h2 is not the salt of the keys", BROKEN, "dishonest", "hashNotInSalt", quick=True),
    handshake("h2 without h1: HandshakeReq is not hashed", BROKEN, "dishonest", "requestNotHashed", quick=True),
    handshake("pkCert neither signed nor hashed", BROKEN, "dishonest", "certificateUnbound"),
    handshake("encr-mode neither signed nor hashed", BROKEN, "choice", "modesUnbound"),
    handshake("dhKey of HandshakeReq not signed", BROKEN, "honest", "requestValueUnsigned"),
    handshake("dhKey of HandshakeAcc not signed", BROKEN, "honest", "answerValueUnsigned"),
    handshake("certificate not compared with the address called", BROKEN, "dishonest", "addressUnchecked"),
    handshake("one key for both directions", BROKEN, "dishonest", "oneKeyForBoth"),
    handshake("confirmation skipped: roles granted at once", BROKEN, "dishonest", "confirmationSkipped"),
    handshake("unconfirmed: b may have answered somebody else", LIMIT, "dishonest", goal="alone(client, X)"),
    handshake("unconfirmed: a may have called somebody else", LIMIT, "relay", goal="alone(server, X)"),
    handshake("unconfirmed: the mode may be a weaker one", LIMIT, "choice", goal="downgraded(X)"),
    handshake("a broken group that the client offers beside a good one", LIMIT, "choice", "weakGroupBroken"),
    # --- replay of HandshakeReq ---
    simple("replay", TWICE, "no request is accepted twice, whenever it comes", HOLDS, quick=True),
    simple("replay", TWICE, "likewise, the client's clock ahead or behind by the whole window", HOLDS, "clientAhead"),
    simple("replay", TWICE, "no replay memory", BROKEN, "noReplayMemory", quick=True),
    simple("replay", TWICE, "entries kept from arrival, not by time stamp", BROKEN, "memoryByArrival", "clientAhead"),
    simple("replay", TWICE, "memory lost at a restart, nothing refused", BROKEN, "memoryLost"),
    simple("replay", TWICE, "memory lost at a restart, earlier times refused", HOLDS, "memoryBridged"),
    simple("replay", TWICE, "likewise, a client's clock ahead", LIMIT, "memoryBridged", "clientAhead"),
    simple("replay", TWICE, "the server's clock steps back", LIMIT, "clockBack"),
    # --- release and aborts ---
    simple("control", "orderly(X)", "an association is released", REACHED),
    simple("control", FORGED, "no end that the peer did not sign for this association", HOLDS, quick=True),
    simple("control", FORGED, "pairs n:m unique per peer only, not per identity", BROKEN, "numbersPerPeer", quick=True),
    simple("control", FORGED, "assoID of a control PDU not compared", BROKEN, "numbersUnchecked"),
    simple("control", FORGED, "signed by a third party", BROKEN, "anySigner"),
    simple("control", FORGED, "token3.time not compared with the handshake's", BROKEN, "timesUnchecked"),
    # --- key update: leaks ---
    simple("update", "done(X)", "two updates", REACHED),
    simple("update", BAD, "keys left behind, or the client's first private value, leak", HOLDS, quick=True),
    simple("update", BAD, "present keys leak to one who only listens", HOLDS, "keysLeakInUse", "onlyListens"),
    simple("update", BAD, "a client that sends values again", HOLDS, "clientMisbehaves"),
    simple("update", BAD, "ClearToken2.rekey outside of the ICV", BROKEN, "rekeyUnprotected", quick=True),
    simple("update", BAD, "a value used before is accepted", BROKEN, "clientMisbehaves", "oldValueAccepted"),
    simple("update", BAD, "the negative of an old value is accepted", BROKEN, "clientMisbehaves", "negativeForgotten"),
    simple("update", BAD, "the old key is tried too", BROKEN, "oldKeyTried"),
    simple("update", BAD, "present keys leak to one who acts: an update does not heal", LIMIT, "keysLeakInUse"),
    simple("update", BAD, "the server's private value leaks: every epoch is open", LIMIT, "serverMemoryRead"),
    # --- the open association: order, epochs, release ---
    phases("both in step, all delivered, both released; no deadlock", HOLDS, DATA=1, UPDATES=1, quick=True),
    phases("likewise, two PDUs and two updates of each side", HOLDS, DATA=2, UPDATES=2),
    phases("likewise, strict client", HOLDS, DATA=2, UPDATES=2, STRICT=1),
    phases("likewise, strict server", HOLDS, DATA=2, UPDATES=2, STRICT=2),
    phases("likewise, both strict", HOLDS, DATA=2, UPDATES=2, STRICT=3),
    phases("aborts at any moment", HOLDS, DATA=1, UPDATES=1, ABORTS=1),
    phases("an intermediary with one trick", HOLDS, DATA=1, UPDATES=1, TRICKS=1),
    phases("an intermediary with two tricks, no update", HOLDS, DATA=1, UPDATES=0, TRICKS=2),
    phases("a second rekey before changedKey", BROKEN, "SECOND_REKEY_BEFORE_CHANGED_KEY", UPDATES=2, quick=True),
    phases("changedKey ignored: new key as soon as the carrier is out", BROKEN, "CHANGED_KEY_IGNORED"),
    phases("the carrier under the new key", BROKEN, "CARRIER_UNDER_NEW_KEY"),
    phases("reception does not wait for the new keys", BROKEN, "NO_WAIT_FOR_KEYS"),
    phases("keys that arrive while releasing are dropped", BROKEN, "KEYS_DROPPED_WHEN_RELEASING"),
    phases("crossed release: nobody answers first", BROKEN, "NOBODY_ANSWERS_FIRST"),
    phases("released before the queue is flushed", BROKEN, "RELEASE_WITHOUT_FLUSH"),
    phases("data sent after ReleaseReq", BROKEN, "SENDS_WHEN_RELEASING"),
    phases("data dropped before ReleaseRsp", BROKEN, "TRANSFERS_DROPPED_WHEN_RELEASING"),
    phases("the old key is tried too", BROKEN, "OLD_KEY_TRIED", TRICKS=1),
    phases("(time, seq) not compared", BROKEN, "REPLAYS_TAKEN", TRICKS=1),
)  # fmt: skip
