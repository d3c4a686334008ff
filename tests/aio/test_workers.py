"""Processes under one identity: numbers that never collide, nothing accepted twice. With real processes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from test_replay import PEER, Process, current, established
from world import CENTRE, DER, INITIATE, Recorder, World

from fastsec import limits
from fastsec._core.pk import PrivateKey
from fastsec.aio import endpoints, replay_file
from fastsec.aio.client import connect_handler
from fastsec.aio.endpoints import identity_of
from fastsec.config import Config
from fastsec.errors import ConfigError, LimitReached
from fastsec.instant import now
from fastsec.peers import Endpoint
from fastsec.pki.credential import SoftwareSigner, make_credential
from fastsec.pki.path import TrustStore
from fastsec.secpdu.timestamp import time_key, time_text

WAIT = 60  # seconds; the machine may be busy
N = 3
SCRIPT = Path(__file__).with_name("worker_process.py")


# --- one machine, several processes -----------------------------------------------------------------------------------


class Plant:
    """Files of two identities, ``der`` and ``centre``, and the processes that run under them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.world = World()
        root, crl = self.world.authority.root, self.world.authority.crl
        (directory / "root.pem").write_bytes(x509.load_der_x509_certificate(root).public_bytes(Encoding.PEM))
        (directory / "root.crl").write_bytes(x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM))
        self.configs = {}
        for name, identity in (("der", DER), ("centre", CENTRE)):
            issued = self.world.authority.issue_e2e(name, identity)
            (directory / f"{name}.pem").write_bytes(issued.certificate_pem)
            (directory / f"{name}.key").write_bytes(issued.key_pem)
            signer = SoftwareSigner(PrivateKey.from_pem(issued.key_pem, None))
            self.configs[name] = Config(
                credential=make_credential(issued.certificate, (), signer), trust=TrustStore([root], [crl])
            )
            established(directory / f"{name}.replay", N, identity.oid)  # this is not the first start
        self.sockets: dict[str, socket.socket] = {}
        self.workers: list[Worker] = []

    def port(self, name: str) -> int:
        """The port that all processes of ``name`` listen on."""
        if name not in self.sockets:
            held = socket.socket()
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(("127.0.0.1", 0))  # keeps the number; without listen() it gets no connection
            self.sockets[name] = held
        return self.sockets[name].getsockname()[1]

    async def start(self, name: str, index: int, count: int = N) -> Worker:
        worker = Worker(name, index)
        self.workers.append(worker)
        worker.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            str(self.directory),
            name,
            str(index),
            str(count),
            str(self.port(name)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        worker.reading = asyncio.create_task(worker.read())
        await worker.until(lambda: worker.said("ready") or worker.said("unusable"))
        return worker

    async def all(self, name: str, count: int = N) -> list[Worker]:
        return list(await asyncio.gather(*(self.start(name, index, count) for index in range(count))))

    async def end(self) -> None:
        for worker in self.workers:
            await worker.kill()
        for held in self.sockets.values():
            held.close()


class Worker:
    """One process."""

    def __init__(self, name: str, index: int) -> None:
        self.name = name
        self.index = index
        self.process: asyncio.subprocess.Process
        self.reading: asyncio.Task[None]
        self.lines: list[dict[str, object]] = []
        self.news = asyncio.Event()

    async def read(self) -> None:
        while line := await self.process.stdout.readline():
            self.lines.append(json.loads(line))
            self.news.set()
        self.news.set()

    def said(self, word: str) -> list:
        return [line[word] for line in self.lines if word in line]

    async def until(self, condition) -> None:
        async with asyncio.timeout(WAIT):
            while not condition():
                self.news.clear()
                assert not self.reading.done() or condition(), self.lines
                await self.news.wait()

    @property
    def port(self) -> int:
        return self.said("ready")[0]

    async def tell(self, command: str) -> None:
        done = len(self.said("done"))
        self.process.stdin.write(f"{command}\n".encode())
        if command == "stop":
            await self.ended()
        else:
            await self.until(lambda: len(self.said("done")) > done)

    async def ended(self) -> None:
        async with asyncio.timeout(WAIT):
            await self.process.wait()
            await self.reading

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.ended()


def with_plant(directory: Path, test) -> None:
    """Run ``test(plant)``; whatever it started is ended."""

    async def main() -> None:
        plant = Plant(directory)
        try:
            async with asyncio.timeout(4 * WAIT):
                await test(plant)
        finally:
            await plant.end()

    asyncio.run(main())


# --- recorded requests ------------------------------------------------------------------------------------------------


async def tpkt(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(int.from_bytes(head[2:], "big") - 4)


async def record(config: Config, port: int, how_many: int) -> list[tuple[bytes, bytes]]:
    """Genuine requests of ``config`` that never arrived: CR TPDU, and the TSDU with the HandshakeReq."""
    recorded: list[tuple[bytes, bytes]] = []
    news = asyncio.Event()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection("127.0.0.1", port)
        called = await tpkt(reader)
        back.write(called)
        writer.write(await tpkt(onward))
        recorded.append((called, await tpkt(reader)))
        for end in (back, writer):
            end.close()
        news.set()

    server = await asyncio.start_server(between, "127.0.0.1", 0)
    address = f"osi://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for number in range(how_many):
        handler = Recorder()
        connection = await connect_handler(handler, address, config, peer=DER, initiate=INITIATE)
        async with asyncio.timeout(WAIT):
            while len(recorded) <= number:
                news.clear()
                await news.wait()
            await handler.wait("ended")
        connection.abort()
    server.close()
    return recorded


async def throw(request: tuple[bytes, bytes], ports: list[int]) -> None:
    """Send one recorded request to all of them at the same moment, and wait for what they say."""
    ends = []
    for port in ports:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request[0])
        await tpkt(reader)
        ends.append((reader, writer))
    for _, writer in ends:
        writer.write(request[1])
    for reader, writer in ends:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(WAIT):
                await tpkt(reader)
        writer.close()


def asked(workers: list[Worker]) -> Counter:
    """How often each client's number was let through the replay check, in processes dead or alive."""
    return Counter(number for worker in workers for number in worker.said("asked"))


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_of_all_processes_in_both_roles_never_collide(tmp_path) -> None:
    """Three processes of each of two identities call each other; then one of each is killed and comes back."""

    async def test(plant: Plant) -> None:
        ders, centres = await plant.all("der"), await plant.all("centre")

        async def calls() -> None:
            await asyncio.gather(
                *(worker.tell(f"call {plant.port('centre')} {CENTRE} 12") for worker in ders),
                *(worker.tell(f"call {plant.port('der')} {DER} 12") for worker in centres),
            )

        await calls()
        for group in (ders, centres):
            await group[1].kill()
            group[1] = await plant.start(group[1].name, 1)
        await calls()
        pairs = []
        for worker in plant.workers:
            assert not worker.said("failed")
            assert not worker.said("event")
            called, served = worker.said("called"), worker.said("served")
            assert all(int(pair.partition(":")[0]) % N == worker.index for pair in called)
            assert all(int(pair.partition(":")[2]) % N == worker.index for pair in served)
            pairs += served
        assert len(pairs) == len(set(pairs)) == 2 * 2 * N * 12
        assert {pair for worker in plant.workers for pair in worker.said("called")} == set(pairs)
        assert sum(bool(worker.said("served")) for worker in plant.workers) >= N  # they did share the port

    with_plant(tmp_path, test)


def test_a_pair_is_not_used_again_for_20_minutes_whatever_happens(tmp_path) -> None:
    """Of 1000 numbers process 1 of 500 has two."""
    established(tmp_path / "replay", 500)

    def started() -> tuple[Process, Endpoint]:
        process = Process(tmp_path / "replay", (1, 500))
        config = dataclasses.replace(World().der, worker=(1, 500), replay_file="x")
        return process, Endpoint(config, now=now(), worker=(1, 500), replay=process.memory)

    process, endpoint = started()
    numbers = endpoint.numbers(PEER)
    one = numbers.choose_server_number(7, now())
    with process.memory:
        numbers.hold((7, one), served=True)
    process.kill()  # with the association open
    process, endpoint = started()
    numbers = endpoint.numbers(PEER)
    two = numbers.choose_server_number(7, now())
    assert {one, two} == {1, 501}
    with process.memory:
        numbers.hold((7, two), served=True)
    numbers.free((7, two), now())
    process.file.close()
    process, endpoint = started()
    assert endpoint.numbers(PEER).choose_server_number(7, now()) is None
    assert endpoint.numbers(PEER).choose_server_number(8, now()) is not None


def test_a_pair_of_the_other_role_in_another_process_is_not_chosen(tmp_path) -> None:
    established(tmp_path / "replay", 2)
    client, server = (Process(tmp_path / "replay", (index, 2)) for index in range(2))
    with client.memory as memory:
        memory.hold(PEER, (8, 3), served=False)
    config = dataclasses.replace(World().der, worker=(1, 2), replay_file="x")
    numbers = Endpoint(config, now=now(), worker=(1, 2), replay=server.memory).numbers(PEER)
    with server.memory:
        numbers._next_m[8] = 3
        assert numbers.is_live((8, 3))
        assert numbers.choose_server_number(8, now()) == 5


def test_a_number_of_the_peer_is_live_in_another_process_as_long_as_that_runs(tmp_path) -> None:
    established(tmp_path / "replay", 3)
    one, two, three = (Process(tmp_path / "replay", (index, 3)) for index in range(3))
    with one.memory as memory:
        memory.hold(PEER, (8, 3), served=True)
    for process in (two, three):
        with process.memory as memory:
            assert memory.is_served(PEER, 8, now().mono_ms)
            assert not memory.is_served(PEER, 9, now().mono_ms)
    one.kill()
    with two.memory as memory:
        assert not memory.is_served(PEER, 8, now().mono_ms)
    with three.memory as memory:
        assert (8, 3) not in memory.pairs(PEER).live
        assert (8, 3) in memory.pairs(PEER)


# --- replay -----------------------------------------------------------------------------------------------------------


def test_a_recorded_request_thrown_at_all_processes_is_accepted_once(tmp_path) -> None:
    async def test(plant: Plant) -> None:
        workers = await plant.all("der")
        ports = [worker.port for worker in workers]
        requests = await record(plant.configs["centre"], ports[0], 12)
        for request in requests[:4]:  # these had been used before, at one of them
            await throw(request, [random.choice(ports)])
        for request in requests:
            await throw(request, ports)
        for request in requests[:6]:
            await throw(request, ports)

        def said(word: str) -> list:
            return [what for worker in workers for what in worker.said(word)]

        async with asyncio.timeout(WAIT):
            while len(said("event")) + len(said("asked")) < 4 + 12 * N + 6 * N:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert sorted(asked(workers).values()) == [1] * 12
        assert set(said("event")) == {"REPLAY_DETEC_ASS_REQ"}

    with_plant(tmp_path, test)


def test_nothing_is_accepted_twice_when_processes_are_killed_and_come_back(tmp_path) -> None:
    async def test(plant: Plant) -> None:
        workers = await plant.all("der")
        requests = []
        for turn in range(5):
            fresh = await record(plant.configs["centre"], workers[(turn + 1) % N].port, 5)
            requests += fresh
            victim = workers[turn % N]
            throwing = [asyncio.create_task(throw(request, [victim.port])) for request in fresh]
            await asyncio.sleep(random.random() * 0.02)
            await victim.kill()
            await asyncio.gather(*throwing, return_exceptions=True)
            workers[turn % N] = await plant.start("der", turn % N)
            for request in fresh:
                await throw(request, [worker.port for worker in workers])
        counts = asked(plant.workers)
        assert len(counts) == 25
        assert set(counts.values()) == {1}
        for index in range(N):  # all in turn
            await workers[index].tell("stop")
            workers[index] = await plant.start("der", index)
        for request in requests:
            await throw(request, [worker.port for worker in workers])
        assert asked(plant.workers) == counts
        for worker in workers:
            await worker.kill()  # and all at once
        workers = await plant.all("der")
        for request in requests:
            await throw(request, [worker.port for worker in workers])
        assert asked(plant.workers) == counts

    with_plant(tmp_path, test)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_place_is_taken_once_and_all_need_the_same_count(tmp_path) -> None:
    async def test(plant: Plant) -> None:
        await plant.start("der", 1)
        for index, count, text in ((1, 3, "process 1 of 3 runs already"), (2, 4, "that use it are 3, not 4")):
            other = await plant.start("der", index, count)
            assert text in other.said("unusable")[0]
            await other.ended()
            assert other.process.returncode == 2
        await plant.workers[0].kill()
        alone = await plant.start("der", 3, 4)  # nobody is left who would disagree
        assert alone.said("ready")

    with_plant(tmp_path, test)


HOLDER = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


def test_a_process_stopped_with_the_lock_lets_nothing_in_unchecked(tmp_path) -> None:
    """The others refuse what they cannot check, say why, and stay in motion; they go on when it does or dies."""

    async def test(plant: Plant) -> None:
        der, centre = await plant.start("der", 0), await plant.start("centre", 0)
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLDER, str(plant.directory / "der.replay.lock"), stdout=subprocess.PIPE
        )
        try:
            assert await holder.stdout.readline() == b"held\n"
            holder.send_signal(signal.SIGSTOP)
            await centre.tell(f"call {der.port} {DER} 6")
            assert len(centre.said("failed")) == 6
            assert not centre.said("called")
            assert not der.said("asked")
        finally:
            holder.kill()
            await holder.wait()
        await centre.tell(f"call {der.port} {DER} 6")
        assert len(centre.said("called")) == 6

    with_plant(tmp_path, test)


