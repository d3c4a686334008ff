"""Slow, hanging and failing signers: only those wait whose signature it is, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from world import DER, INITIATE, PDU, Recorder, World, until

from fastsec import limits
from fastsec.aio.client import connect_handler
from fastsec.aio.jobs import Jobs
from fastsec.aio.server import serve
from fastsec.aio.signers import SignerThreads
from fastsec.errors import Aborted, ConfigError, SignerError
from fastsec.pki.identity import OsiName

THIRD = OsiName.parse("1.1.1.999.3:12")


class SlowSigner:
    """Signs when its gate is open; counts who waits at it."""

    def __init__(self, inner, threads: int = 1, executor=None) -> None:
        self.inner = inner
        self.executor = executor or SignerThreads(threads)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = 0
        self.broken: Exception | None = None
        self.threads: set[str] = set()

    algorithm = property(lambda self: self.inner.algorithm)
    kind = property(lambda self: self.inner.kind)

    def sign(self, data: bytes) -> bytes:
        self.entered += 1
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(60)
        if self.broken is not None:
            raise self.broken
        return self.inner.sign(data)


def slowed(config, **more):
    """A configuration with a slow signer, and that signer."""
    signer = SlowSigner(config.credential.signer, **more)
    return dataclasses.replace(config, credential=dataclasses.replace(config.credential, signer=signer)), signer


class Site:
    """A server, and clients that call it."""

    def __init__(self, listener, world: World) -> None:
        self.listener, self.world = listener, world
        host, port = listener.addresses[0]
        self.address = f"osi://{host}:{port}"
        self.servers: list[Recorder] = []

    async def call(self, config=None, handler=None) -> Recorder:
        """A client that begins to call; it may end as it will."""
        handler = handler or Recorder()
        await connect_handler(handler, self.address, config or self.world.centre, peer=DER, initiate=INITIATE)
        return handler

    async def opened(self, config=None) -> Recorder:
        client = await self.call(config)
        await client.until(lambda: {"associated", "ended"} & set(client.calls))
        if client.error is not None:
            raise client.error
        return client


@contextlib.asynccontextmanager
async def site(world: World, config):
    servers: list[Recorder] = []

    def made() -> Recorder:
        servers.append(Recorder(echo=True))
        return servers[-1]

    listener = await serve(made, "osi://127.0.0.1:0", config)
    place = Site(listener, world)
    place.servers = servers
    try:
        yield place
    finally:
        await listener.close(0)


async def exchange(client: Recorder, count: int) -> None:
    """Send PDUs one after the other, each when the one before has come back."""
    for _ in range(count):
        before = len(client.pdus)
        client.assoc.write(PDU)
        await client.until(lambda before=before: len(client.pdus) > before)


# --- nobody else waits ------------------------------------------------------------------------------------------------


def test_open_associations_go_on_while_a_signature_is_made(run, world) -> None:
    async def main() -> None:
        config, signer = slowed(world.der)
        async with site(world, config) as place:
            first = await place.opened()
            before = signer.entered
            signer.gate.clear()
            second = await place.call(world.config(THIRD))
            await until(lambda: signer.entered > before)
            await exchange(first, 200)  # the signature is under way all the time
            assert "associated" not in second.calls
            signer.gate.set()
            await second.wait("associated")
            assert signer.threads == {"signer_0"}

    run(main())


def test_verifications_do_not_queue_behind_signatures(run, world) -> None:
    """The requests of others are verified and shown to the application; with a wrong one, refused."""

    async def main() -> None:
        config, signer = slowed(world.der)
        async with site(world, config) as place:
            signer.gate.clear()
            clients = [await place.call() for _ in range(12)]
            await until(lambda: sum("association_requested" in server.calls for server in place.servers) == 12)
            assert signer.entered == 1
            # to check what comes in, and to open associations as a client, the card is not needed either
            outsider = World().config(THIRD)
            stranger = await place.call(outsider)
            await stranger.wait("ended")
            assert signer.entered == 1
            signer.gate.set()
            for client in clients:
                await client.wait("associated")
            assert signer.entered == 12

    run(main())


@pytest.mark.parametrize("what", ["request", "release", "abort"])
def test_the_client_signs_in_the_signers_threads_too(run, world, what) -> None:
    async def main() -> None:
        slow, signer = slowed(world.centre)
        async with site(world, world.der) as place:
            other = await place.opened(world.config(THIRD))
            if what == "request":
                signer.gate.clear()
                client = await place.call(slow)
            else:
                client = await place.opened(slow)
                signer.gate.clear()
                client.assoc.abort() if what == "abort" else client.assoc.release()
            await until(lambda: signer.entered == (1 if what == "request" else 2))
            await exchange(other, 50)
            assert "ended" not in client.calls
            signer.gate.set()
            await client.wait("associated" if what == "request" else "ended")
            assert signer.threads == {"signer_0"}

    run(main())


def test_the_servers_side_of_a_release_is_signed_there_too(run, world) -> None:
    async def main() -> None:
        config, signer = slowed(world.der)
        async with site(world, config) as place:
            first, second = await place.opened(), await place.opened()
            signer.gate.clear()
            second.assoc.release()
            await until(lambda: signer.entered == 3)
            await exchange(first, 50)
            signer.gate.set()
            await second.wait("released")

    run(main())


def test_as_many_signatures_at_a_time_as_the_signer_has_threads(run, world) -> None:
    async def main() -> None:
        config, signer = slowed(world.der, threads=5)
        async with site(world, config) as place:
            signer.gate.clear()
            clients = [await place.call() for _ in range(8)]
            await until(lambda: signer.entered == 5)
            await until(lambda: sum("association_requested" in server.calls for server in place.servers) == 8)
            assert signer.entered == 5
            signer.gate.set()
            for client in clients:
                await client.wait("associated")
            assert len(signer.threads) == 5

    run(main())


# --- a signer that hangs or fails -------------------------------------------------------------------------------------


def test_too_many_that_wait_are_refused_for_now(run, world, monkeypatch) -> None:
    monkeypatch.setattr(limits, "OUR_SIGNER_QUEUE", 3)

    async def main() -> None:
        config, signer = slowed(world.der)
        async with site(world, config) as place:
            signer.gate.clear()
            clients = [await place.call() for _ in range(5)]
            await until(lambda: sum(client.error is not None for client in clients) == 2)
            for client in clients:
                if client.error is not None:
                    assert "temporary congestion" in str(client.error)
            told = [server.error for server in place.servers if server.error is not None]
            assert [str(error) for error in told] == [
                "association aborted by local: signing failed: too many wait for the signer"
            ] * 2
            signer.gate.set()
            await until(lambda: sum("associated" in client.calls for client in clients) == 3)
            assert place.listener.half_open == 0

    run(main())


def test_who_waits_too_long_is_refused_and_the_card_not_bothered(run, world, monkeypatch) -> None:
    monkeypatch.setattr(limits, "OUR_SIGNER_WAIT", 0.2)

    async def main() -> None:
        config, signer = slowed(world.der)
        async with site(world, config) as place:
            signer.gate.clear()
            clients = [await place.call() for _ in range(4)]
            await until(lambda: sum(client.error is not None for client in clients) == 3, 30)
            for client in clients:
                assert client.error is None or "temporary congestion" in str(client.error)
            signer.gate.set()
            await until(lambda: any("associated" in client.calls for client in clients))
            assert signer.entered == 1

    run(main())


@pytest.mark.parametrize("error", [SignerError("the token is away"), ValueError("secret detail")], ids=["known", "any"])
def test_a_signer_that_fails_ends_that_handshake_alone(run, world, error) -> None:
    async def main() -> None:
        config, signer = slowed(world.der)
        async with site(world, config) as place:
            first = await place.opened()
            signer.broken = error
            second = await place.call()
            await second.wait("ended")
            assert isinstance(second.error, Aborted)
            await until(lambda: len(place.servers) == 2 and place.servers[1].error is not None)
            text = str(place.servers[1].error)
            assert ("the token is away" in text) == isinstance(error, SignerError)
            assert "secret detail" not in text
            # of a token that is away nothing more is asked for this handshake
            assert signer.entered == (2 if isinstance(error, SignerError) else 3)
            await exchange(first, 20)
            signer.broken = None
            await exchange(await place.opened(), 2)
            assert place.listener.half_open == 0

    run(main())


def test_a_client_whose_signer_fails_says_so(run, world) -> None:
    async def main() -> None:
        slow, signer = slowed(world.centre)
        signer.broken = SignerError("the token is away")
        async with site(world, world.der) as place:
            client = await place.call(slow)
            await client.wait("ended")
            assert "signing failed: the token is away" in str(client.error)
            signer.broken = None
            await exchange(await place.opened(slow), 2)

    run(main())


def test_a_hanging_signer_keeps_nothing_beyond_the_deadline_of_the_handshake(run, world, monkeypatch) -> None:
    monkeypatch.setattr(limits, "OUR_SIGN", 1)
    monkeypatch.setattr(limits, "OUR_AARQ_TO_AARE", 1)

    async def main() -> None:
        config, signer = slowed(world.der)
        async with site(world, config) as place:
            signer.gate.clear()
            client = await place.call()
            await client.wait("ended")
            await until(lambda: place.servers[0].error is not None)
            assert place.listener.half_open == 0
            signer.gate.set()

    run(main())


def test_strangers_cannot_keep_a_slow_signer_busy(run, world) -> None:
    """A reject to somebody unverified is not queued: who fills the signer with those would shut out the others."""

    async def main() -> None:
        config, signer = slowed(world.der)
        async with site(world, config) as place:
            signer.gate.clear()
            honest = await place.call()
            await until(lambda: signer.entered == 1)
            outsider = World().config(THIRD)
            strangers = [await place.call(outsider) for _ in range(3)]
            for stranger in strangers:
                await stranger.wait("ended")
            signer.gate.set()
            await honest.wait("associated")
            assert signer.entered == 1
            # while nobody waits they are told why, signed
            stranger = await place.call(outsider)
            await stranger.wait("ended")
            assert signer.entered == 2

    run(main())


def test_closing_the_server_does_not_wait_for_a_hanging_signer(run, world) -> None:
    async def main() -> None:
        config, signer = slowed(world.der)
        async with site(world, config) as place:
            signer.gate.clear()
            await place.call()
            await until(lambda: signer.entered == 1)
            await asyncio.wait_for(place.listener.close(0), 10)
            signer.gate.set()

    run(main())


ENDS = """
import threading
from fastsec.aio.signers import SignerThreads
begun = threading.Event()
threads = SignerThreads(2)
def hang():
    begun.set()
    threading.Event().wait()
