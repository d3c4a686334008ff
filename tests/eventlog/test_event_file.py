"""The event file over rotation, restart, crash and tampering; the counter over restart and crash."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from logfiles import contents, files, made, verified

from fastsec.aio.event_file import BLOCK, Counter, EventFile
from fastsec.errors import ConfigError
from fastsec.eventlog.record import SQNUM_MAX

KEY = b"secret" * 6


def write(file: EventFile, *numbers: int, size: int = 0) -> None:
    records = [made(number, size) for number in numbers]
    file.write(records)
    assert not records


@pytest.mark.parametrize("key", [None, KEY])
def test_the_chain_goes_on_over_rotation_and_restart(tmp_path: Path, key: bytes | None) -> None:
    path = tmp_path / "events.log"
    problems: list[str] = []
    number = 0
    for _ in range(3):
        file = EventFile(path, size=2000, count=100, key=key, report=problems.append)
        for _ in range(20):
            number += 1
            write(file, number)
        file.close()
    assert not problems
    assert len(files(path)) > 5
    assert contents(path) == [made(each)[1] for each in range(1, number + 1)]
    assert all(each.stat().st_size <= 2000 for each in files(path))
    assert path.stat().st_mode & 0o777 == 0o600
    found = verified(path, key)
    assert not found.findings
    assert found.head.number == number + len(files(path))


def test_no_more_than_so_many_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    file = EventFile(path, size=1000, count=3)
    write(file, *range(100))
    file.close()
    assert sorted(each.name for each in files(path)) == ["events.log", *(f"events.log.{n}" for n in (1, 2, 3))]
    assert not verified(path).findings
    assert verified(path).first > 0
    assert contents(path)[-1] == made(99)[1]


def test_one_process_writes(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "events.log")
    with pytest.raises(ConfigError, match="another process writes it"):
        EventFile(tmp_path / "events.log")
    file.close()
    EventFile(tmp_path / "events.log").close()
    with pytest.raises(ConfigError, match="No such file"):
        EventFile(tmp_path / "none" / "events.log")


def reopened(path: Path, key: bytes | None = None) -> str:
    """What is told about a file on opening it; one more record is written."""
    problems: list[str] = []
    file = EventFile(path, key=key, report=problems.append)
    write(file, 1000)
    file.close()
    assert contents(path)[-1] == made(1000)[1] if len(files(path)) == 1 else True
    return "; ".join(problems)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "events.log"
    file = EventFile(path)
    write(file, *range(10))
    file.close()
    return path


def test_what_was_changed_while_nobody_looked_is_told_and_stays(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    changed = b"".join([*lines[:4], lines[4].replace(b'"3"', b'"5"'), *lines[5:]])
    log.write_bytes(changed)
    assert "events.log:5: " in reopened(log)
    assert Path(f"{log}.1").read_bytes() == changed
    assert verified(log).findings
    assert reopened(log) == ""


def test_records_taken_from_the_end_are_told_and_stay_missing(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-3]))
    assert reopened(log).endswith("records are missing at the end: 3")
    (finding,) = verified(log).findings
    assert str(finding).endswith("lines missing between them: 3")


def test_a_last_record_that_was_replaced_is_told(log: Path) -> None:
    from fastsec.eventlog import chain

    lines = log.read_bytes().splitlines(keepends=True)
    last = chain.Head(0, bytes.fromhex(lines[-2][:64].decode()))
    log.write_bytes(b"".join(lines[:-1]) + chain.append(last, [b"forged"], None)[0])
    assert reopened(log).endswith("is not the one that was written last")


def test_a_file_that_is_gone_is_told(log: Path) -> None:
    log.unlink()
    assert reopened(log).endswith("is gone or empty")
    assert not verified(log).findings  # what is there goes on after what was
    assert verified(log).first == 11


def test_a_rotation_that_a_crash_cut_short_is_no_damage(log: Path) -> None:
    log.rename(f"{log}.1")
    assert reopened(log) == ""
    log.rename(f"{log}.2")
    Path(f"{log}.1").rename(f"{log}.3")
    log.touch()
    assert reopened(log).endswith("is gone or empty")


def test_another_key_is_told(log: Path) -> None:
    told = reopened(log, KEY)
    assert "made with another key" in told
    assert "made without a key" in told


def test_a_write_that_a_crash_cut_short_is_no_damage(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"0123456789abcdef")
    assert reopened(log) == ""
    assert not verified(log).findings
    assert len(contents(log)) == 11


def test_records_that_the_head_does_not_know_yet_are_no_damage(log: Path) -> None:
    """Killed between the write to the file and the one to its head."""
    head = Path(f"{log}.head")
    before = head.read_bytes()
    file = EventFile(log)
    write(file, 77)
    file.close()
    head.write_bytes(before)
    assert reopened(log) == ""
    assert not verified(log).findings


def test_a_file_that_is_moved_or_written_to_meanwhile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    problems: list[str] = []
    file = EventFile(path, report=problems.append)
    write(file, 1)
    path.rename(tmp_path / "elsewhere")
    write(file, 2)
    assert problems.pop().endswith("was taken away while it was written")
    assert contents(path) == [made(2)[1]]
    with path.open("ab") as other:
        other.write(b"forged\n")
    write(file, 3)
    assert "was changed by somebody else" in problems.pop()
    with path.open("r+b") as other:
        other.truncate(10)
    write(file, 4)
    assert "was changed by somebody else" in problems.pop()
    file.close()
    assert path.read_bytes().endswith(made(4)[1] + b"\n")


def test_a_disk_that_is_full_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.log"
    file = EventFile(path)
    write(file, 1)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 20:
            return real(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    records = [made(2), made(3)]
    with monkeypatch.context() as patch:
        patch.setattr("fastsec.aio.event_file.os.write", full)
        with pytest.raises(OSError, match="No space left"):
            file.write(records)
    assert len(records) == 2
    file.write(records)
    file.close()
    assert contents(path) == [made(each)[1] for each in (1, 2, 3)]
    assert not verified(path).findings


def test_a_full_disk_in_the_middle_of_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.log"
    file = EventFile(path, size=1000, count=50)
    real, room = os.write, [4000]

    def nearly_full(descriptor: int, data: bytes) -> int:
        if room[0] < len(data):
            raise OSError(28, "No space left on device")
        room[0] -= len(data)
        return real(descriptor, data)

    records = [made(number) for number in range(60)]
    with monkeypatch.context() as patch:
        patch.setattr("fastsec.aio.event_file.os.write", nearly_full)
        for _ in range(40):
            try:
                file.write(records)
            except OSError:
                room[0] += 333
    file.write(records)
    file.close()
    assert contents(path) == [made(number)[1] for number in range(60)]
    assert not verified(path).findings


KILLED = """
import sys
from pathlib import Path
from fastsec.aio.event_file import Counter, EventFile
from logfiles import made
file, counter = EventFile(Path(sys.argv[1]), size=20000, count=1000), Counter(Path(sys.argv[2]))
print("on", flush=True)
while True:
    file.write([made(counter.next()) for _ in range(7)])