def test_who_waited_once_in_vain_does_not_wait_so_long_again(tmp_path, monkeypatch, caplog) -> None:
    established(tmp_path / "replay", 2)
    one, two = (Process(tmp_path / "replay", (index, 2)) for index in range(2))
    slept = []
    monkeypatch.setattr(replay_file.time, "sleep", slept.append)
    moment = iter(range(10**9))
    monkeypatch.setattr(replay_file.time, "monotonic", lambda: next(moment) / 1000)
    with two.memory:
        with pytest.raises(LimitReached, match="another process holds it"):
            one.accept(1)
        long = len(slept)
        for number in range(3):
            with pytest.raises(LimitReached):
                one.accept(number)
    assert 200 <= long <= 260
    assert len(slept) < long + 10
    assert "another process holds it and does not go on" in caplog.text
    assert one.accept(1) == "new"
    with two.memory, pytest.raises(LimitReached):
        one.accept(2)
    assert len(slept) > 2 * long - 10


FORKED = """
import os, sys
sys.path[:0] = sys.argv[2:]
from test_replay import Process
from fastsec.aio import endpoints
from fastsec.errors import LimitReached

process = Process(sys.argv[1], (0, 2))

class Held:
    file = process.file

endpoints._identities["x"] = Held()
child = os.fork()
if not child:
    try:
        process.accept(1)
    except LimitReached as error:
        os._exit(17 if "copy" in str(error) else 18)
    os._exit(19)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
assert process.accept(1) == "new"
"""


