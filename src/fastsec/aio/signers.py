"""Threads of a signer's own, for keys that take their time: tokens, cards, hardware security modules.

A signature of 250 ms in the shared threads would keep the verifications of all others waiting. So a signer that is not
software brings a ``SignerThreads`` as its ``executor``; how many jobs may wait there, and how long, ``Jobs`` decides.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final

from fastsec import limits
from fastsec.errors import ConfigError

_Task = tuple["Future[Any]", Callable[[], Any]]


class _Pool:
    """What the threads hold on to; the executor itself can go while they still run."""

    def __init__(self, threads: int, name: str, at_end: Callable[[], None] | None) -> None:
        self.threads, self.name, self.at_end = threads, name, at_end
        self.begin()
        _pools.add(self)

    def begin(self) -> None:
        """No thread yet; also in a forked process, which has none of its parent's."""
        self.tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.alive = 0
        self.closed = False

    def put(self, task: _Task) -> None:
        with self.lock:
            if self.closed:
                raise RuntimeError("the threads of this signer have been shut down")
            if self.alive < self.threads:
                self._start()
            self.tasks.put(task)

    def _start(self) -> None:
        # A daemon: a token that hangs does not keep the process from ending.
        threading.Thread(target=self._work, name=f"{self.name}_{self.alive}", daemon=True).start()
        self.alive += 1

    def close(self) -> None:
        """End the threads after what is queued. Returns at once; the last one does what is to be done at the end."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            if not self.alive and self.at_end is not None:
                with contextlib.suppress(RuntimeError):  # the interpreter is ending
                    self._start()
            for _ in range(self.alive):
                self.tasks.put(None)

    def _work(self) -> None:
        tasks = self.tasks
        while (task := tasks.get()) is not None:
            future, call = task
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:
                    future.set_exception(error)
                    del error
                else:
                    future.set_result(result)
                    del result
            del task, future, call  # nothing of a job outlives it here
        with self.lock:
            self.alive -= 1
            last = not self.alive
        if last and self.at_end is not None:
            self.at_end()


_pools: weakref.WeakSet[_Pool] = weakref.WeakSet()


def _forked() -> None:
    for pool in list(_pools):
        pool.begin()


os.register_at_fork(after_in_child=_forked)


class SignerThreads(Executor):
    """An executor for a signer: daemon threads, started when there is work, that a hanging token cannot make wait for.

    Arguments:
        threads: signatures at a time. Many tokens do one after the other whatever they are asked: 1.
        name: of the threads.
        at_end: called in the last thread, when the executor has been shut down or forgotten.
    """

    def __init__(self, threads: int = 1, *, name: str = "signer", at_end: Callable[[], None] | None = None) -> None:
        if not 1 <= threads <= limits.OUR_SIGNER_THREADS_MAX:
            raise ConfigError(f"threads of a signer: 1 to {limits.OUR_SIGNER_THREADS_MAX}")
        self.threads: Final = threads
        self._pool = _Pool(threads, name, at_end)
        self._finalizer = weakref.finalize(self, self._pool.close)
        self._finalizer.atexit = False  # the process does not wait for a token

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As ``concurrent.futures.Executor``; RuntimeError after ``shutdown``."""
        future: Future[Any] = Future()
        self._pool.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Take nothing new; what is queued is done, or with ``cancel_futures`` not. Never waits for the threads."""
        if cancel_futures:
            with contextlib.suppress(queue.Empty):
                while True:
                    task = self._pool.tasks.get_nowait()
                    if task is not None:
                        task[0].cancel()
        self._finalizer()