"""


@pytest.mark.timeout(300)
def test_killed_again_and_again(tmp_path: Path) -> None:
    """After ``kill -9`` the chain is whole and no number comes twice."""
    path, count = tmp_path / "events.log", tmp_path / "counter"
    here = (os.environ.get("PYTHONPATH"), str(Path(__file__).parent))
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), str(count)],
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, here))},
        )  # fmt: skip
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"on\n"
            begin = len(files(path))
            while len(files(path)) < begin + 2:
                pass
            process.send_signal(signal.SIGKILL)
            process.wait()
    problems: list[str] = []
    EventFile(path, report=problems.append).close()
    assert problems == []
    assert not verified(path).findings
    numbers = [int(text.split(b'SqNum="')[1].split(b'"')[0]) for text in contents(path)]
    assert len(numbers) > 100
    assert numbers == sorted(set(numbers))
    gaps = [later - earlier for earlier, later in itertools.pairwise(numbers) if later != earlier + 1]
    assert len(gaps) <= 7
    assert all(gap <= BLOCK for gap in gaps)


# --- the counter ------------------------------------------------------------------------------------------------------
def test_numbers_go_on_after_an_orderly_end_without_a_gap(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):
        counter = Counter(tmp_path / "counter")
        seen += [counter.next() for _ in range(BLOCK + 5)]
        counter.close()
    assert seen == list(range(1, 3 * (BLOCK + 5) + 1))


def test_without_a_file_numbers_are_not_supported() -> None:
    counter = Counter(None)
    assert [counter.next(), counter.next()] == [0, 0]
    counter.close()


def test_numbers_wrap_to_one(tmp_path: Path) -> None:
    counter = Counter(tmp_path / "counter")
    counter._write(SQNUM_MAX - 2)
    counter.close()
    counter = Counter(tmp_path / "counter")
    counter._next = counter._reserved = SQNUM_MAX - 2
    assert [counter.next() for _ in range(6)] == [SQNUM_MAX - 2, SQNUM_MAX - 1, SQNUM_MAX, 1, 2, 3]
    counter.close()
    assert Counter(tmp_path / "counter").next() == 4


@pytest.mark.parametrize("text", [b"", b"x" * 20, b"0000000001 00000000\n", b"9" * 10])
def test_a_damaged_counter_goes_on_above_all_that_was(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "counter").write_bytes(text)
    counter = Counter(tmp_path / "counter")
    assert counter.next() == 1 if not text else counter.next() > 1_700_000_000
    counter.close()


def test_two_processes_do_not_share_a_counter(tmp_path: Path) -> None:
    counter = Counter(tmp_path / "counter")
    with pytest.raises(ConfigError, match="another process"):
        Counter(tmp_path / "counter")
    counter.close()
