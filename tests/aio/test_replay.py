"""The replay memory survives a restart, and is shared by all of one identity."""

from __future__ import annotations

import dataclasses
import errno
import gc
import os
import weakref
from pathlib import Path

import pytest
from world import PDU, Recorder, pair

from fastsec import limits
from fastsec.aio import replay_file
from fastsec.aio.endpoints import forget_identities, identity_of
from fastsec.aio.replay_file import ReplayFile
from fastsec.errors import ConfigError, LimitReached
from fastsec.instant import Instant, now
from fastsec.pki.credential import SoftwareSigner
from fastsec.replay import ReplayMemory
from fastsec.secpdu.timestamp import time_key, time_text

PEER = "1.2.3.4"
OWN = "1.1.1.999.2.12"


def digest_of(number: int) -> bytes:
    return number.to_bytes(8, "big") * 4


class Process:
    """What one process has of the memory at ``path``."""

    def __init__(self, path, worker=(0, 1), identity=OWN) -> None:
        self.start = time_key(time_text(now().utc_ms))
        self.memory = ReplayMemory(self.start, worker[0])
        self.file = ReplayFile(str(path), self.memory, identity, worker)

    def accept(self, number: int, when: int | None = None, peer: str = PEER) -> str:
        moment = now().utc_ms
        stamp = time_text(moment if when is None else when)
        return self.memory.remember(peer, "Q", stamp, str(number), digest_of(number), moment)

    def knows(self, number: int) -> bool:
        return self.memory.exact(digest_of(number))

    def kill(self) -> None:
        """As ``kill -9``: the kernel closes its files, and nothing else happens."""
        self.memory.attach(None)
        self.file.abandon()

    @property
    def complete(self) -> bool:
        return self.memory.refuse_before is None


def established(path, count: int = 1, identity: str = OWN) -> None:
    """Files of a memory that has nothing to refuse for its age."""
    process = Process(path, (0, count), identity)
    process.memory.refuse_before = None
    process.file._begin_generation(whole=True)
    process.kill()


@pytest.fixture
def path(tmp_path):
    """The name of a memory that is complete."""
    established(tmp_path / "replay")
    return tmp_path / "replay"


def test_one_identity_whatever_the_configuration(world) -> None:
    first = identity_of(world.der)
    other = dataclasses.replace(world.der, pp="IEC 61850-8-2")
    assert identity_of(other) is first
    assert identity_of(world.centre) is not first
    one, two = first.endpoint(world.der), first.endpoint(other)
    assert one is first.endpoint(world.der)
    assert one is not two
    assert two.config is other
    assert one.replay is two.replay
    assert one.numbers("1.2.3") is two.numbers("1.2.3")


def test_only_configurations_in_use_are_kept(world) -> None:
    """A private key does not outlive what it was replaced by, but for the newest."""
    identity = identity_of(world.der)
    used = identity.endpoint(world.der)
    gone = []
    for _ in range(10):
        signer = SoftwareSigner(world.der.credential.signer._key)
        config = dataclasses.replace(world.der, credential=dataclasses.replace(world.der.credential, signer=signer))
        endpoint = identity.endpoint(config, tls=True)
        assert identity.endpoint(config, tls=True) is endpoint
        endpoint.numbers("1.2.3")
        gone.append(weakref.ref(endpoint))
    del endpoint, config, signer
    gc.collect()
    assert [reference() for reference in gone] == [None] * 10
    assert identity.endpoint(world.der) is used


def test_a_request_is_refused_again_after_a_restart(run, world, authority, tmp_path) -> None:
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"))

    async def once() -> list[str]:
        async with pair(world, authority, server=Recorder(echo=True), server_config=config) as two:
            await two.opened()
            two.client.assoc.write(PDU)
            await two.client.until(lambda: two.client.pdus == [PDU])
        memory = identity_of(config).endpoint(config).replay
        return [line for line in memory.lines(now().utc_ms) if " Q" in line]

    async def main() -> None:
        first = await once()
        assert len(first) == 1
        forget_identities()  # the process ends and starts again
        assert set(await once()) > set(first)

    run(main())
    for end in ("0", "1", "lock"):
        name = tmp_path / f"replay.{end}"
        assert not name.exists() or name.stat().st_mode & 0o077 == 0