threads.submit(hang)
begun.wait()
print("done", flush=True)
"""


def test_the_process_ends_though_a_signer_hangs() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


# --- the threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, 65, -1])
def test_number_of_threads_is_bounded(threads) -> None:
    with pytest.raises(ConfigError, match="1 to 64"):
        SignerThreads(threads)


def test_threads_end_when_the_executor_is_forgotten() -> None:
    ended = threading.Event()
    executor = SignerThreads(3, name="forgotten", at_end=ended.set)
    assert executor.submit(lambda: 7).result(30) == 7
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    assert ended.wait(30)
    for thread in threading.enumerate():
        if thread.name.startswith("forgotten"):
            thread.join(30)


def test_what_is_to_be_done_at_the_end_is_done_though_nothing_was_signed() -> None:
    ended = threading.Event()
    executor = SignerThreads(at_end=ended.set)
    executor.shutdown()
    assert ended.wait(30)
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(int)


def test_shutdown_that_drops_what_waits() -> None:
    gate, begun = threading.Event(), threading.Event()
    executor = SignerThreads()

    def block() -> bool:
        begun.set()
        return gate.wait(30)

    running = executor.submit(block)
    waiting = executor.submit(int)
    assert begun.wait(30)
    executor.shutdown(cancel_futures=True)
    assert waiting.cancelled()
    gate.set()
    assert running.result(30)


def test_an_error_of_a_call_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        SignerThreads().submit(lambda: 1 // 0).result(30)


def test_a_forked_process_has_threads_of_its_own() -> None:
    executor = SignerThreads(2)
    assert executor.submit(os.getpid).result(30) == os.getpid()
    child = os.fork()
    if not child:
        os._exit(0 if executor.submit(os.getpid).result(30) == os.getpid() else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("make", [lambda: ThreadPoolExecutor(1), SignerThreads])
def test_jobs_count_what_an_executor_has(run, make, monkeypatch) -> None:
    """Also an executor that knows no bounds itself."""
    monkeypatch.setattr(limits, "OUR_SIGNER_QUEUE", 2)

    class Work:
        spare = False

        def __init__(self, executor) -> None:
            self.executor, self.error = executor, None

        def run(self) -> None:
            gate.wait(30)

        def refuse(self, error: Exception) -> None:
            self.error = error

    gate = threading.Event()

    async def main() -> None:
        executor = make()
        jobs, ended = Jobs(asyncio.get_running_loop()), []
        for turn in range(2):
            gate.clear()
            works = [Work(executor) for _ in range(4)]
            for work in works:
                jobs.submit(work, lambda work, error: ended.append(work))
            assert not ended  # never from within submit
            await until(lambda: len(ended) == 2)
            assert [isinstance(work.error, SignerError) for work in works] == [False, False, True, True], turn
            gate.set()
            await until(lambda: len(ended) == 4)
            ended.clear()
        executor.shutdown()
        works = [Work(executor)]
        jobs.submit(works[0], lambda work, error: ended.append(error))
        await until(lambda: ended == [None])
        assert "shut down" in str(works[0].error)

    run(main())
