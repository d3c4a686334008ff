"""Nothing of an association waits for the garbage collector, and the collector has little to look at."""

from __future__ import annotations

import asyncio
import gc

import pytest
from world import DER, INITIATE, PDU, Recorder, World

from fastsec.aio import pauses
from fastsec.aio.client import connect_handler
from fastsec.aio.pauses import ShortPauses
from fastsec.aio.server import serve


@pytest.fixture
def collector():
    """The collector off, and afterwards as it was."""
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.unfreeze()
    gc.enable()


async def circles(once) -> list[object]:
    """What is left for the collector by ten times ``once``, after the caches have filled."""
    for _ in range(5):
        await once()
    await asyncio.sleep(0.05)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    for _ in range(10):
        await once()
    await asyncio.sleep(0.05)
    gc.collect()
    found = [one for one in gc.garbage if type(one).__module__.startswith("fastsec")]
    gc.set_debug(0)
    gc.garbage.clear()
    return found


@pytest.mark.parametrize("how", ["release", "abort", "cut", "unconfirmed"])
def test_an_association_leaves_no_circles(run, world, collector, how: str) -> None:
    async def main() -> None:
        served: list[Recorder] = []

        def serving() -> Recorder:
            served.append(Recorder(echo=how != "unconfirmed"))
            return served[-1]

        listener = await serve(serving, "osi://127.0.0.1:0", world.der)
        host, port = listener.addresses[0]

        async def once() -> None:
            client = Recorder()
            await connect_handler(client, f"osi://{host}:{port}", world.centre, peer=DER, initiate=INITIATE)
            await client.wait("associated")
            if how != "unconfirmed":
                client.assoc.write(PDU)
                await client.until(lambda: client.pdus)
            getattr(client.assoc, "cut" if how == "unconfirmed" else how)()
            await client.wait("ended")
            await served.pop().wait("ended")

        assert await circles(once) == []
        await listener.close(0)

    run(main())


def test_a_refused_handshake_leaves_no_circles(run, world, collector) -> None:
    outsider = World().centre

    async def main() -> None:
        listener = await serve(Recorder, "osi://127.0.0.1:0", world.der)
        host, port = listener.addresses[0]

        async def once() -> None:
            client = Recorder()
            await connect_handler(client, f"osi://{host}:{port}", outsider, peer=DER, initiate=INITIATE)
            await client.wait("ended")

        assert await circles(once) == []
        await listener.close(0)

    run(main())


def test_what_lives_is_set_aside_and_looked_at_when_it_has_doubled(run, collector, monkeypatch) -> None:
    monkeypatch.setattr(pauses, "PERIOD", 0.01)
    monkeypatch.setattr(pauses, "GROWTH_MIN", 1000)

    class Node:
        def __init__(self) -> None:
            self.own = self

    async def main() -> None:
        gc.enable()
        kept: list[list[int]] = []
        short = ShortPauses()
        begun = gc.get_freeze_count()
        assert begun > 10_000
        assert short.full == 1
        while gc.get_freeze_count() < begun + 5000:
            kept.extend([number] for number in range(2000))
            await asyncio.sleep(0.02)
        assert short.full == 1
        while short.full == 1:  # until as much again lives
            kept.extend([number] for number in range(20_000))
            await asyncio.sleep(0.02)
        Node()
        short.stop()
        assert gc.get_freeze_count() == 0
        await asyncio.sleep(0.03)
        assert gc.get_freeze_count() == 0

    run(main())


def test_circles_are_found_once_an_hour(run, collector, monkeypatch) -> None:
    monkeypatch.setattr(pauses, "PERIOD", 0.01)
    monkeypatch.setattr(pauses, "FULL_EVERY", 0.05)
    gone = []

    class Node:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            gone.append(1)

    async def main() -> None:
        short = ShortPauses()
        Node()
        gc.freeze()
        gc.collect()
        assert not gone
        while not gone:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        short.stop()

    run(main())