def test_a_new_memory_refuses_what_is_older_than_the_start(tmp_path) -> None:
    first = Process(tmp_path / "replay")
    assert first.memory.refuse_before is not None
    since = first.memory.refuse_before
    first.kill()
    again = Process(tmp_path / "replay")  # soon after: it knows nothing of the time before either
    assert again.memory.refuse_before == since


def test_that_ends_when_such_times_are_too_old_anyway(tmp_path, monkeypatch) -> None:
    Process(tmp_path / "replay").kill()
    later = Instant(now().utc_ms + limits.OUR_REPLAY_WINDOW * 1000 + 1000, now().mono_ms)
    monkeypatch.setattr(replay_file, "now", lambda: later)
    process = Process(tmp_path / "replay")
    process.file._begin_generation(whole=True)
    process.kill()
    assert Process(tmp_path / "replay").complete


def test_a_memory_that_gets_its_file_later_keeps_what_it_has(world, tmp_path) -> None:
    identity = identity_of(world.der)
    memory = identity.endpoint(world.der).replay
    moment = now().utc_ms
    memory.remember(PEER, "Q", time_text(moment), "1", bytes(32), moment)
    memory.hold(PEER, (1, 2), served=True)
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"))
    assert identity_of(config).endpoint(config).replay is memory
    forget_identities()
    again = identity_of(config).endpoint(config).replay
    assert again.exact(bytes(32))
    assert (1, 2) in again.pairs(PEER)
    assert not again.pairs(PEER).live


def test_what_was_accepted_is_known_after_kill(path) -> None:
    first = Process(path)
    assert [first.accept(number) for number in range(100)] == ["new"] * 100
    first.kill()
    again = Process(path)
    assert again.complete
    assert all(again.knows(number) for number in range(100))
    assert not again.knows(100)


def test_pairs_rest_after_a_restart(path) -> None:
    first = Process(path)
    with first.memory as memory:
        memory.hold(PEER, (1, 2), served=True)
        memory.hold(PEER, (3, 4), served=False)
        memory.hold(PEER, (5, 6), served=True)
    memory.rest(PEER, (5, 6), now().mono_ms + 1_000_000)
    memory.flush()  # that can wait
    assert first.accept(1) == "new"
    first.kill()
    again = Process(path).memory
    pairs = again.pairs(PEER)
    assert not pairs.live
    assert not pairs.served
    rests = dict(pairs.resting())
    assert set(rests) == {(1, 2), (3, 4), (5, 6)}
    assert rests[5, 6] < rests[1, 2] <= now().mono_ms + limits.OUR_ASSO_PAIR_QUARANTINE * 1000
    pairs.release(rests[1, 2])
    assert not len(pairs)


def test_own_requests_are_later_than_those_of_an_earlier_run(path) -> None:
    first = Process(path)
    ahead = now().utc_ms + 5_000
    first.memory.stamped(ahead)
    first.memory.stamped(ahead + 1)
    assert len(first.memory._journal) == 1  # once a second is enough
    first.memory.flush()
    first.kill()
    assert ahead < Process(path).memory.floor_ms <= ahead + 1000


# --- the end of the operating system ----------------------------------------------------------------------------------


def test_after_the_system_went_down_hard_the_file_may_lack_something(path, monkeypatch, caplog) -> None:
    first = Process(path)
    first.accept(1)
    with first.memory as memory:
        memory.hold(PEER, (1, 2), served=True)
        memory.rest(PEER, (3, 4), 1)
    first.kill()
    monkeypatch.setattr(replay_file, "boot_id", lambda: "another")
    again = Process(path)
    assert again.memory.refuse_before >= again.start
    assert "the system went down" in caplog.text
    assert again.knows(1)
    assert {pair for pair, until in again.memory.pairs(PEER).resting() if until > now().mono_ms} == {(1, 2), (3, 4)}


def test_after_an_orderly_end_it_lacks_nothing(path, monkeypatch) -> None:
    first = Process(path)
    first.accept(1)
    first.file.close()
    monkeypatch.setattr(replay_file, "boot_id", lambda: "another")
    again = Process(path)
    assert again.complete
    assert again.knows(1)
    again.kill()
    monkeypatch.setattr(replay_file, "boot_id", lambda: "a third")
    assert not Process(path).complete  # that one was not orderly


