"""What the processes of one local identity remember together: handshakes seen, pairs n:m, times of own requests.

``ReplayMemory`` is the index, complete in each process. A ``Store`` makes it one memory for several processes and keeps
it over a restart: what is decided within ``with memory:`` is one step for all of them. Files are an adapter's work
(``fastsec.aio.replay_file``).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Literal, Protocol

from fastsec import limits
from fastsec.secpdu.timestamp import time_key, time_text

_KEY: Final = re.compile(r"[A-Z][0-9]{23}/[0-9:]{0,7}").fullmatch
_MARK: Final = re.compile(r"\+[cs][0-9]{1,3}").fullmatch
_PAIR: Final = re.compile(r"([0-9]{1,3}):([0-9]{1,3})").fullmatch
_DIGEST: Final = 16  # octets of a SHA-256 kept per handshake: nobody finds a second request with the same 128 bits
_STAMP_STEP: Final = 1000  # ms: so finely the time of the last own request is noted

Remembered = Literal["new", "replay", "full"]


class Store(Protocol):
    """Shares a memory among processes, and keeps it. Lines are those of ``ReplayMemory.take``."""

    @property
    def is_shared(self) -> bool:
        """Whether there are other processes, which have to know soon of all that changes."""

    def look(self) -> None:
        """Take over what other processes have added, as far as that can be had without waiting for anybody."""

    def begin(self) -> None:
        """Begin a step: nobody else decides until ``end``; take over all that others have added.

        Errors:
            LimitReached: another process does not come to its end; there is no step then.
        """

    def end(self, lines: list[str]) -> None:
        """End the step that ``begin`` began; keep ``lines``.

        Errors:
            LimitReached: they cannot be kept, so nobody else knows of them; the step is over all the same.
        """

    def is_alive(self, worker: int) -> bool:
        """Whether the process with this index runs."""


class Pairs:
    """The pairs n:m between the own identity and one peer, in both roles: live, or resting for 20 minutes.

    Arguments:
        everywhere: n:m -> with how many peers it is live; shared by all peers.

    Attributes:
        served: the peer's number n -> n:m, of associations in which the peer is client.
        live: n:m -> role and process that has it, ``c0``, ``s3``.
    """

    __slots__ = ("_everywhere", "_queue", "_until", "live", "served")

    def __init__(self, everywhere: dict[tuple[int, int], int]) -> None:
        self._everywhere = everywhere
        self.live: dict[tuple[int, int], str] = {}
        self.served: dict[int, tuple[int, int]] = {}
        self._until: dict[tuple[int, int], int] = {}
        self._queue: deque[tuple[int, tuple[int, int]]] = deque()

    def __contains__(self, pair: tuple[int, int]) -> bool:
        return pair in self.live or pair in self._until

    def __len__(self) -> int:
        return len(self.live) + len(self._until)

    def hold(self, pair: tuple[int, int], mark: str) -> None:
        """It is in use."""
        self._until.pop(pair, None)
        if pair not in self.live:
            self._everywhere[pair] = self._everywhere.get(pair, 0) + 1
        self.live[pair] = mark
        if mark[0] == "s":
            self.served[pair[0]] = pair

    def rest(self, pair: tuple[int, int], until_ms: int) -> None:
        """It is not in use any more, and will not be until then."""
        if self.live.pop(pair, None) is not None:
            self._everywhere[pair] -= 1
            if not self._everywhere[pair]:
                del self._everywhere[pair]
        if self.served.get(pair[0]) == pair:
            del self.served[pair[0]]
        if self._until.get(pair) != until_ms:
            self._until[pair] = until_ms
            self._queue.append((until_ms, pair))

    def release(self, mono_ms: int) -> None:
        """Forget those that have rested."""
        queue, resting = self._queue, self._until
        while queue and queue[0][0] <= mono_ms:
            until, pair = queue.popleft()
            if resting.get(pair) == until:
                del resting[pair]

    def resting(self) -> Iterator[tuple[tuple[int, int], int]]:
        """Those at rest, the oldest first, and until when."""
        yield from self._until.items()


class ReplayMemory:
    """The (time, assoID) pairs and fingerprints of accepted handshake PDUs, per peer, until time + 10 min; and the
    pairs n:m. A full peer is refused, no other peer suffers.

    Arguments:
        refuse_before: time key; what came before is not known. None: all is known.
        worker: index of this process among those under the same identity.

    Attributes:
        refuse_before, worker: as given; the first changes if the store turns out to be damaged.
        floor_ms: own requests have to be later than this, because of those of an earlier run.
    """

    # An entry is  letter of the PDU, 23 digits of time, "/", number  ->  digest. Times of one peer grow, but for the
    # steps of its clock, so what is expired stands in front and each call removes only that.
    __slots__ = (
        "_cutoff",
        "_depth",
        "_exact",
        "_journal",
        "_live",
        "_marks",
        "_pairs",
        "_peers",
        "_second",
        "_stamps",
        "_store",
        "_turn",
        "_urgent",
        "floor_ms",
        "refuse_before",
        "worker",
    )

    def __init__(self, refuse_before: str | None = None, worker: int = 0) -> None:
        self.refuse_before = refuse_before
        self.worker = worker
        self._marks = f"c{worker}", f"s{worker}"
        self.floor_ms = 0
        self._peers: dict[str, dict[str, bytes]] = {}
        self._turn: deque[str] = deque()
        self._exact: set[bytes] = set()
        self._pairs: dict[str, Pairs] = {}
        self._live: dict[tuple[int, int], int] = {}
        self._stamps: dict[int, int] = {}
        self._journal: list[str] = []
        self._store: Store | None = None
        self._urgent = False
        self._depth = 0
        self._second = -1
        self._cutoff = ""

    # --- sharing ---

    def attach(self, store: Store | None) -> None:
        """Share through ``store`` from now on, which has given all its lines to ``take`` already; None: no longer."""
        self._store = store
        self._journal = []
        self._urgent = False

    def __enter__(self) -> ReplayMemory:
        """A step of all processes begins; may be nested. LimitReached: not possible now, nothing may be decided."""
        if not self._depth and self._store is not None:
            self._store.begin()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It ends; what was added is kept. LimitReached: it is not, so nothing of it may be used."""
        self._depth -= 1
        if not self._depth and self._store is not None:
            lines = self.drain()
            try:
                self._store.end(lines)
            except BaseException:
                self._journal = lines + self._journal  # the next step tries again
                self._urgent = True
                if kind is None:
                    raise

    def flush(self) -> None:
        """Keep what was noted outside a step, unless it can wait. LimitReached: not possible now, try again later."""
        if self._urgent and not self._depth:
            with self:
                pass

    def drain(self) -> list[str]:
        """What was noted and is not yet kept; the caller keeps it."""
        lines, self._journal = self._journal, []
        self._urgent = False
        return lines

    def _note(self, line: str, urgent: bool) -> None:
        self._journal.append(line)
        self._urgent = self._urgent or urgent

    # --- handshakes seen ---

    def exact(self, digest: bytes) -> bool:
        """Whether a handshake PDU with this SHA-256 was remembered: costs no public-key work."""
        if self._store is not None:
            self._store.look()
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
        Errors:
            LimitReached: what other processes have seen cannot be told now.
        """
        with self:
            self.tidy(utc_ms)
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
            if self._store is not None:
                self._note(f"{peer} {key} {kept.hex()}", True)
            return "new"

    def _open(self, peer: str) -> dict[str, bytes]:
        self._turn.append(peer)
        self._peers[peer] = {}
        return self._peers[peer]

    def tidy(self, utc_ms: int) -> None:
        """Forget what is expired of one more peer; each gets its turn."""
        second = utc_ms // 1000
        if second != self._second:
            self._second = second
            self._cutoff = time_key(time_text(max(utc_ms - limits.OUR_REPLAY_WINDOW * 1000, 0)))
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

    # --- pairs n:m ---

    def pairs(self, peer: str) -> Pairs:
        """Those with ``peer``. Change them by ``hold`` and ``rest`` here, so that the others learn of it."""
        found = self._pairs.get(peer)
        if found is None:
            found = self._pairs[peer] = Pairs(self._live)
        return found

    def is_live(self, pair: tuple[int, int]) -> bool:
        """Whether n:m is in use with any peer, in either role."""
        return pair in self._live

    def hold(self, peer: str, pair: tuple[int, int], *, served: bool) -> None:
        """n:m is in use; ``served``: n is the peer's."""
        mark = self._marks[served]
        self.pairs(peer).hold(pair, mark)
        if self._store is not None:
            self._note(f"{peer} +{mark} {pair[0]}:{pair[1]}", True)

    def rest(self, peer: str, pair: tuple[int, int], until_ms: int) -> None:
        """n:m is not in use any more; it rests until then (monotonic clock)."""
        self.pairs(peer).rest(pair, until_ms)
        if self._store is not None:
            self._note(f"{peer} -{until_ms} {pair[0]}:{pair[1]}", self._store.is_shared)

    def is_served(self, peer: str, n: int, mono_ms: int) -> bool:
        """Whether the peer's number n is live, in whichever process. What a process has left behind is not."""
        pair = self.pairs(peer).served.get(n)
        if pair is None:
            return False
        owner = int(self.pairs(peer).live[pair][1:])
        if owner == self.worker or self._store is None or self._store.is_alive(owner):
            return True
        self.rest_live(mono_ms, owner)
        return False

    def rest_live(self, mono_ms: int, worker: int | None = None) -> None:
        """What the process ``worker`` had in use rests from now on, because it runs no more; None: all of them."""
        until = mono_ms + limits.OUR_ASSO_PAIR_QUARANTINE * 1000
        for peer, pairs in self._pairs.items():
            for pair in [pair for pair, mark in pairs.live.items() if worker is None or int(mark[1:]) == worker]:
                self.rest(peer, pair, until)

    def rest_all(self, mono_ms: int) -> None:
        """All pairs, live or resting, rest anew from now on: the monotonic clock is another one than before."""
        until = mono_ms + limits.OUR_ASSO_PAIR_QUARANTINE * 1000
        for peer, pairs in self._pairs.items():
            for pair in [*pairs.live, *(pair for pair, _ in pairs.resting())]:
                self.rest(peer, pair, until)

    # --- times of own requests ---

    def stamped(self, utc_ms: int) -> None:
        """An own HandshakeReq has this time; noted once a second, rounded up."""
        if utc_ms > self._stamps.get(self.worker, 0):
            self._stamps[self.worker] = until = (utc_ms // _STAMP_STEP + 1) * _STAMP_STEP
            if self._store is not None:
                self._note(f". ={self.worker} {until}", True)

    def raise_floor(self, *, alone: bool) -> None:
        """Let own requests be later than those of earlier runs; ``alone``: no other process runs, and the numbers may
        have been split otherwise."""
        times = self._stamps.values() if alone else [self._stamps.get(self.worker, 0)]
        self.floor_ms = max(times, default=0)

    # --- lines ---

    def take(self, line: str, mono_ms: int = 0) -> None:
        """Take over one line of a store; an expired one has no effect. ``tidy`` says what time it is.

        Errors:
            ValueError: it is not one of ours.
        """
        peer, key, value = line.split(" ")
        if key[:1] == "+" or key[:1] == "-":
            match = _PAIR(value)
            if match is None:
                raise ValueError(line)
            pair = int(match[1]), int(match[2])
            pairs = self.pairs(peer)
            if key[0] == "-":
                pairs.release(mono_ms)
                pairs.rest(pair, int(key[1:]))
            elif _MARK(key) is not None:
                pairs.hold(pair, key[1:])
            else:
                raise ValueError(line)
        elif key[:1] == "=":
            self._stamps[int(key[1:])] = int(value)
        else:
            digest = bytes.fromhex(value)
            if _KEY(key) is None or len(digest) != _DIGEST:
                raise ValueError(line)
            if key[1:24] >= self._cutoff:
                entries = self._peers.get(peer)
                if entries is None:
                    entries = self._open(peer)
                entries[key] = digest
                self._exact.add(digest)

    def standing(self) -> list[str]:
        """Lines that do not expire by themselves: pairs in use, times of own requests."""
        lines = [f". ={worker} {until}" for worker, until in self._stamps.items()]
        for peer, pairs in self._pairs.items():
            lines += [f"{peer} +{mark} {n}:{m}" for (n, m), mark in pairs.live.items()]
        return lines

    def lines(self, utc_ms: int) -> list[str]:
        """All that still counts."""
        for _ in range(len(self._turn)):
            self.tidy(utc_ms)
        lines = self.standing()
        for peer, entries in self._peers.items():
            lines += [f"{peer} {key} {digest.hex()}" for key, digest in entries.items()]
        for peer, pairs in self._pairs.items():
            lines += [f"{peer} -{until} {n}:{m}" for (n, m), until in pairs.resting()]
        return lines
