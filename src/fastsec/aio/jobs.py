"""Public-key work in worker threads: bounded, and never in the way of open associations.

The engine hands out jobs; ``_core`` does them without the GIL. All loops of a process share one small executor. Each
loop lets only a few jobs into it at a time and keeps the rest in two queues, so that a job of an open association (a
key update) overtakes the handshakes that wait. A job whose signer brings its own executor (a smart card) goes there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final, Protocol

WORKERS_MAX: Final = 4


class Job(Protocol):
    """Work that may take milliseconds, or seconds with a card. ``executor`` (optional attribute): where to run."""

    def run(self) -> None:
        """Do the work in a worker thread; keep the result in the job."""


Done = Callable[[Any, BaseException | None], None]

_lock = threading.Lock()
_shared: ThreadPoolExecutor | None = None


def workers() -> int:
    """Number of threads of the shared executor."""
    return max(1, min(WORKERS_MAX, os.cpu_count() or 1))


def shared_executor() -> ThreadPoolExecutor:
    """The executor of this process, made at the first call."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = ThreadPoolExecutor(workers(), thread_name_prefix="fastsec")
        return _shared


class Jobs:
    """The jobs of one event loop.

    Arguments:
        loop: where results are delivered.
        executor: instead of the shared one.
        slots: jobs let into the executor at a time; one more than it has threads keeps them busy.
    """

    __slots__ = ("_executor", "_loop", "_running", "_slots", "_urgent", "_waiting")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, executor: Executor | None = None, slots: int | None = None
    ) -> None:
        self._loop = loop
        self._executor = executor
        self._slots = slots or workers() + 1
        self._running = 0
        self._urgent: deque[tuple[Job, Done]] = deque()
        self._waiting: deque[tuple[Job, Done]] = deque()

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
        if own is not None:
            self._start(own, job, done, False)
        elif self._running < self._slots:
            self._start(self._executor or shared_executor(), job, done, True)
        else:
            (self._urgent if urgent else self._waiting).append((job, done))

    def _start(self, executor: Executor, job: Job, done: Done, counted: bool) -> None:
        if counted:
            self._running += 1
        loop = self._loop

        def finished(future: Future[None]) -> None:
            error = future.exception() if not future.cancelled() else RuntimeError("the executor was shut down")
            with contextlib.suppress(RuntimeError):  # the loop has been closed; nobody is left to be told
                loop.call_soon_threadsafe(self._finished, job, done, error, counted)

        try:
            executor.submit(job.run).add_done_callback(finished)
        except RuntimeError as error:  # shut down
            loop.call_soon(self._finished, job, done, error, counted)

    def _finished(self, job: Job, done: Done, error: BaseException | None, counted: bool) -> None:
        if counted:
            self._running -= 1
            queue = self._urgent or self._waiting
            if queue and self._running < self._slots:
                next_job, next_done = queue.popleft()
                self._start(self._executor or shared_executor(), next_job, next_done, True)
        done(job, error)