def test_it_is_closed_only_by_the_last(tmp_path, monkeypatch) -> None:
    established(tmp_path / "replay", 2)
    one, two = (Process(tmp_path / "replay", (index, 2)) for index in range(2))
    one.file.close()
    two.kill()
    monkeypatch.setattr(replay_file, "boot_id", lambda: "another")
    assert not Process(tmp_path / "replay", (0, 2)).complete


# --- damage -----------------------------------------------------------------------------------------------------------


def current(path) -> str:
    """The file that is written to."""
    names = [f"{path}.{end}" for end in "01" if os.path.exists(f"{path}.{end}")]
    return max(names, key=lambda name: int(Path(name).read_bytes()[17:27]))


def test_what_was_half_written_is_nothing(path) -> None:
    first = Process(path)
    first.accept(1)
    first.kill()
    with open(current(path), "ab") as file:
        file.write(b"1.2.3 Q2026")
    again = Process(path)
    assert again.complete
    assert again.knows(1)
    assert again.accept(2) == "new"
    again.kill()
    third = Process(path)
    assert third.complete
    assert third.knows(2)


@pytest.mark.parametrize("where", ["cut", "line", "facts", "head", "empty", "zeros", "gone"])
def test_damage_means_that_older_requests_are_refused(path, caplog, where) -> None:
    first = Process(path)
    assert [first.accept(number) for number in range(3)] == ["new"] * 3
    first.kill()
    name = current(path)
    data = bytearray(Path(name).read_bytes())
    if where == "gone":
        os.unlink(name)
    else:
        at = {"line": len(data) - 20, "facts": 70, "head": 30}.get(where)
        if at is not None:
            data[at] ^= 1
        data = {"cut": data[:-1], "empty": b"", "zeros": bytes(len(data))}.get(where, data)
        with open(name, "wb") as file:
            file.write(data)
    again = Process(path)
    assert again.memory.refuse_before >= again.start
    assert caplog.text.count("requests from before now are refused") == 1
    assert again.accept(4) == "new"
    again.kill()
    third = Process(path)
    assert third.knows(4)
    assert third.memory.refuse_before == again.memory.refuse_before


@pytest.mark.parametrize("content", [b"something else entirely", b"fastsec repla\n", b"fastsec replay 2 " + b"0" * 50])
def test_a_file_that_is_not_ours_is_left_alone(tmp_path, content) -> None:
    (tmp_path / "replay.0").write_bytes(content)
    with pytest.raises(ConfigError, match=r"something else; name another|another version of fastsec; remove"):
        Process(tmp_path / "replay")
    assert (tmp_path / "replay.0").read_bytes() == content
    (tmp_path / "replay.0").unlink()
    Process(tmp_path / "replay")  # and what refused has let go of its locks


def test_each_identity_needs_its_own(path) -> None:
    with pytest.raises(ConfigError, match=f"belongs to {OWN}; each identity needs one of its own"):
        Process(path, identity="1.2.3")


def test_one_identity_has_one_file_and_one_place(world, tmp_path) -> None:
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"))
    identity = identity_of(config)
    with pytest.raises(ConfigError, match="give all its configurations the same one"):
        identity.endpoint(dataclasses.replace(config, replay_file=str(tmp_path / "other")))
    with pytest.raises(ConfigError, match="one process has one place"):
        identity.endpoint(dataclasses.replace(config, worker=(1, 2)))


def test_a_place_that_cannot_be_written(world, tmp_path) -> None:
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "missing" / "replay"))
    with pytest.raises(ConfigError, match="missing"):
        identity_of(config)


def test_removed_while_in_use_it_is_written_anew(path) -> None:
    first = Process(path)
    first.accept(1)
    for end in ("0", "1", "lock"):
        if os.path.exists(f"{path}.{end}"):
            os.unlink(f"{path}.{end}")
    first.file._checked = 0  # a second later
    assert first.accept(2) == "new"
    with pytest.raises(ConfigError, match="process 0 of 1 runs already"):
        Process(path)
    first.kill()
    again = Process(path)
    assert again.complete
    assert again.knows(1)
    assert again.knows(2)


