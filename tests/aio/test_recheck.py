"""After a new list all open associations look at their peers again: each once, a few per turn, whatever one does."""

from __future__ import annotations

import asyncio
import threading

import pytest
from world import until

from fastsec import limits
from fastsec.aio.recheck import recheck_all
from fastsec.aio.runtime import runtime
from fastsec.aio.timers import mono_ms


class Target:
    """What has a deadline, and perhaps a peer."""

    def __init__(self, told: list[Target], *, fails: bool = False) -> None:
        self.told = told
        self.fails = fails

    def timer_expired(self) -> None:
        raise AssertionError("not due")

    def recheck(self) -> None:
        self.told.append(self)
        if self.fails:
            raise RuntimeError("this one")


class Plain:
    """A connection without security."""

    def timer_expired(self) -> None:
        raise AssertionError("not due")


def test_a_few_per_turn(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_RECHECK_PAUSE", 0.01)

    async def main() -> None:
        mine = runtime()
        told: list[Target] = []
        targets = [Target(told, fails=number == 7) for number in range(100)]
        far = mono_ms() + 3_600_000
        slots = [mine.timers.move(target, 0, far + number) for number, target in enumerate([*targets, Plain()])]
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["exception"]))
        await asyncio.to_thread(recheck_all)  # as the service does, from its thread
        steps = []
        while mine.rechecks is not None or not told:
            before = len(told)
            await asyncio.sleep(0)
            steps.append(len(told) - before)
        assert max(steps) <= limits.OUR_RECHECKS_AT_ONCE
        assert sorted(map(id, told)) == sorted(map(id, targets))
        assert [str(error) for error in complaints] == ["this one"]
        for target, slot in zip([*targets], slots, strict=False):
            mine.timers.move(target, slot, None)

    run(main())


def test_news_while_it_is_under_way_begins_anew(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left out of the second list because he had his turn for the first; and there is one row, not two."""
    monkeypatch.setattr(limits, "OUR_RECHECK_PAUSE", 0.005)
    monkeypatch.setattr(limits, "OUR_RECHECKS_AT_ONCE", 4)

    async def main() -> None:
        mine = runtime()
        told: list[Target] = []
        targets = [Target(told) for _ in range(20)]
        far = mono_ms() + 3_600_000
        slots = [mine.timers.move(target, 0, far) for target in targets]
        recheck_all()
        await until(lambda: len(told) >= 8, 30)
        seen = len(told)
        recheck_all()
        await until(lambda: mine.rechecks is None, 30)
        assert all(told.count(target) in (1, 2) for target in targets)
        assert seen + len(targets) <= len(told) < 2 * len(targets) + seen
        for target, slot in zip(targets, slots, strict=True):
            mine.timers.move(target, slot, None)

    run(main())


def test_nobody_to_tell() -> None:
    """Loops that are closed, or none at all."""
    asyncio.run(_touch())
    thread = threading.Thread(target=recheck_all)
    thread.start()
    thread.join()


async def _touch() -> None:
    runtime()
