"""What all associations of one local identity share: association numbers, replay memory, flood limits.

One ``Endpoint`` belongs to one identity (one certificate) in one process. Its rules are those of 62351-4 about AssoID
and of the flood rules of our specification: numbers n and m are handed out cyclically from a random start, a pair n:m
returns after 20 minutes at the earliest, replay memory is bounded per peer, signed rejects are rate-limited per source,
half-open and unconfirmed associations are limited. Of these, processes under one identity share the replay memory and
the pairs (``fastsec.replay``); the limits count in each of them. Only verified peers make entries here, except in the
rate limiter, which is bounded by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from fastsec import limits
from fastsec._core.crypto import random_bytes
from fastsec.config import Config
from fastsec.errors import ConfigError, LimitReached
from fastsec.instant import Instant
from fastsec.pki.roles import RoleSequences
from fastsec.replay import ReplayMemory
from fastsec.secpdu.timestamp import time_key, time_text

if TYPE_CHECKING:
    from typing import Protocol

    from fastsec.pki.identity import OsiName
    from fastsec.pki.path import TrustStore, VerifiedPeer
    from fastsec.pki.roles import RoleTrust

    class Evictable(Protocol):
        """An unconfirmed association as seen from here."""

        def evict(self, now: Instant) -> None:
            """End with ApplAbort: a newer association needs the place."""


class PeerNumbers:
    """The association numbers between the own identity and one peer, in both roles.

    Arguments:
        worker: (i, N): this process uses the numbers i, i + N, i + 2N, …
        random: a number below its argument.
        memory: where the pairs n:m stand, also those of the other processes.
        peer: who it is.
    """

    __slots__ = (
        "_memory",
        "_next_m",
        "_next_n",
        "_opened",
        "_pairs",
        "_peer",
        "_random",
        "_rejected",
        "_stamps",
        "_worker",
        "live_as_client",
        "live_as_server",
        "sequences",
        "unconfirmed",
        "verified",
    )

    def __init__(
        self, worker: tuple[int, int], random: Callable[[int], int], memory: ReplayMemory, peer: str = ""
    ) -> None:
        self._memory = memory
        self._peer = peer
        self._pairs = memory.pairs(peer)
        self._worker = worker
        self._random = random
        self._next_n = self._first()
        self._next_m: dict[int, int] = {}
        self._opened: deque[int] = deque()
        self._rejected: dict[int, int] = {}
        self._stamps: dict[int, int] = {}
        self.live_as_client: set[int] = set()
        self.live_as_server: set[int] = set()
        self.sequences = RoleSequences()
        self.unconfirmed: dict[Evictable, int] = {}
        self.verified: VerifiedPeer | None = None

    def is_burst(self, mono_ms: int) -> bool:
        """Note that an association was opened as client; whether so many were within the confirmation delay that the
        server, which has 64 places for unconfirmed ones, should not have to wait for the next PDU of this one."""
        opened = self._opened
        while opened and opened[0] <= mono_ms - limits.OUR_CONFIRM_DELAY * 1000:
            opened.popleft()
        opened.append(mono_ms)
        return len(opened) > limits.OUR_CONFIRM_BURST

    def _first(self) -> int:
        index, count = self._worker
        return self._random(len(range(index, limits.OUR_ASSO_NUMBERS, count))) * count + index

    def _after(self, number: int) -> int:
        index, count = self._worker
        number += count
        return number if number < limits.OUR_ASSO_NUMBERS else index

    def take_client_number(self, now: Instant) -> tuple[int, int]:
        """A free number n for an own HandshakeReq, and the time in UTC ms for its token.

        The time is later than that of every earlier request with this n, so that no (time, n) pair ever repeats: not
        after the clock was set back, not after a restart. If the clock was so far ahead that its peers can have
        accepted nothing of then, that is forgotten.

        Errors:
            LimitReached: all numbers are in use.
        """
        fallback = None
        number = self._next_n
        for _ in range(limits.OUR_ASSO_NUMBERS):
            if number not in self.live_as_client:
                if self._rejected.get(number, 0) <= now.mono_ms:
                    break
                fallback = number if fallback is None else fallback
            number = self._after(number)
            if number == self._next_n:
                if fallback is None:
                    raise LimitReached("OUR_ASSO_NUMBERS", "so many associations to one peer already live")
                number = fallback
                break
        self._rejected.pop(number, None)
        self._next_n = self._after(number)
        self.live_as_client.add(number)
        utc_ms = now.utc_ms
        for earliest in (self._stamps.get(number, 0) + 1, self._memory.floor_ms):
            if utc_ms < earliest <= now.utc_ms + limits.OUR_REPLAY_WINDOW * 1000:
                utc_ms = earliest
        self._stamps[number] = utc_ms
        self._memory.stamped(utc_ms)
        return number, utc_ms

    def avoid(self, number: int, now: Instant) -> None:
        """Do not use a number again that the peer just rejected, for the replay window."""
        self._rejected[number] = now.mono_ms + limits.OUR_REPLAY_WINDOW * 1000

    def choose_server_number(self, n: int, now: Instant) -> int | None:
        """A number m so that n:m is neither live nor in quarantine with this peer, nor live with another; None if
        there is none.

        Control PDUs name their association by n:m alone. Were n:m live with two peers, one of them could have a
        release or abort that we sign for it taken for one of the other's association.
        """
        self._pairs.release(now.mono_ms)
        m = self._next_m.get(n)
        if m is None:
            m = self._first()
        for _ in range(limits.OUR_ASSO_NUMBERS):
            if (n, m) not in self._pairs and not self._memory.is_live((n, m)):
                self._next_m[n] = self._after(m)
                return m
            m = self._after(m)
        return None

    def is_served(self, n: int, now: Instant) -> bool:
        """Whether the peer's number n is live, here or in another process under the own identity."""
        return n in self.live_as_server or self._memory.is_served(self._peer, n, now.mono_ms)

    def is_live(self, pair: tuple[int, int]) -> bool:
        """Whether n:m is in use between the two identities, in either role."""
        return pair in self._pairs.live

    def is_live_elsewhere(self, pair: tuple[int, int]) -> bool:
        """Whether n:m is in use between the own identity and whomever."""
        return self._memory.is_live(pair)

    def hold(self, pair: tuple[int, int], *, served: bool = False) -> None:
        """n:m is in use; ``served``: as server."""
        self._memory.hold(self._peer, pair, served=served)

    def free(self, pair: tuple[int, int], now: Instant) -> None:
        """n:m is not in use any more; it rests for 20 minutes."""
        self._pairs.release(now.mono_ms)  # a mere client never chooses a number m
        self._memory.rest(self._peer, pair, now.mono_ms + limits.OUR_ASSO_PAIR_QUARANTINE * 1000)


