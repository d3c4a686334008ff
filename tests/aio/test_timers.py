"""The shared timer: deadlines move, are never early, and one that fails harms no other. Time is simulated."""

from __future__ import annotations

import asyncio

import pytest

from fastsec.aio import timers as timers_module
from fastsec.aio.runtime import runtime
from fastsec.aio.timers import BURST, COARSE_MS, FINE_MS, NEAR_MS, Timers


class Loop:
    """An event loop reduced to call_later, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.calls: list[Handle] = []
        self.complaints: list[dict] = []

    def call_later(self, delay: float, callback):
        handle = Handle(self.now + round(delay * 1000), callback)
        self.calls.append(handle)
        return handle

    def call_exception_handler(self, context) -> None:
        self.complaints.append(context)

    def armed(self) -> list[Handle]:
        return sorted((call for call in self.calls if not call.cancelled), key=lambda call: call.when)

    def run_until(self, when: int) -> None:
        while self.armed() and self.armed()[0].when <= when:
            call = self.armed()[0]
            self.calls.remove(call)
            self.now = max(self.now, call.when)
            call.callback()
        self.now = when


class Handle:
    def __init__(self, when: int, callback) -> None:
        self.when, self.callback, self.cancelled = when, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class Target:
    def __init__(self, loop: Loop, timers: Timers) -> None:
        self.loop, self.timers, self.slot, self.fired = loop, timers, 0, []

    def due(self, when: int | None) -> None:
        self.slot = self.timers.move(self, self.slot, when)

    def timer_expired(self) -> None:
        self.slot = 0
        self.fired.append(self.loop.now)


@pytest.fixture
def loop(monkeypatch) -> Loop:
    made = Loop()
    monkeypatch.setattr(timers_module, "mono_ms", lambda: made.now)
    return made


@pytest.mark.parametrize("after", [0, 1, FINE_MS, 500, NEAR_MS - 1, NEAR_MS, 60_000, 86_400_000])
def test_never_early_and_not_much_later(loop, after) -> None:
    timers = Timers(loop)
    target = Target(loop, timers)
    due = loop.now + after
    target.due(due)
    loop.run_until(due + 3 * COARSE_MS)
    [fired] = target.fired
    grain = FINE_MS if after < NEAR_MS else COARSE_MS
    assert due <= fired <= due + grain + 1
    assert len(timers) == 0


def test_a_deadline_moves_and_goes(loop) -> None:
    timers = Timers(loop)
    first, second = Target(loop, timers), Target(loop, timers)
    first.due(loop.now + 100)
    second.due(loop.now + 100)
    first.due(loop.now + 50)  # earlier
    second.due(loop.now + 5000)  # later
    loop.run_until(loop.now + 200)
    assert len(first.fired) == 1
    assert second.fired == []
    second.due(None)
    assert len(timers) == 0
    loop.run_until(loop.now + 100_000)
    assert second.fired == []


def test_the_same_slot_is_kept(loop) -> None:
    timers = Timers(loop)
    target = Target(loop, timers)
    target.due(loop.now + 100_000)
    slot = target.slot
    target.due(loop.now + 100_000)
    assert target.slot == slot
    assert len(timers) == 1


def test_distant_deadlines_share_a_wake_up(loop) -> None:
    timers = Timers(loop)
    targets = [Target(loop, timers) for _ in range(200)]
    for number, target in enumerate(targets):
        target.due(loop.now + 3_600_000 + number)
    assert len(timers._slots) <= 2
    assert len(loop.armed()) == 1


def test_many_at_once_are_called_in_bursts(loop) -> None:
    timers = Timers(loop)
    targets = [Target(loop, timers) for _ in range(3 * BURST)]
    for target in targets:
        target.due(loop.now + 100)
    [call] = loop.armed()
    loop.calls.clear()
    loop.now = call.when
    call.callback()
    assert sum(len(target.fired) for target in targets) == BURST
    victim = next(target for target in targets if not target.fired)
    victim.due(None)  # cancelled between two bursts
    loop.run_until(loop.now + 1000)
    assert [len(target.fired) for target in targets if target is not victim] == [1] * (3 * BURST - 1)
    assert victim.fired == []


def test_one_that_fails_harms_no_other(loop) -> None:
    timers = Timers(loop)
    targets = [Target(loop, timers) for _ in range(3)]
    targets[1].timer_expired = lambda: 1 / 0
    for target in targets:
        target.due(loop.now + 10)
    loop.run_until(loop.now + 100)
    assert [len(target.fired) for target in targets] == [1, 0, 1]
    assert isinstance(loop.complaints[0]["exception"], ZeroDivisionError)


def test_a_target_may_set_its_next_deadline(loop) -> None:
    timers = Timers(loop)
    target = Target(loop, timers)
    plain = target.timer_expired

    def again() -> None:
        plain()
        if len(target.fired) < 3:
            target.due(loop.now + 100)

    target.timer_expired = again
    target.due(loop.now + 100)
    loop.run_until(loop.now + 1000)
    assert len(target.fired) == 3


def test_a_distant_deadline_set_while_firing_hides_no_near_one(loop) -> None:
    timers = Timers(loop)
    first, second = Target(loop, timers), Target(loop, timers)
    plain = first.timer_expired

    def distant() -> None:
        plain()
        first.due(loop.now + 3_600_000)

    first.timer_expired = distant
    first.due(loop.now + 100)
    second.due(loop.now + 200)
    loop.run_until(loop.now + 1000)
    assert (len(first.fired), len(second.fired)) == (1, 1)


def test_the_heap_does_not_grow_with_moves(loop) -> None:
    timers = Timers(loop)
    target = Target(loop, timers)
    for number in range(10_000):
        target.due(loop.now + 100_000 + number * COARSE_MS)
    assert len(timers._heap) <= 2 * BURST
    loop.run_until(loop.now + 100_000 + 10_001 * COARSE_MS)
    assert len(target.fired) == 1


def test_one_runtime_per_loop(run) -> None:
    async def main():
        assert runtime() is runtime(asyncio.get_running_loop())
        return runtime()

    assert run(main()) is not run(main())


def test_on_a_real_loop(run) -> None:
    async def main() -> None:
        fired = asyncio.Event()

        class Real:
            def timer_expired(self) -> None:
                fired.set()

        timers = runtime().timers
        start = timers_module.mono_ms()
        timers.move(Real(), 0, start + 20)
        await fired.wait()
        assert timers_module.mono_ms() >= start + 20

    run(main())
