"""What all associations of one local identity share: association numbers, replay memory, flood limits.

One ``Endpoint`` belongs to one identity (one certificate) in one process. Its rules are those of 62351-4 about AssoID
and of the flood rules of our specification: numbers n and m are handed out cyclically from a random start, a pair n:m
returns after 20 minutes at the earliest, replay memory is bounded per peer, signed rejects are rate-limited per source,
half-open and unconfirmed associations are limited. Only verified peers make entries here, except in the rate limiter,
which is bounded by itself.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from fastsec import limits
from fastsec._core.crypto import random_bytes
from fastsec.config import Config
from fastsec.errors import ConfigError, LimitReached
from fastsec.instant import Instant
from fastsec.secpdu.timestamp import time_key, time_text

if TYPE_CHECKING:
    from typing import Protocol

    from fastsec.pki.identity import OsiName
    from fastsec.pki.path import TrustStore, VerifiedPeer

    class Evictable(Protocol):
        """An unconfirmed association as seen from here."""

        def evict(self, now: Instant) -> None:
            """End with ApplAbort: a newer association needs the place."""


_SINCE: Final = re.compile(r"since (\d{23})\n")  # first line of a memory that begins in the middle of the window
_LIVE: Final = 1 << 62  # later than any monotonic clock
_LINE: Final = re.compile(r"(\S+) ([A-Z][0-9]{23}/[0-9:]{0,7}) ([0-9a-f]{32})\n?").fullmatch
_DIGEST: Final = 16  # octets of a SHA-256 kept per handshake: nobody finds a second request with the same 128 bits

Remembered = Literal["new", "replay", "full"]


class ReplayMemory:
    """The (time, assoID) pairs and fingerprints of accepted handshake PDUs, per peer, until time + 10 min.

    A full peer is refused, no other peer suffers. Subclass it to share one memory among worker processes: override
    ``exact`` and ``remember``.
    """

    # An entry is  letter of the PDU, 23 digits of time, "/", number  ->  digest. Times of one peer grow, but for the
    # steps of its clock, so what is expired stands in front and each call removes only that.
    __slots__ = ("_cutoff", "_exact", "_journal", "_peers", "_second", "_turn")

    def __init__(self) -> None:
        self._peers: dict[str, dict[str, bytes]] = {}
        self._turn: deque[str] = deque()
        self._exact: set[bytes] = set()
        self._journal: list[str] | None = None
        self._second = -1
        self._cutoff = ""

    def exact(self, digest: bytes) -> bool:
        """Whether a handshake PDU with this SHA-256 was remembered: costs no public-key work."""
        return digest[:_DIGEST] in self._exact

    def remember(self, peer: str, pdu: str, time: str, asso_id: str, digest: bytes, utc_ms: int) -> Remembered:
        """Remember one handshake PDU whose signature, path and time are good.

        Arguments:
            peer: identity of the peer.
            pdu: one letter per kind of PDU, so that one kind never hides another.
            time: TimeStamp of its token.
            asso_id: association number(s) of its token, empty if absent.
            digest: SHA-256 of the PDU.
            utc_ms: now.
        Returns:
            "replay" if the same kind, time and number were seen, "full" if the peer has too many entries.
        """
        self._tidy(utc_ms)
        entries = self._peers.get(peer)
        if entries is None:
            entries = self._open(peer)
        else:
            self._forget(entries)
        key = f"{pdu}{time_key(time)}/{asso_id}"
        if key in entries:
            return "replay"
        if len(entries) >= limits.OUR_REPLAY_PER_PEER:
            return "full"
        kept = digest[:_DIGEST]
        entries[key] = kept
        self._exact.add(kept)
        if self._journal is not None:
            self._journal.append(f"{peer} {key} {kept.hex()}\n")
        return "new"

    def _open(self, peer: str) -> dict[str, bytes]:
        self._turn.append(peer)
        self._peers[peer] = {}
        return self._peers[peer]

    def _tidy(self, utc_ms: int) -> None:
        """Forget what is expired of one more peer; each gets its turn."""
        second = utc_ms // 1000
        if second != self._second:
            self._second = second
            self._cutoff = time_key(time_text(utc_ms - limits.OUR_REPLAY_WINDOW * 1000))
        if self._turn:
            name = self._turn.popleft()
            entries = self._peers[name]
            self._forget(entries)
            if entries:
                self._turn.append(name)
            else:
                del self._peers[name]

    def _forget(self, entries: dict[str, bytes]) -> None:
        expired = []
        for key in entries:
            if key[1:24] >= self._cutoff:
                break
            expired.append(key)
        for key in expired:
            self._exact.discard(entries.pop(key))

    def journal(self) -> str:
        """What was remembered since the last call, as lines to append to the replay file; empty before ``load``."""
        if not self._journal:
            return ""
        lines, self._journal = self._journal, []
        return "".join(lines)

    def dump(self, utc_ms: int) -> str:
        """All that still counts, as lines for a new replay file."""
        for _ in range(len(self._turn)):
            self._tidy(utc_ms)
        return "".join(
            f"{peer} {key} {digest.hex()}\n" for peer, entries in self._peers.items() for key, digest in entries.items()
        )

    def load(self, lines: Iterable[str], utc_ms: int) -> None:
        """Take over lines of a replay file; expired ones are skipped. From now on there is a journal.

        Errors:
            ConfigError: a line is not one of ours; nothing that came after it was taken.
        """
        cutoff = time_key(time_text(utc_ms - limits.OUR_REPLAY_WINDOW * 1000))
        for number, line in enumerate(lines, 1):
            match = _LINE(line)
            if match is None:
                raise ConfigError("replay file damaged; without it, times before the start are refused", number)
            peer, key, digest = match.groups()
            if key[1:24] >= cutoff:
                entries = self._peers.get(peer)
                if entries is None:
                    entries = self._open(peer)
                entries[key] = bytes.fromhex(digest)
                self._exact.add(entries[key])
        if self._journal is None:
            self._journal = []


class PeerNumbers:
    """The association numbers between the own identity and one peer, in both roles."""

    __slots__ = (
        "_next_m",
        "_next_n",
        "_opened",
        "_pairs",
        "_quarantine",
        "_random",
        "_rejected",
        "_stamps",
        "_worker",
        "live_as_client",
        "live_as_server",
        "unconfirmed",
        "verified",
    )

    def __init__(self, worker: tuple[int, int], random: Callable[[int], int]) -> None:
        self._worker = worker
        self._random = random
        self._next_n = self._first()
        self._next_m: dict[int, int] = {}
        self._opened: deque[int] = deque()
        self._pairs: dict[tuple[int, int], int] = {}
        self._quarantine: deque[tuple[int, tuple[int, int]]] = deque()
        self._rejected: dict[int, int] = {}
        self._stamps: dict[int, int] = {}
        self.live_as_client: set[int] = set()
        self.live_as_server: set[int] = set()
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

        The time is later than that of every earlier request with this n, so that no (time, n) pair ever repeats.

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
        utc_ms = max(now.utc_ms, self._stamps.get(number, 0) + 1)
        self._stamps[number] = utc_ms
        return number, utc_ms

    def avoid(self, number: int, now: Instant) -> None:
        """Do not use a number again that the peer just rejected, for the replay window."""
        self._rejected[number] = now.mono_ms + limits.OUR_REPLAY_WINDOW * 1000

    def choose_server_number(self, n: int, now: Instant) -> int | None:
        """A number m so that n:m is neither live nor in quarantine; None if there is none."""
        self._release_quarantine(now)
        m = self._next_m.get(n)
        if m is None:
            m = self._first()
        for _ in range(limits.OUR_ASSO_NUMBERS):
            if (n, m) not in self._pairs:
                self._next_m[n] = self._after(m)
                return m
            m = self._after(m)
        return None

    def is_live(self, pair: tuple[int, int]) -> bool:
        """Whether n:m is in use between the two identities, in either role."""
        return self._pairs.get(pair) == _LIVE

    def hold(self, pair: tuple[int, int]) -> None:
        """n:m is in use."""
        self._pairs[pair] = _LIVE

    def free(self, pair: tuple[int, int], now: Instant) -> None:
        """n:m is not in use any more; it rests for 20 minutes."""
        self._release_quarantine(now)  # a mere client never chooses a number m
        until = now.mono_ms + limits.OUR_ASSO_PAIR_QUARANTINE * 1000
        self._pairs[pair] = until
        self._quarantine.append((until, pair))

    def _release_quarantine(self, now: Instant) -> None:
        quarantine, pairs = self._quarantine, self._pairs
        while quarantine and quarantine[0][0] <= now.mono_ms:
            until, pair = quarantine.popleft()
            if pairs.get(pair) == until:
                del pairs[pair]


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
        numbers: HandshakeReq refused because no association number was free.
        unsigned: rejects that went out as a plain ABRT, because the source had had its signed ones for that second.
    """

    repeats: int = 0
    half_open: int = 0
    unconfirmed: int = 0
    evicted: int = 0
    expired: int = 0
    memory: int = 0
    numbers: int = 0
    unsigned: int = 0


