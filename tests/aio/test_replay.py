"""The replay memory survives a restart, and is shared by all of one identity."""

from __future__ import annotations

import dataclasses

import pytest
from world import PDU, Recorder, pair

from fastsec.aio import endpoints
from fastsec.aio.endpoints import forget_identities, identity_of
from fastsec.errors import ConfigError


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
        noted.extend((tmp_path / "replay").read_text().splitlines())
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
    assert identity_of(config).endpoint(config).refuse_before is None
    assert identity_of(world.der).endpoint(world.der).refuse_before is None  # the same memory


def test_a_line_cut_short_is_dropped_and_damage_is_not(world, tmp_path) -> None:
    path = tmp_path / "replay"
    config = dataclasses.replace(world.der, replay_file=str(path))
    path.write_text("1.2.3 Q2026")
    identity_of(config)
    forget_identities()
    path.write_text("damaged\n")
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


def test_the_file_is_compacted(world, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(endpoints, "COMPACT_ABOVE", 100)
    config = dataclasses.replace(world.der, replay_file=str(tmp_path / "replay"))
    identity = identity_of(config)
    identity.file.append("1.2.3 Q20000101000000.000000000/1 00\n" * 10)
    assert (tmp_path / "replay").read_text() == ""
    identity.file.append("x\n")
    assert (tmp_path / "replay").read_text() == "x\n"
