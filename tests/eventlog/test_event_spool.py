"""The spool: order, room by severity, what a restart and a crash leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec.aio.event_spool import SEGMENT, Spool
from fastsec.aio.event_syslog import frame


def frames(first: int, count: int, size: int = 20) -> list[bytes]:
    return [frame(b"%d " % number + b"x" * size) for number in range(first, first + count)]


def fill(spool: Spool, items: list[bytes]) -> None:
    for item in items:
        assert spool.append(item, "alarm")
    spool.sync()


@pytest.mark.parametrize("crash", [True, False])
def test_what_is_not_done_comes_again_after_a_restart(tmp_path: Path, crash: bool) -> None:
    spool = Spool(directory=tmp_path / "spool")
    fill(spool, frames(0, 100))
    assert len(spool.read(0, 1 << 20)) == 100
    spool.done(40)
    assert spool.first == 40
    if not crash:
        spool.close()
    again = Spool(directory=tmp_path / "spool")
    found = again.read(0, 1 << 20)
    assert found[-60:] == frames(40, 60)  # some of what was done may come too
    fill(again, frames(100, 10))
    again.close()
    last = Spool(directory=tmp_path / "spool")
    assert last.read(0, 1 << 20)[-70:] == frames(40, 70)
    last.done(last.next)
    assert not list((tmp_path / "spool").iterdir())
    fill(last, frames(7, 3))
    last.close()
    assert Spool(directory=tmp_path / "spool").read(0, 1 << 20) == frames(7, 3)


def test_files_go_as_soon_as_all_in_them_is_done(tmp_path: Path) -> None:
    spool = Spool(directory=tmp_path)
    fill(spool, frames(0, 400, 1000))
    count = len(list(tmp_path.iterdir()))
    assert count > 5
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < SEGMENT + 2000
    spool.done(200)
    assert len(list(tmp_path.iterdir())) <= count // 2 + 1
    again = Spool(directory=tmp_path)
    assert again.read(0, 1 << 20)[-200:] == frames(200, 200, 1000)
    assert len(again.read(0, 1 << 20)) < 280


def test_a_frame_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    spool = Spool(directory=tmp_path)
    fill(spool, frames(0, 10))
    spool.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert Spool(directory=tmp_path).read(0, 1 << 20) == frames(0, 9)


def test_a_full_spool_keeps_what_it_has_and_room_for_what_is_worse() -> None:
    spool = Spool(1000)
    item = b"x" * 100
    assert [spool.append(item, "notice") for _ in range(8)].count(True) == 5
    assert [spool.append(item, "warning") for _ in range(8)].count(True) == 2
    assert [spool.append(item, "error") for _ in range(8)].count(True) == 1
    assert [spool.append(item, "alarm") for _ in range(8)].count(True) == 2
    assert spool.refused == 3 + 6 + 7 + 6
    spool.done(4)
    assert [spool.append(item, "alarm") for _ in range(8)].count(True) == 4


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=60))
def test_the_same_as_a_list(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]) -> None:
    directory = tmp_path_factory.mktemp("spool")
    spool, model, number, first = Spool(directory=directory), list[bytes](), 0, 0
    for what, count in steps:
        if what <= 1:
            items = frames(number, count, 500)
            number += count
            model += items
            fill(spool, items)
        elif what == 2:
            done = min(count, len(model))
            del model[:done]
            first += done
            spool.done(spool.first + done)
        else:
            spool = Spool(directory=directory)  # killed: the other one wrote all it had
            kept = spool.read(0, 1 << 30)
            assert kept[len(kept) - len(model) :] == model
            spool.done(spool.first + len(kept) - len(model))
        assert spool.read(spool.first, 1 << 30) == model
        assert spool.next - spool.first == len(model)
