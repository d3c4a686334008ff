"""Public-key work in worker threads: bounded, and never in the way of open associations.

The engine hands out jobs; ``_core`` does them without the GIL. All loops of a process share one small executor. Each
loop lets only a few jobs into it at a time and keeps the rest in two queues, so that a job of an open association (a
key update) overtakes the handshakes that wait.

A job whose signer brings its own executor (a smart card) goes there and takes no place of the others. How many jobs
are there at a time, and how long one waits to begin, is bounded here: whoever is refused fails alone and at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, Protocol

from fastsec import limits
from fastsec.aio.meter import JOB_SECONDS, Histogram
from fastsec.errors import SignerError

WORKERS_MAX: Final = 4
TURN: Final = 0.0005  # seconds that the ends of jobs take in one turn of the loop, if there are several


class Job(Protocol):
    """Work that may take milliseconds, or seconds with a card.

    ``executor`` (optional attribute): where to run. ``spare``: not to be queued behind others there. ``refuse``: called
    instead of ``run``.
    """

    def run(self) -> None:
        """Do the work in a worker thread; keep the result in the job."""


Done = Callable[[Any, BaseException | None], None]


class Workers:
    """Threads that run jobs. A ``ThreadPoolExecutor`` costs several times the thread switches and the Python code.

    A thread that has nothing to do leaves its lock in ``_idle``; who has a job takes the newest one and wakes exactly
    that thread. The lists are shared without a lock: each step is one operation of a deque or a list.

    Arguments:
        count: threads; they are daemons, so that a card that hangs does not keep the process.
    """

    __slots__ = ("_idle", "_tasks")

    def __init__(self, count: int) -> None:
        self._tasks: deque[tuple[Jobs, Job, Done]] = deque()
        self._idle: list[threading.Lock] = []
        for number in range(count):
            threading.Thread(target=self._work, name=f"fastsec_{number}", daemon=True).start()

    def submit(self, jobs: Jobs, job: Job, done: Done) -> None:
        """Have ``jobs.run_here(job, done, True)`` called in one of the threads."""
        self._tasks.append((jobs, job, done))
        with contextlib.suppress(IndexError):  # all are busy; each looks for more before it rests
            self._idle.pop().release()

    def _work(self) -> None:
        rest = threading.Lock()
        rest.acquire()
        while True:
            try:
                jobs, job, done = self._tasks.popleft()
            except IndexError:
                self._idle.append(rest)
                if self._tasks:  # came in between, and perhaps nobody was woken for it
                    with contextlib.suppress(ValueError):  # woken by now: then the lock has been released
                        self._idle.remove(rest)
                        continue
                rest.acquire()
            else:
                jobs.run_here(job, done, True)
                del jobs, job, done  # nothing of a job outlives it here


_lock = threading.Lock()
_shared: Workers | None = None


def workers() -> int:
    """Number of threads that all loops share."""
    return max(1, min(WORKERS_MAX, os.cpu_count() or 1))


def shared_workers() -> Workers:
    """The threads of this process, made at the first call."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = Workers(workers())
        return _shared