# --- a full disk ------------------------------------------------------------------------------------------------------


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("part", [0, 7, None])
def test_a_disk_that_was_full_for_a_while(path, monkeypatch, caplog, part) -> None:
    """A single process goes on; what could not be written is written later, and a restart before that knows."""
    first = Process(path)
    assert first.accept(0) == "new"
    write = os.pwrite
    if part is None:
        monkeypatch.setattr(os, "pwrite", full)
    else:
        monkeypatch.setattr(
            os, "pwrite", lambda file, data, at: write(file, data if len(data) == 64 else data[:part], at)
        )
    assert first.accept(1) == "new"
    assert first.accept(2) == "new"
    assert caplog.text.count("No space left") == 1
    monkeypatch.undo()
    copy = ReplayMemory()
    for end in ("0", "1"):
        if os.path.exists(f"{path}.{end}"):
            (path.parent / f"copy.{end}").write_bytes(Path(f"{path}.{end}").read_bytes())
    ReplayFile(str(path.parent / "copy"), copy, OWN)  # a restart now
    assert copy.refuse_before is not None
    assert first.accept(3) == "new"
    assert "can be written again" in caplog.text
    first.kill()
    again = Process(path)
    assert all(again.knows(number) for number in range(4))
    assert again.complete


def test_on_a_full_disk_several_processes_accept_nothing(tmp_path, monkeypatch, caplog) -> None:
    """The others would not know of it."""
    established(tmp_path / "replay", 2)
    one, two = (Process(tmp_path / "replay", (index, 2)) for index in range(2))
    assert one.accept(0) == "new"
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LimitReached, match="No space left"):
        one.accept(1)
    assert "handshakes refused: 1" in caplog.text
    monkeypatch.undo()
    assert one.accept(2) == "new"
    assert two.accept(1, now().utc_ms - 5) == "new"
    assert two.knows(2)


# --- generations ------------------------------------------------------------------------------------------------------


def test_a_new_generation_begins_when_all_of_the_last_but_one_has_expired(path, monkeypatch) -> None:
    monkeypatch.setattr(replay_file, "ROTATE_ABOVE", 0)
    first = Process(path)
    moment = now()
    with first.memory as memory:
        memory.hold(PEER, (1, 2), served=True)
    numbers = iter(range(1000))
    generations, sizes = set(), []
    for step in range(200):
        later = Instant(moment.utc_ms + step * 60_000, moment.mono_ms + step * 60_000)
        monkeypatch.setattr(replay_file, "now", lambda later=later: later)
        first.file._rotate_after = 0
        for _ in range(3):
            number = next(numbers)
            stamp = time_text(later.utc_ms + number)
            assert memory.remember(PEER, "Q", stamp, str(number), digest_of(number), later.utc_ms) == "new"
        generations.add(first.file._generation)
        sizes.append(sum(os.path.getsize(f"{path}.{end}") for end in "01" if os.path.exists(f"{path}.{end}")))
    assert len(generations) == 1 + (200 - 1) // 20
    assert max(sizes[100:]) <= max(sizes[:60]) * 1.1
    first.kill()
    again = Process(path)
    assert again.complete
    assert {number for number in range(600) if again.knows(number)} >= set(range(600 - 33, 600))
    assert not again.knows(3)
    assert (1, 2) in again.memory.pairs(PEER)


@pytest.mark.parametrize("moment", ["before", "announced", "replaced"])
def test_a_process_that_dies_while_it_begins_a_generation(tmp_path, monkeypatch, moment) -> None:
    """Whoever comes next ends it, or begins anew."""
    established(tmp_path / "replay", 2)
    one, two = (Process(tmp_path / "replay", (index, 2)) for index in range(2))
    one.accept(1)
    replace = os.replace

    class Died(BaseException):
        pass

    def die(*names):
        if moment == "replaced":
            replace(*names)
        raise Died

    if moment == "before":
        write = os.pwrite
        monkeypatch.setattr(
            os, "pwrite", lambda file, data, at: die() if b" m " in data[:64] else write(file, data, at)
        )
    else:
        monkeypatch.setattr(os, "replace", die)
    with pytest.raises(Died), one.memory:
        one.file._begin_generation(whole=False)
    one.kill()
    monkeypatch.undo()
    third = Process(tmp_path / "replay", (0, 2)) if moment == "announced" else None
    assert two.accept(2) == "new"
    assert two.complete
    assert two.knows(1)
    third = third or Process(tmp_path / "replay", (0, 2))
    assert third.complete
    assert third.knows(1)
    assert third.knows(2)