class Endpoint:
    """One local identity in one process.

    Arguments:
        config: who we are, whom we trust, what we insist on.
        now: the start; without a loaded replay memory, requests with an earlier time are refused (62351-4, flood
            rules), because they could be replays from before.
        worker: (i, N): this is process i of N under the same identity; they split the numbers.
        replay: a replay memory to share, or None for an own one.
        random: gives so many random octets.
    Errors:
        ConfigError: worker is out of range.

    Attributes:
        config, replay, worker: as given.
        fresh_trust: set it when anchors or CRLs were loaded anew: open associations check their peers against it from
            then on (at key updates and every 24 h), while ``config`` stays what they were made with.
        refuse_before: time key of the start, None once a replay memory was loaded.
        half_open: associations between HandshakeReq and HandshakeAcc.
        refusals: what was refused so far; shared by all endpoints of the identity.
    """

    __slots__ = (
        "__weakref__",
        "_peers",
        "_random",
        "_rejects",
        "_unconfirmed",
        "config",
        "fresh_trust",
        "half_open",
        "refusals",
        "refuse_before",
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
        self.config = config
        self.worker = worker
        self.replay = ReplayMemory() if replay is None else replay
        self.refuse_before: str | None = time_key(time_text(now.utc_ms))
        self.half_open = 0
        self.refusals = Refusals()
        self.fresh_trust: TrustStore | None = None
        self._random = random
        self._peers: dict[str, PeerNumbers] = {}
        self._unconfirmed: dict[Evictable, int] = {}
        self._rejects: dict[str, tuple[int, int]] = {}

    @property
    def trust(self) -> TrustStore:
        """Whom to believe in associations that are open."""
        return self.fresh_trust or self.config.trust

    # --- persistence ---

    def load(self, lines: Iterable[str] | None, now: Instant) -> None:
        """Take over the replay memory of the last run; earlier times need not be refused any more, unless that run
        had begun without a memory itself a short time before.

        Arguments:
            lines: None if the last run left none: earlier times stay refused; from now on there is a journal.
        Errors:
            ConfigError: the lines are damaged.
        """
        text = list(lines or ())
        since = _SINCE.fullmatch(text[0]) if text else None
        self.replay.load(text[1:] if since else text, now.utc_ms)
        if lines is not None:
            self.refuse_before = since[1] if since else None

    def dump(self, now: Instant) -> str:
        """The replay memory as text for ``load``; ``replay.journal()`` gives what was added since, for appending."""
        since = self.refuse_before
        # What is older than the window is refused anyway.
        oldest = time_key(time_text(max(now.utc_ms - limits.OUR_REPLAY_WINDOW * 1000, 0)))
        head = f"since {since}\n" if since is not None and since > oldest else ""
        return head + self.replay.dump(now.utc_ms)

    # --- numbers ---

    def numbers(self, peer: str) -> PeerNumbers:
        """The association numbers shared with a verified (server role) or configured (client role) peer."""
        found = self._peers.get(peer)
        if found is None:
            found = self._peers[peer] = PeerNumbers(self.worker, self._below)
        return found

    def _below(self, count: int) -> int:
        return int.from_bytes(self._random(8), "big") % count

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
        """One object for all associations of a peer with the same certificate, so that an idle one stays small."""
        numbers = self.numbers(name.oid)
        kept = numbers.verified
        if (
            kept is not None
            and kept.certificate.der == peer.certificate.der
            and kept.not_after_ms == peer.not_after_ms
            and kept.warnings == peer.warnings
        ):
            return kept
        numbers.verified = peer
        return peer