class Jobs:
    """The jobs of one event loop.

    Arguments:
        loop: where results are delivered.
        executor: instead of the shared one.
        slots: jobs let into the executor at a time; one more than it has threads keeps them busy.

    Attributes:
        elsewhere: jobs at executors of their own, by what they wait for: ``signer`` or ``revocation``.
        times: seconds from ``submit`` to the end, waiting included; of these, and of ``pool``.
    """

    __slots__ = (
        "_ended", "_executor", "_loop", "_own", "_running", "_since", "_slots", "_told", "_urgent", "_waiting",
        "elsewhere", "times",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, executor: Executor | None = None, slots: int | None = None
    ) -> None:
        self._loop = loop
        self._executor = executor
        self._slots = slots or workers() + 1
        self._running = 0
        self._own: dict[Executor, int] = {}  # jobs that each signer's executor has
        self._urgent: deque[tuple[Job, Done]] = deque()
        self._waiting: deque[tuple[Job, Done]] = deque()
        self._ended: deque[tuple[Job, Done, BaseException | None, bool]] = deque()
        self._told = False  # the loop is going to look into _ended
        self._since: dict[int, tuple[float, str]] = {}  # by the identity of the job
        self.elsewhere = {"signer": 0, "revocation": 0}
        self.times = {place: Histogram(JOB_SECONDS) for place in ("pool", *self.elsewhere)}

    @property
    def running(self) -> int:
        """Jobs inside the executor."""
        return self._running

    @property
    def waiting(self) -> int:
        """Jobs in the queues."""
        return len(self._urgent) + len(self._waiting)

    def submit(self, job: Job, done: Done, *, urgent: bool = False) -> None:
        """Run ``job`` and then call ``done(job, error)`` in the loop; error is what ``run`` raised, or None.

        Arguments:
            urgent: of an open association; goes before all that are not.
        """
        own: Executor | None = getattr(job, "executor", None)
        place = "pool" if own is None else getattr(own, "waits_for", "signer")
        self._since[id(job)] = time.monotonic(), place
        if own is not None:
            self.elsewhere[place] += 1
            self._submit_own(own, job, done)
        elif self._running < self._slots:
            self._start(job, done)
        else:
            (self._urgent if urgent else self._waiting).append((job, done))

    def _start(self, job: Job, done: Done) -> None:
        self._running += 1
        if self._executor is None:
            (_shared or shared_workers()).submit(self, job, done)
        else:
            self._submit(self._executor, job, done, True)

    def _submit_own(self, executor: Executor, job: Job, done: Done) -> None:
        there = self._own.get(executor, 0)
        if there >= limits.OUR_SIGNER_QUEUE:
            self._refuse(job, done, "too many wait for the signer")
            return
        if there >= getattr(executor, "threads", 1) and getattr(job, "spare", False):
            self._refuse(job, done, "the signer is needed for others")
            return
        self._own[executor] = there + 1
        timer: asyncio.TimerHandle | None = None

        def ended(job: Job, error: BaseException | None) -> None:
            if timer is not None:
                timer.cancel()
            self._own[executor] -= 1
            if not self._own[executor]:
                del self._own[executor]
            done(job, error)

        def settled(future: Future[None]) -> None:
            if future.cancelled():
                self._refuse(job, ended, "the signer was busy for too long, or has been shut down")

        try:
            future = executor.submit(self.run_here, job, ended, False)
        except RuntimeError:
            self._refuse(job, ended, "the signer has been shut down")
            return
        future.add_done_callback(settled)
        timer = self._loop.call_later(limits.OUR_SIGNER_WAIT, future.cancel)  # of no effect once it has begun

    def _refuse(self, job: Job, done: Done, why: str) -> None:
        error = SignerError(why)
        refuse = getattr(job, "refuse", None)
        if refuse is None:
            self._end(job, done, error, False)
        else:
            refuse(error)
            self._end(job, done, None, False)

    def _submit(self, executor: Executor, job: Job, done: Done, counted: bool) -> None:
        def settled(future: Future[None]) -> None:
            if future.cancelled():
                self._end(job, done, RuntimeError("the executor was shut down"), counted)

        try:
            executor.submit(self.run_here, job, done, counted).add_done_callback(settled)
        except RuntimeError as error:  # shut down
            self._end(job, done, error, counted)

    def run_here(self, job: Job, done: Done, counted: bool) -> None:
        """Run ``job`` in the calling thread and have the loop told."""
        try:
            job.run()
        except BaseException as error:
            self._end(job, done, error, counted)
        else:
            self._end(job, done, None, counted)

    def _end(self, job: Job, done: Done, error: BaseException | None, counted: bool) -> None:
        self._ended.append((job, done, error, counted))
        if not self._told:  # else the loop has yet to look; one wake-up serves for all
            self._told = True
            with contextlib.suppress(RuntimeError):  # the loop has been closed; nobody is left to be told
                self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        """In the loop: start what waits, then tell who waited for what has ended.

        What many threads have finished at once is told in several turns: open associations are heard in between.
        """
        self._told = False
        until = 0.0
        for _ in range(len(self._ended)):
            at = time.monotonic()
            if not until:
                until = at + TURN
            elif at >= until:
                if not self._told:
                    self._told = True
                    self._loop.call_soon(self._collect)
                return
            job, done, error, counted = self._ended.popleft()
            known = self._since.pop(id(job), None)
            if known is not None:
                since, place = known
                self.times[place].observe(at - since)
                if not counted:
                    self.elsewhere[place] -= 1
            if counted:
                self._running -= 1
                queue = self._urgent or self._waiting
                if queue and self._running < self._slots:
                    self._start(*queue.popleft())
            try:
                done(job, error)
            except Exception as failure:  # of one; the others have to be told all the same
                self._loop.call_exception_handler({"message": "end of a job", "exception": failure})
