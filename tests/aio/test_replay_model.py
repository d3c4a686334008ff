"""The shared replay memory against a dict: several openers, ends of all kinds, files torn and changed in between.

Without damage every opener answers exactly as the dict does. With damage a request may be refused for nothing, but none
is ever accepted twice.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fastsec import limits
from fastsec.aio import replay_file
from fastsec.aio.replay_file import ReplayFile
from fastsec.errors import ConfigError, LimitReached
from fastsec.instant import Instant
from fastsec.replay import ReplayMemory
from fastsec.secpdu.timestamp import time_key, time_text

UTC = 1_795_000_000_000
WORKERS = 3
PEERS = ("1.2.3", "1.2.4")
OWN = "1.1.1.999.2.12"
WORKER = st.integers(0, WORKERS - 1)


class Clock:
    """Both clocks; one more millisecond at each look at it, as no two steps of real processes are at one moment."""

    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> Instant:
        self.ms += 1
        return Instant(UTC + self.ms, 10_000_000 + self.ms)


class Machine(RuleBasedStateMachine):
    """What is right holds for any order of the rules."""

    damaging = False

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = f"{self.directory.name}/replay"
        self.clock = Clock()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(replay_file, "now", self.clock)
        self.patch.setattr(replay_file, "KEEP_MS", 0)
        self.patch.setattr(limits, "OUR_REPLAY_LOCK", 0)
        self.patch.setattr(limits, "OUR_REPLAY_LOCK_AGAIN", 0)
        self.patch.setattr(replay_file, "START_WAIT", 0)
        self.patch.setattr(replay_file, "boot_id", lambda: f"boot-{self.boots}")
        self.boots = 0
        self.open: dict[int, tuple[ReplayMemory, ReplayFile]] = {}
        self.requests: list[tuple[str, str, int]] = []  # peer, time, number
        self.accepted: dict[int, int] = {}  # request -> how often
        self.pairs: dict[tuple[int, int], int] = {}  # in use, and by whom
        self.damaged = False

    def teardown(self) -> None:
        for worker in list(self.open):
            self.kill(worker)
        self.patch.undo()
        self.directory.cleanup()

    @initialize()
    def begin(self) -> None:
        """All is known: this is not the first start."""
        self.start(0)
        memory, file = self.open[0]
        memory.refuse_before = None
        file._begin_generation(whole=True)

    # --- processes ---

    @rule(worker=WORKER)
    def start(self, worker: int) -> None:
        """A process starts; where another runs in its place it is refused."""
        memory = ReplayMemory(time_key(time_text(self.clock().utc_ms)), worker)
        try:
            file = ReplayFile(self.path, memory, OWN, (worker, WORKERS))
        except ConfigError as error:
            assert "runs already" in str(error) if worker in self.open else self.damaged  # noqa: PT017
        else:
            assert worker not in self.open
            self.open[worker] = memory, file
            self.pairs = {pair: owner for pair, owner in self.pairs.items() if owner != worker and owner in self.open}

    @rule(worker=WORKER)
    def kill(self, worker: int) -> None:
        """``kill -9``."""
        if worker in self.open:
            memory, file = self.open.pop(worker)
            memory.attach(None)
            file.abandon()

    @rule(worker=WORKER)
    def close(self, worker: int) -> None:
        """An orderly end."""
        if worker in self.open:
            self.open.pop(worker)[1].close()

    @rule(orderly=st.booleans())
    def reboot(self, orderly: bool) -> None:
        """The machine goes down; nothing that was written is lost here, but nobody can know."""
        for worker in list(self.open):
            (self.close if orderly else self.kill)(worker)
        self.boots += 1
        self.damaged = self.damaged or not orderly

    # --- handshakes ---

    def answer(self, worker: int, index: int) -> str:
        """What the engine does with the request."""
        peer, time, number = self.requests[index]
        memory, _ = self.open[worker]
        digest = (index + 1).to_bytes(8, "big") * 4
        exact = memory.exact(digest)
        moment = self.clock()
        with contextlib.suppress(LimitReached), memory:
            if memory.refuse_before is not None and time_key(time) < memory.refuse_before:
                return "old"
            seen = memory.remember(peer, "Q", time, str(number), digest, moment.utc_ms)
            assert not (exact and seen == "new")
            return seen
        return "busy"

    @rule(peer=st.sampled_from(PEERS), number=st.integers(0, 3), workers=st.lists(WORKER, min_size=1, max_size=4))
    def fresh(self, peer: str, number: int, workers: list[int]) -> None:
        """A request is made, and handed in at some processes at once."""
        index = len(self.requests)
        self.requests.append((peer, time_text(self.clock().utc_ms), number))
        for worker in workers:
            self.hand_in(worker, index)

    @precondition(lambda self: self.requests)
    @rule(worker=WORKER, which=st.integers(0, 10**6))
    def again(self, worker: int, which: int) -> None:
        """One that was recorded."""
        self.hand_in(worker, which % len(self.requests))

    def hand_in(self, worker: int, index: int) -> None:
        if worker not in self.open:
            return
        seen = self.answer(worker, index)
        before = self.accepted.get(index, 0)
        if seen == "new":
            assert not before
            self.accepted[index] = 1
        elif not self.damaged:
            assert (seen, before) == ("replay", 1)

    # --- pairs ---

    @rule(worker=WORKER, n=st.integers(0, 2), served=st.booleans())
    def hold(self, worker: int, n: int, served: bool) -> None:
        """As the server chooses: none that is known."""
        if worker not in self.open:
            return
        memory, _ = self.open[worker]
        with contextlib.suppress(LimitReached), memory:
            pairs = memory.pairs(PEERS[0])
            m = next(m for m in range(10**6) if (n, m) not in pairs)
            assert self.pairs.get((n, m)) is None or self.damaged
            memory.hold(PEERS[0], (n, m), served=served)
            self.pairs[n, m] = worker

    @rule(which=st.integers(0, 10**6))
    def free(self, which: int) -> None:
        """By its owner."""
        own = [(pair, owner) for pair, owner in self.pairs.items() if owner in self.open]
        if own:
            pair, owner = own[which % len(own)]
            memory, _ = self.open[owner]
            memory.rest(PEERS[0], pair, self.clock().mono_ms + 1000)
            with contextlib.suppress(LimitReached):
                memory.flush()
            del self.pairs[pair]

    # --- files ---

    @rule(worker=WORKER)
    def rotate(self, worker: int) -> None:
        """Twice in a row would lose what has not expired, which the time between two forbids."""
        if worker in self.open and not self.damaged:
            memory, file = self.open[worker]
            with memory:
                file._begin_generation(whole=file._facts is not None and not file._facts.whole)

    @precondition(lambda self: self.damaging)
    @rule(
        end=st.sampled_from("01"),
        at=st.integers(0, 10**6),
        how=st.sampled_from(["cut", "flip", "zero", "gone"]),
        ending=st.booleans(),
        starting=st.none() | WORKER,
    )
    def damage(self, end: str, at: int, how: str, ending: bool, starting: int | None) -> None:
        """Something happens to a file, and then everything recorded comes again."""
        for worker in list(self.open) if ending else ():
            self.kill(worker)
        self.harm(end, at, how)
        if starting is not None:
            self.start(starting)
        for index in range(len(self.requests)):
            for worker in list(self.open):
                self.hand_in(worker, index)

    def harm(self, end: str, at: int, how: str) -> None:
        """Damage one file; often near its beginning."""
        at //= 1 + at % 5 * 1000
        file = Path(f"{self.path}.{end}")
        if not file.exists():
            return
        self.damaged = True
        data = bytearray(file.read_bytes())
        if how == "gone":
            file.unlink()
        elif how == "cut":
            os.truncate(file, at % (len(data) + 1))
        elif data:
            with file.open("r+b") as out:
                out.seek(at % len(data))
                out.write(bytes([data[at % len(data)] ^ (1 << at % 8)]) if how == "flip" else b"\0")

    @rule()
    def compare(self) -> None:
        """After a look at the file each has what the others have. No invariant: mostly they have yet to look."""
        if not self.damaged and self.open:
            views = []
            for memory, _ in self.open.values():
                with memory:
                    views.append(sorted(line for line in memory.lines(UTC) if line[0] != "."))
            assert all(view == views[0] for view in views)
            assert {pair for memory, _ in self.open.values() for pair in memory.pairs(PEERS[0]).live} >= {
                pair for pair, owner in self.pairs.items() if owner in self.open
            }


class DamagingMachine(Machine):
    """Likewise, with damage."""

    damaging = True


@pytest.mark.parametrize("machine", [Machine, DamagingMachine])
def test_nothing_is_accepted_twice(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