@dataclass(slots=True)
class Refusals:
    """What the flood rules of one identity have refused or cut short, counted since the start.

    Attributes:
        repeats: exact repeats of an accepted HandshakeReq, refused before any public-key work (each has its event).
        half_open: HandshakeReq refused because too many were being examined.
        unconfirmed: HandshakeReq refused because that peer, or all together, had too many unconfirmed associations.
        evicted: unconfirmed associations ended so that a newer one has the place.
        expired: associations ended because the peer never confirmed.
        memory: HandshakeReq refused because the peer's replay memory is full.
        sharing: HandshakeReq refused because the replay memory shared with other processes could not be asked.
        numbers: HandshakeReq refused because no association number was free.
        unsigned: rejects that went out as a plain ABRT, because the source had had its signed ones for that second.
    """

    repeats: int = 0
    half_open: int = 0
    unconfirmed: int = 0
    evicted: int = 0
    expired: int = 0
    memory: int = 0
    sharing: int = 0
    numbers: int = 0
    unsigned: int = 0


def _below(random: Callable[[int], bytes], count: int) -> int:
    return int.from_bytes(random(8), "big") % count


class Endpoint:
    """One local identity in one process.

    Arguments:
        config: who we are, whom we trust, what we insist on.
        now: the start; without a replay memory from before, requests with an earlier time are refused (62351-4, flood
            rules), because they could be replays.
        worker: (i, N): this is process i of N under the same identity; they split the numbers.
        replay: a replay memory to use, or None for an own one that knows nothing from before.
        random: gives so many random octets.
    Errors:
        ConfigError: worker is out of range.

    Attributes:
        config, replay, worker: as given.
        fresh_trust: set it when anchors or CRLs were loaded anew: open associations check their peers against it from
            then on (at key updates and every 24 h), while ``config`` stays what they were made with.
        fresh_roles: likewise whose roles are believed.
        half_open: associations between HandshakeReq and HandshakeAcc.
        made_for: the configuration as the caller gave it, by which the endpoint is found again.
        refusals: what was refused so far; shared by all endpoints of the identity.
    """

    __slots__ = (
        "__weakref__",
        "_peers",
        "_random",
        "_rejects",
        "_unconfirmed",
        "config",
        "fresh_roles",
        "fresh_trust",
        "half_open",
        "made_for",
        "refusals",
        "replay",
        "worker",
    )

    def __init__(
        self,
        config: Config,
        *,
        now: Instant,
        worker: tuple[int, int] = (0, 1),
        replay: ReplayMemory | None = None,
        random: Callable[[int], bytes] = random_bytes,
    ) -> None:
        if not 0 <= worker[0] < worker[1] <= limits.OUR_ASSO_NUMBERS:
            raise ConfigError("worker (i, N) needs 0 <= i < N <= 1000")
        self.config = self.made_for = config
        self.worker = worker
        self.replay = ReplayMemory(time_key(time_text(now.utc_ms)), worker[0]) if replay is None else replay
        self.half_open = 0
        self.refusals = Refusals()
        self.fresh_trust: TrustStore | None = None
        self.fresh_roles: RoleTrust | None = None
        self._random = random
        self._peers: dict[str, PeerNumbers] = {}
        self._unconfirmed: dict[Evictable, int] = {}
        self._rejects: dict[str, tuple[int, int]] = {}

    @property
    def trust(self) -> TrustStore:
        """Whom to believe in associations that are open."""
        return self.fresh_trust or self.config.trust

    @property
    def roles(self) -> RoleTrust:
        """Whose roles to believe in associations that are open."""
        return self.fresh_roles or self.config.roles

    @property
    def refuse_before(self) -> str | None:
        """Time key: requests from before could be replays that nobody remembers."""
        return self.replay.refuse_before

    # --- numbers ---

    def numbers(self, peer: str) -> PeerNumbers:
        """The association numbers shared with a verified (server role) or configured (client role) peer."""
        found = self._peers.get(peer)
        if found is None:
            found = self._peers[peer] = PeerNumbers(self.worker, partial(_below, self._random), self.replay, peer)
        return found

    # --- limits ---

    def may_reject(self, source: str, now: Instant) -> bool:
        """Whether one more signed reject may go to ``source`` (an address): at most 5 in a second, then plain ABRTs."""
        begun, count = self._rejects.get(source, (now.mono_ms - 1000, 0))
        if now.mono_ms - begun >= 1000:
            if len(self._rejects) >= limits.OUR_REJECT_SOURCES:
                for stale in [s for s, (since, _) in self._rejects.items() if now.mono_ms - since >= 1000]:
                    del self._rejects[stale]
                if len(self._rejects) >= limits.OUR_REJECT_SOURCES:
                    return False
            begun, count = now.mono_ms, 0
        if count >= limits.OUR_REJECTS_PER_SECOND:
            return False
        self._rejects[source] = (begun, count + 1)
        return True

    def enter_handshake(self) -> bool:
        """Count one more half-open association; False if there are too many."""
        if self.half_open >= limits.OUR_HALF_OPEN_MAX:
            self.refusals.half_open += 1
            return False
        self.half_open += 1
        return True

    def leave_handshake(self) -> None:
        """A half-open association was accepted or has ended."""
        self.half_open -= 1

    def admit_unconfirmed(self, association: Evictable, peer: str, now: Instant) -> bool:
        """Make room for one more unconfirmed association of ``peer``: 64 per peer, 4096 in all.

        The oldest is evicted if older than 5 s; False if it is not, then nothing changes.
        """
        own = self.numbers(peer).unconfirmed
        crowded = own if len(own) >= limits.OUR_UNCONFIRMED_PER_PEER else None
        if crowded is None and len(self._unconfirmed) >= limits.OUR_UNCONFIRMED_MAX:
            crowded = self._unconfirmed
        if crowded is not None:
            oldest, since = next(iter(crowded.items()))
            if now.mono_ms - since <= limits.OUR_UNCONFIRMED_EVICT_AGE * 1000:
                self.refusals.unconfirmed += 1
                return False
            oldest.evict(now)
            self.refusals.evicted += 1
        own[association] = now.mono_ms
        self._unconfirmed[association] = now.mono_ms
        return True

    def drop_unconfirmed(self, association: Evictable, peer: OsiName) -> None:
        """The association was confirmed or has ended."""
        if self._unconfirmed.pop(association, None) is not None:
            self.numbers(peer.oid).unconfirmed.pop(association, None)

    # --- sharing ---

    def share(self, name: OsiName, peer: VerifiedPeer) -> VerifiedPeer:
        """One object for all associations of a peer with the same certificate, so that an idle one stays small; without
        roles that a later token of the peer has outdated."""
        numbers = self.numbers(name.oid)
        if peer.roles or peer.withdrawn:
            roles, findings = numbers.sequences.judge(peer.roles, peer.withdrawn)
            if findings:
                peer = replace(peer, roles=roles, findings=tuple(dict.fromkeys(peer.findings + findings)))
        kept = numbers.verified
        if (
            kept is not None
            and kept.certificate.der == peer.certificate.der
            and kept.not_after_ms == peer.not_after_ms
            and kept.findings == peer.findings
            and not kept.questions
            and kept.roles == peer.roles
            and kept.token == peer.token
        ):
            return kept
        numbers.verified = peer
        return peer
