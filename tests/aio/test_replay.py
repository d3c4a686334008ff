"""The replay memory survives a restart, and is shared by all of one identity."""

from __future__ import annotations

import dataclasses

import pytest
from world import PDU, Recorder, pair

from fastsec.aio import endpoints
from fastsec.aio.endpoints import forget_identities, identity_of
from fastsec.errors import ConfigError
from fastsec.instant import Instant, now
from fastsec.secpdu.timestamp import time_text


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


def test_only_so_many_configurations_are_kept(world, monkeypatch) -> None:
    monkeypatch.setattr(endpoints, "CONFIGS_KEPT", 3)
    identity = identity_of(world.der)
    for _ in range(10):
        identity.endpoint(dataclasses.replace(world.der))
    assert len(identity._siblings) <= 3


def test_a_request_is_refused_again_after_a_restart(run, world, authority, tmp_path, monkeypatch) -> None:
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"))
    noted = []

    async def once() -> None:
        async with pair(world, authority, server=Recorder(echo=True), server_config=config) as two:
            await two.opened()
            two.client.assoc.write(PDU)
            await two.client.until(lambda: two.client.pdus == [PDU])

    async def main() -> None:
        await once()
        forget_identities()  # the process ends and starts again
        noted.extend((tmp_path / "replay").read_text().splitlines()[1:])
        await once()
        memory = identity_of(config).endpoint(config).replay
        for line in noted:
            digest = bytes.fromhex(line.split()[2])
            assert memory.exact(digest)

    run(main())
    assert noted
    assert (tmp_path / "replay").stat().st_mode & 0o077 == 0


def test_without_a_file_what_is_older_than_the_start_is_refused(world, tmp_path) -> None:
    assert identity_of(world.der).endpoint(world.der).refuse_before is not None
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"))
    assert identity_of(config).endpoint(config).refuse_before is not None  # a new file knows nothing of before
    forget_identities()
    (tmp_path / "replay").write_text("")
    assert identity_of(config).endpoint(config).refuse_before is None
    assert identity_of(world.der).endpoint(world.der).refuse_before is None  # the same memory


def test_a_second_start_soon_after_one_without_a_file_refuses_the_same(world, tmp_path, monkeypatch) -> None:
    """The file knows nothing of what came before the first start, so neither does the second."""
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"))
    first = identity_of(config).endpoint(config).refuse_before
    forget_identities()
    assert identity_of(config).endpoint(config).refuse_before == first
    forget_identities()
    later = Instant(now().utc_ms + 600_001, 0)
    monkeypatch.setattr(endpoints, "now", lambda: later)
    identity_of(config)  # such times are too old by now
    forget_identities()
    assert identity_of(config).endpoint(config).refuse_before is None


def test_a_line_cut_short_is_dropped_and_damage_is_not(world, tmp_path) -> None:
    path = tmp_path / "replay"
    config = dataclasses.replace(world.der, replay_file=str(path))
    path.write_text("1.2.3 Q2026")
    identity_of(config)
    forget_identities()
    path.write_text("damaged\n")
    with pytest.raises(ConfigError, match=f"{path}: line 1 is damaged; remove the file") as caught:
        identity_of(config)
    assert caught.value.line is None  # it is no line of the configuration file
    path.write_bytes(bytes(range(200, 256)) + b"\n")
    with pytest.raises(ConfigError, match="damaged"):
        identity_of(config)
    path.write_text("x")  # and what refused has let go of its lock
    identity_of(config)


def test_a_second_process_is_kept_away(world, tmp_path) -> None:
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"))
    identity_of(config)
    other = dataclasses.replace(world.centre, replay_file=str(tmp_path / "replay"))
    with pytest.raises(ConfigError, match="in use by another process"):
        identity_of(other)


def test_a_place_that_cannot_be_written(world, tmp_path) -> None:
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "missing" / "replay"))
    with pytest.raises(ConfigError, match="missing"):
        identity_of(config)


def test_a_full_disk_is_logged(world, tmp_path, monkeypatch, caplog) -> None:
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"))
    identity = identity_of(config)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(endpoints.os, "write", full)
    identity.file.append("line\n")
    assert "No space left" in caplog.text


@pytest.mark.parametrize("part", [0, 7])
def test_a_disk_that_was_full_for_a_while(world, tmp_path, monkeypatch, caplog, part) -> None:
    """What could not be written is written later; a restart before that refuses what is older than it."""
    path = tmp_path / "replay"
    path.write_text("")
    config = dataclasses.replace(world.der, replay_file=str(path))
    identity = identity_of(config)
    memory, moment = identity.endpoint(config).replay, now()
    stamps = [time_text(moment.utc_ms + number) for number in range(3)]
    write = endpoints.os.write

    def remember(number: int) -> None:
        memory.remember("1.2.3", "Q", stamps[number], "1", bytes([number]) * 32, moment.utc_ms)
        identity.keep()

    remember(0)
    monkeypatch.setattr(endpoints.os, "write", lambda file, data: write(file, data[:part]))
    remember(1)
    assert caplog.text.count("No space left") == 1
    assert not path.exists()
    monkeypatch.undo()
    remember(2)
    assert "can be written again" in caplog.text
    forget_identities()
    again = identity_of(config).endpoint(config)
    assert [again.replay.exact(bytes([number]) * 32) for number in range(3)] == [True] * 3
    assert again.refuse_before is None


def test_the_file_is_compacted(world, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(endpoints, "COMPACT_ABOVE", 100)
    (tmp_path / "replay").write_text("")
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"))
    identity = identity_of(config)
    identity.file.append("1.2.3 Q20000101000000.000000000/1 00\n" * 10)
    assert (tmp_path / "replay").read_text() == ""
    identity.file.append("x\n")
    assert (tmp_path / "replay").read_text() == "x\n"