def test_a_forked_process_accepts_nothing(tmp_path) -> None:
    established(tmp_path / "replay", 2)
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", FORKED, str(tmp_path / "replay"), here], check=True, timeout=WAIT)


def test_the_lock_file_must_stay(tmp_path) -> None:
    established(tmp_path / "replay", 2)
    one = Process(tmp_path / "replay", (0, 2))
    os.unlink(tmp_path / "replay.lock")
    one.file._checked = 0
    with pytest.raises(LimitReached, match="its lock file was removed; restart"):
        one.accept(1)


def test_a_removed_file_is_written_anew_for_all(tmp_path) -> None:
    established(tmp_path / "replay", 2)
    one, two = (Process(tmp_path / "replay", (index, 2)) for index in range(2))
    one.accept(1)
    for end in "01":
        (tmp_path / f"replay.{end}").unlink(missing_ok=True)
    two.accept(2)  # within the second in which nobody looks
    one.file._checked = 0
    one.accept(3)
    assert all(process.knows(number) for process in (one, two) for number in (1, 2, 3))
    two.kill()
    again = Process(tmp_path / "replay", (1, 2))
    assert again.complete
    assert all(again.knows(number) for number in (1, 2, 3))


def test_a_worker_without_a_shared_memory_is_a_mistake(world) -> None:
    with pytest.raises(ConfigError, match="need a replay_file, the same for all"):
        dataclasses.replace(world.der, worker=(0, 2))
    for worker in ((2, 2), (-1, 2), (0, 0), (0, limits.OUR_ASSO_NUMBERS + 1)):
        with pytest.raises(ConfigError, match=r"i from 0 to N - 1"):
            dataclasses.replace(world.der, worker=worker, replay_file="x")


