"""The bounded executor: order, limits, priorities, failures."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastsec.aio import jobs as jobs_module
from fastsec.aio.jobs import Jobs


class Work:
    """A job that waits for a gate."""

    def __init__(self, gate: threading.Event | None = None, error: BaseException | None = None) -> None:
        self.gate, self.error, self.thread = gate, error, ""

    def run(self) -> None:
        self.thread = threading.current_thread().name
        if self.gate is not None:
            self.gate.wait(10)
        if self.error is not None:
            raise self.error


async def finished(jobs: Jobs, *works: Work, urgent: bool = False) -> list[tuple[Work, BaseException | None]]:
    """Submit all and wait for all."""
    results: list[tuple[Work, BaseException | None]] = []
    done = asyncio.Event()

    def note(work: Work, error: BaseException | None) -> None:
        assert threading.current_thread() is threading.main_thread()
        results.append((work, error))
        if len(results) == len(works):
            done.set()

    for work in works:
        jobs.submit(work, note, urgent=urgent)
    await done.wait()
    return results


def test_results_come_to_the_loop(run) -> None:
    async def main() -> None:
        jobs = Jobs(asyncio.get_running_loop())
        good, bad = Work(), Work(error=ValueError("x"))
        results = dict(await finished(jobs, good, bad))
        assert results[good] is None
        assert isinstance(results[bad], ValueError)
        assert good.thread.startswith("fastsec")
        assert jobs.running == jobs.waiting == 0

    run(main())


def test_no_more_than_the_slots_run_at_a_time(run) -> None:
    async def main() -> None:
        gate = threading.Event()
        with ThreadPoolExecutor(8) as executor:
            jobs = Jobs(asyncio.get_running_loop(), executor, slots=2)
            works = [Work(gate) for _ in range(7)]
            task = asyncio.ensure_future(finished(jobs, *works))
            await asyncio.sleep(0)
            assert (jobs.running, jobs.waiting) == (2, 5)
            gate.set()
            assert [work for work, _ in await task] != []
            assert (jobs.running, jobs.waiting) == (0, 0)

    run(main())


def test_work_of_open_associations_overtakes_handshakes(run) -> None:
    async def main() -> None:
        gate = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            jobs = Jobs(asyncio.get_running_loop(), executor, slots=1)
            order: list[str] = []
            end = asyncio.Event()

            def submit(name: str, work: Work, *, urgent: bool) -> None:
                def done(_: Work, error: BaseException | None) -> None:
                    order.append(name)
                    if len(order) == 6:
                        end.set()

                jobs.submit(work, done, urgent=urgent)

            submit("first", Work(gate), urgent=False)
            for number in range(3):
                submit(f"handshake {number}", Work(), urgent=False)
            for number in range(2):
                submit(f"update {number}", Work(), urgent=True)
            gate.set()
            await end.wait()
            assert order == ["first", "update 0", "update 1", "handshake 0", "handshake 1", "handshake 2"]

    run(main())


def test_a_signer_of_its_own_takes_no_slot(run) -> None:
    async def main() -> None:
        gate = threading.Event()
        with ThreadPoolExecutor(1) as shared, ThreadPoolExecutor(1, thread_name_prefix="card") as card:
            jobs = Jobs(asyncio.get_running_loop(), shared, slots=1)
            blocked = asyncio.ensure_future(finished(jobs, Work(gate)))
            await asyncio.sleep(0)
            assert jobs.running == 1
            work = Work()
            work.executor = card
            await finished(jobs, work)
            assert work.thread.startswith("card")
            gate.set()
            await blocked

    run(main())


def test_an_executor_that_was_shut_down(run) -> None:
    async def main() -> None:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        jobs = Jobs(asyncio.get_running_loop(), executor)
        [(_, error)] = await finished(jobs, Work())
        assert isinstance(error, RuntimeError)
        assert jobs.running == 0

    run(main())


def test_a_loop_that_has_gone_is_not_told() -> None:
    gate, told = threading.Event(), []
    with ThreadPoolExecutor(1) as executor:
        loop = asyncio.new_event_loop()
        Jobs(loop, executor).submit(Work(gate), lambda *_: told.append(1))
        loop.close()
        gate.set()
    assert not told


@pytest.mark.parametrize(("cpus", "threads"), [(None, 1), (1, 1), (2, 2), (64, jobs_module.WORKERS_MAX)])
def test_number_of_threads(monkeypatch, cpus, threads) -> None:
    monkeypatch.setattr(jobs_module.os, "cpu_count", lambda: cpus)
    assert jobs_module.workers() == threads


def test_each_job_is_run_once_though_threads_come_and_go(run) -> None:
    async def main() -> None:
        jobs = Jobs(asyncio.get_running_loop(), slots=64)
        for _ in range(300):  # threads go to rest and are woken all the time
            works = [Work() for _ in range(5)]
            results = await asyncio.wait_for(finished(jobs, *works), 10)
            assert sorted(map(id, works)) == sorted(id(work) for work, _ in results)
        assert jobs.running == jobs.waiting == 0

    run(main())


def test_a_callback_that_fails_keeps_nothing_from_the_others(run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        jobs, told, report = Jobs(loop), asyncio.Event(), loop.create_future()
        loop.set_exception_handler(lambda _, context: report.set_result(context["exception"]))

        def fail(_: Work, error: BaseException | None) -> None:
            raise ValueError("x")

        jobs.submit(Work(), fail)
        jobs.submit(Work(), lambda *_: told.set())
        await asyncio.wait_for(told.wait(), 10)
        assert type(await asyncio.wait_for(report, 10)) is ValueError
        assert jobs.running == 0

    run(main())


def test_ends_of_many_jobs_leave_room_in_between(run, monkeypatch) -> None:
    """Whatever one end takes, the loop turns before the next."""
    clock = [0.0]
    monkeypatch.setattr(jobs_module.time, "monotonic", lambda: clock[0])

    async def main() -> None:
        loop = asyncio.get_running_loop()
        jobs, order, told = Jobs(loop, slots=8), [], asyncio.Event()

        def done(work: Work, error: BaseException | None) -> None:
            order.append("job")
            clock[0] += jobs_module.TURN
            loop.call_soon(order.append, "other")
            if order.count("job") == 6:
                told.set()

        works = [Work() for _ in range(6)]
        for work in works:
            jobs.submit(work, done)
        while len(jobs._ended) < 6:  # the loop is busy until all have ended
            threading.Event().wait(0.001)
        await told.wait()
        assert order[:11] == ["job", "other"] * 5 + ["job"]
        assert jobs.running == jobs.waiting == 0

    run(main())