def test_each_process_reads_every_second_what_others_add(run, world, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(endpoints, "WATCH_EVERY", 0.01)
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"), worker=(0, 2))
    identity = identity_of(config)
    memory = identity.endpoint(config).replay
    other = Process(tmp_path / "replay", (1, 2), DER.oid)

    async def main() -> None:
        identity.watch(asyncio.get_running_loop())
        identity.watch(asyncio.get_running_loop())
        other.accept(1)
        async with asyncio.timeout(WAIT):
            while not memory.lines(now().utc_ms):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    run(main())


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("size", [0, 30, -1])
def test_whoever_notices_damage_first_no_other_forgets_or_accepts_again(tmp_path, first, size) -> None:
    """Process 0 has accepted what process 1 has yet to read, and cannot any more."""
    established(tmp_path / "replay", 3)
    both = [Process(tmp_path / "replay", (index, 3)) for index in range(2)]
    when = now().utc_ms
    assert both[0].accept(1, when) == "new"
    name = current(tmp_path / "replay")
    os.truncate(name, size if size >= 0 else os.path.getsize(name) - 1)
    for process in (both[first], both[1 - first], both[first]):
        with process.memory as memory:
            old = memory.refuse_before is not None and time_key(time_text(when)) < memory.refuse_before
            assert old or process.accept(1, when) == "replay"
        assert process.accept(2, now().utc_ms + 5000) in ("new", "replay")
    assert both[0].knows(1)
    assert both[0].memory.refuse_before == both[1].memory.refuse_before
    assert len({process.file._generation for process in both}) == 1
    third = Process(tmp_path / "replay", (2, 3))
    assert third.memory.refuse_before == both[0].memory.refuse_before
