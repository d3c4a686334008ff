"""The replay memory on disk: one for all processes under one identity, and over a restart.

Whoever writes holds a lock of the kernel on ``PATH.lock`` for some microseconds; the kernel takes it from a process
that dies. Everybody reads what the others have added before it decides, so each has all of it in memory. When all of
the older file has expired, it makes room for a new one. The format: ``fastsec.aio.replay_format``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import struct
import time
from typing import Final

from fastsec import limits
from fastsec.aio.replay_format import (
    CLOSED,
    FACTS_MAX,
    HEAD,
    LACKING,
    MAGIC,
    MOVED,
    NONE,
    OPEN,
    Damaged,
    Facts,
    Head,
    facts_line,
    framed,
    head_line,
    head_or_none,
    parse_facts,
    parse_head,
    state_of,
    unframed,
)
from fastsec.errors import ConfigError, LimitReached
from fastsec.instant import now
from fastsec.replay import ReplayMemory
from fastsec.secpdu.timestamp import time_key, time_text

ROTATE_ABOVE: Final = 256 * 1024  # octets; smaller ones are not worth it
KEEP_MS: Final = max(2 * limits.OUR_REPLAY_WINDOW, limits.OUR_ASSO_PAIR_QUARANTINE) * 1000  # then all has expired
START_WAIT: Final = 10.0  # seconds for other processes that start
COMPLAIN_EVERY: Final = 10.0  # seconds
PAUSE: Final = 0.0001  # seconds between two tries for the lock
_FLOCK: Final = "hhqqi4x"  # struct flock of Linux, 64 bits

_log = logging.getLogger("fastsec.replay")


def boot_id() -> str:
    """Names the present run of the operating system; the same word always where that is not known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip() or "unknown"
    except OSError:
        return "unknown"


class ReplayFile:
    """Keeps ``memory`` at ``path`` and shares it with the other processes under this identity.

    Arguments:
        path: name to which ``.0``, ``.1`` and ``.lock`` are added. If there is nothing, times before the start are
            refused this once; likewise if not all is there any more.
        memory: takes over what is there; what it has already is added.
        identity: whose memory it is.
        worker: (i, N): this is process i of N.
    Errors:
        ConfigError: cannot be written, is somebody else's or of another number of processes, or process i runs already.
    """

    __slots__ = (
        "_again",
        "_behind",
        "_boot",
        "_checked",
        "_complained",
        "_count",
        "_facts",
        "_file",
        "_generation",
        "_identity",
        "_length",
        "_lock_file",
        "_locked",
        "_memory",
        "_raw",
        "_refused",
        "_rotate_after",
        "_worker",
        "path",
    )

    def __init__(self, path: str, memory: ReplayMemory, identity: str, worker: tuple[int, int] = (0, 1)) -> None:
        self.path = path
        self._memory = memory
        self._identity = identity
        self._worker, self._count = worker
        self._boot = boot_id()
        self._file = self._lock_file = -1
        self._generation = self._length = 0
        self._raw = b""  # the first line as last seen or written
        self._facts: Facts | None = None
        self._locked = self._behind = self._again = False
        self._checked = self._rotate_after = 0.0
        self._complained = -COMPLAIN_EVERY
        self._refused = 0
        try:
            self._start()
        except (OSError, LimitReached) as error:
            self.abandon()
            raise self._unusable(getattr(error, "strerror", None) or str(error)) from None
        except ConfigError:
            self.abandon()
            raise

    def _unusable(self, why: str) -> ConfigError:
        return ConfigError(f"replay file {self.path}: {why}")

    def _name(self, generation: int) -> str:
        return f"{self.path}.{generation & 1}"

    # --- locks -------------------------------------------------------------------------------------------------------

    def _record_lock(self, command: int, first: int, count: int) -> bool:
        """Octet i of the lock file is locked by process i as long as it runs. False: others have what is asked for."""
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, first, count, 0)
        try:
            found = fcntl.fcntl(self._lock_file, command, asked)
        except BlockingIOError:
            return False
        return command != fcntl.F_OFD_GETLK or struct.unpack(_FLOCK, found)[0] == fcntl.F_UNLCK

    @property
    def is_shared(self) -> bool:
        """Whether there are other processes."""
        return self._count > 1

    def is_alive(self, worker: int) -> bool:
        """Whether the process with this index runs."""
        return worker == self._worker or not self._record_lock(fcntl.F_OFD_GETLK, worker, 1)

    def _is_alone(self) -> bool:
        first = self._worker + 1
        return self._record_lock(fcntl.F_OFD_GETLK, first, limits.OUR_ASSO_NUMBERS) and (
            not self._worker or self._record_lock(fcntl.F_OFD_GETLK, 0, self._worker)
        )

    def _claim_place(self) -> bool:
        self._lock_file = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._record_lock(fcntl.F_OFD_SETLK, self._worker, 1)

    def _lock(self, seconds: float) -> None:
        """Wait for the others, but never long: a process may have been stopped while it had the lock."""
        latest = 0.0
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                moment = time.monotonic()
                latest = latest or moment + seconds
                if moment >= latest:
                    self._again = True
                    raise self._refusal("another process holds it and does not go on") from None
                time.sleep(PAUSE)
            else:
                self._locked, self._again = True, False
                return

    def _unlock(self) -> None:
        if self._locked:
            self._locked = False
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _refusal(self, why: str) -> LimitReached:
        """What a handshake ends with that cannot be checked; counted, and logged now and then."""
        self._refused += 1
        moment = time.monotonic()
        if moment - self._complained >= COMPLAIN_EVERY:
            _log.error("replay file %s: %s; handshakes refused: %d", self.path, why, self._refused)
            self._complained, self._refused = moment, 0
        return LimitReached("OUR_REPLAY_LOCK", f"replay file: {why}")

    # --- start and end -----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        before = self._memory.lines(now().utc_ms)
        if not self._claim_place():
            raise self._unusable(
                f"in use: process {self._worker} of {self._count} runs already; processes that share it each need a "
                "worker = (i, N) of their own, i from 0 to N - 1"
            )
        loaded = False
        with contextlib.suppress(Damaged, OSError):  # most of it while the others go on
            loaded = self._load()
        latest = time.monotonic() + START_WAIT
        while True:
            self._lock(START_WAIT)  # one starts after the other
            alone, moment = self._is_alone(), now()
            try:
                complete = loaded or self._load()
                if self._file >= 0:
                    self._finish()
                lacking = "" if complete or self._facts is None else "not all is there"
            except Damaged as damage:
                complete, lacking = False, str(damage)
            current = self._file >= 0 and state_of(self._raw) != MOVED
            if alone or current or time.monotonic() >= latest:
                break
            self._unlock()  # those that run will notice and mend it
            time.sleep(PAUSE * 1000)
        try:
            self._check(alone, current)
            facts = self._facts
            lost = facts is not None and facts.boot != self._boot
            if lost and parse_head(self._raw).state != CLOSED:
                complete, lacking = False, lacking or "the system went down before all was on the disk"
            if lacking:
                _log.warning("replay file %s: %s; requests from before now are refused", self.path, lacking)
            self._memory.refuse_before = facts.since if complete and facts is not None else _key(moment.utc_ms)
            self._memory.raise_floor(alone=alone)
            if lost:
                self._memory.rest_all(moment.mono_ms)
            if facts is None or lost or not complete or facts.processes != self._count:
                self._begin_generation(whole=True)
            self._memory.attach(self)
            self._memory.rest_live(moment.mono_ms, None if alone else self._worker)
            for line in before:
                self._memory.take(line, moment.mono_ms)
            self._append(self._memory.drain() + before)
        finally:
            self._unlock()

    def _check(self, alone: bool, current: bool) -> None:
        """ConfigError unless it is ours, and the others that run use what we found and are of our kind."""
        facts = self._facts
        if facts is not None and facts.identity != self._identity:
            raise self._unusable(f"belongs to {facts.identity}; each identity needs one of its own")
        if not alone and not current:
            raise self._unusable("was removed or damaged while other processes use it; stop them all first")
        if not alone and facts is not None and facts.processes != self._count:
            raise self._unusable(
                f"the processes that use it are {facts.processes}, not {self._count}; all need the same N in "
                "worker = (i, N): stop them all first"
            )

    def close(self) -> None:
        """Write down what is not yet, and let go."""
        with contextlib.suppress(LimitReached), self._memory:
            pass
        self._memory.attach(None)
        if self._file >= 0:
            with contextlib.suppress(OSError, LimitReached, ConfigError, Damaged):
                self._lock(limits.OUR_REPLAY_LOCK)
                self._finish()
                if not self._behind and self._is_alone():
                    self._sync()
        self.abandon()

    def _sync(self) -> None:
        """See to it that it survives the end of the operating system too."""
        with contextlib.suppress(FileNotFoundError):
            _fsync(self._name(self._generation - 1))
        os.fsync(self._file)
        _fsync(os.path.dirname(os.path.abspath(self.path)))
        os.pwrite(self._file, head_line(self._generation, self._length, CLOSED), 0)
        os.fsync(self._file)

    def abandon(self) -> None:
        """Let go of the files; the locks too, unless this is a copy of the process that has them."""
        for descriptor in (self._file, self._lock_file):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._file = self._lock_file = -1
        self._locked = False

    # --- steps -------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Take over what others have added, without waiting; ``begin`` looks again."""
        if self._count > 1 and not self._locked:
            with contextlib.suppress(Damaged, ConfigError, OSError):
                self._follow()

    def begin(self) -> None:
        """Nobody else decides until ``end``. LimitReached: it cannot be had."""
        if self._file < 0:
            raise self._refusal("this process is a copy of the one that opened it; start processes, do not fork them")
        if self._count > 1:
            self._lock(limits.OUR_REPLAY_LOCK_AGAIN if self._again else limits.OUR_REPLAY_LOCK)
        try:
            if self._count > 1:
                self._finish()
            if time.monotonic() >= self._checked:
                self._check_place()
        except (Damaged, ConfigError) as damage:
            try:
                self._mend(damage)
            except OSError as error:
                self._unlock()
                raise self._refusal(error.strerror or str(error)) from None
        except OSError as error:
            self._unlock()
            raise self._refusal(error.strerror or str(error)) from None
        except LimitReached:
            self._unlock()
            raise

    def _check_place(self) -> None:
        """Once a second: the files are still where others will look for them."""
        self._checked = time.monotonic() + 1
        if not _is_at(self._lock_file, f"{self.path}.lock"):
            if self._count > 1:
                raise self._refusal("its lock file was removed; restart this process")
            os.close(self._lock_file)
            if not self._claim_place() or not self._is_alone():
                raise self._refusal("it was removed, and another process uses the name now")
        if not _is_at(self._file, self._name(self._generation)) and not self._behind:
            _log.error("replay file %s was removed or replaced; writing it anew", self.path)
            self._begin_generation(whole=True)

    def _mend(self, damage: Exception) -> None:
        """Use what another process has already written anew; or write down what we know, and refuse what is older than
        now, because entries of others may be gone."""
        generation, complete = self._generation, False
        with contextlib.suppress(Damaged, ConfigError):
            complete = self._load() and state_of(self._raw) != MOVED
        if complete:
            self._adopt_since()
            return
        self._generation = max(generation, self._generation)
        _log.error("replay file %s: %s; requests from before now are refused", self.path, damage)
        self._memory.refuse_before = _key(now().utc_ms + 1)  # what is lost may be of this millisecond
        self._begin_generation(whole=True)

    def end(self, lines: list[str]) -> None:
        """Keep ``lines`` and let others go on. LimitReached: with several processes, if they could not be kept."""
        try:
            if lines or self._behind:
                self._append(lines)
            if self._length > ROTATE_ABOVE and time.monotonic() >= self._rotate_after:
                self._rotate()
        except OSError as error:
            if self._count > 1:
                raise self._refusal(error.strerror or str(error)) from None
            self._fall_behind(error)
        finally:
            self._unlock()

    def _append(self, lines: list[str]) -> None:
        if self._behind:
            self._begin_generation(whole=True)
            self._behind = False
            _log.warning("replay file %s can be written again", self.path)
            return
        data = framed(lines)
        _write(self._file, data, self._length)
        raw = head_line(self._generation, self._length + len(data), OPEN)
        _write(self._file, raw, 0)
        self._length += len(data)
        self._raw = raw

    def _fall_behind(self, error: OSError) -> None:
        """A single process goes on with what it has in memory; the file must not pass for complete."""
        if not self._behind:
            _log.error("replay file %s cannot be written: %s; trying on", self.path, error.strerror or error)
        self._behind = True
        try:
            _write(self._file, head_line(self._generation, self._length, LACKING), 0)
        except OSError:
            for name in (self._name(0), self._name(1)):
                with contextlib.suppress(OSError):
                    os.unlink(name)

    # --- generations -------------------------------------------------------------------------------------------------

    def _rotate(self) -> None:
        """Begin a new generation if all that is in the one before this has expired."""
        facts, moment = self._facts, now()
        if facts is None or min(moment.utc_ms - facts.utc_ms, moment.mono_ms - facts.mono_ms) < KEEP_MS:
            self._rotate_after = time.monotonic() + 1
            return
        try:
            self._begin_generation(whole=False)
        except OSError as error:  # it goes on growing
            self._rotate_after = time.monotonic() + 60
            _log.error("replay file %s cannot be written anew: %s", self.path, error.strerror or error)

    def _begin_generation(self, *, whole: bool) -> None:
        """Write to the other file from now on, beginning with what does not expire, or with all (``whole``)."""
        moment = now()
        since = self._memory.refuse_before
        if since is not None and since <= _key(moment.utc_ms - limits.OUR_REPLAY_WINDOW * 1000):
            since = None  # older times are refused anyway
        body = framed(self._memory.lines(moment.utc_ms) if whole else self._memory.standing())
        facts = Facts(self._identity, self._count, self._boot, since, moment.utc_ms, moment.mono_ms, whole, 0)
        start = HEAD + len(framed([facts_line(facts)]))
        facts = facts._replace(skip=start if whole else start + len(body))
        generation, length = self._generation + 1, start + len(body)
        raw = head_line(generation, length, OPEN)
        fresh = f"{self.path}.new"
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(file, raw + framed([facts_line(facts)]) + body, 0)
            if self._file >= 0:
                _write(self._file, head_line(self._generation, self._length, MOVED), 0)
            os.replace(fresh, self._name(generation))
        except OSError:
            os.close(file)
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            if self._file >= 0:
                with contextlib.suppress(OSError):
                    _write(self._file, head_line(self._generation, self._length, LACKING if self._behind else OPEN), 0)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._generation, self._length, self._raw, self._facts = file, generation, length, raw, facts

    # --- reading -----------------------------------------------------------------------------------------------------

    def _follow(self) -> bool:
        """Read what is new. False: a newer generation was announced, but is not there (yet)."""
        while True:
            raw = os.pread(self._file, HEAD, 0)
            if raw != self._raw:
                head = parse_head(raw)
                if head.generation != self._generation or head.length < self._length:
                    raise Damaged("it says less than it did")
                self._take(self._file, self._length, head.length)
                self._length, self._raw = head.length, raw
            elif state_of(raw) != MOVED:
                return True
            if state_of(raw) == MOVED and not self._go_on():
                return False

    def _finish(self) -> None:
        """``_follow``, by who has the lock: a new generation that was announced is there then.

        Errors:
            Damaged: or it is lost.
        """
        while not self._follow():
            fresh = f"{self.path}.new"
            try:
                with open(fresh, "rb") as file:
                    begun = parse_head(file.read(HEAD)).generation == self._generation + 1
            except FileNotFoundError:
                begun = False
            if not begun:
                raise Damaged("what followed it is missing")
            os.replace(fresh, self._name(self._generation + 1))  # who began it died

    def _go_on(self) -> bool:
        """To the next generation; False: it is not there."""
        try:
            file = os.open(self._name(self._generation + 1), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            raw = os.pread(file, HEAD, 0)
            head = parse_head(raw)
            if head.generation <= self._generation:
                return False
            if head.generation > self._generation + 1:  # we slept for long: all we had to read next has expired
                if not self._load():
                    raise Damaged("not all is there")
                self._adopt_since()
                return True
            facts, start = self._read_facts(file, head)
            length = max(facts.skip, start)
            self._take(file, length, head.length)
            os.close(self._file)
            self._file, file = file, -1
            self._generation, self._length, self._raw, self._facts = head.generation, head.length, raw, facts
            self._adopt_since()
            return True
        finally:
            if file >= 0:
                os.close(file)

    def _adopt_since(self) -> None:
        """Another process has found that something is missing."""
        known, since = self._memory.refuse_before, self._facts.since if self._facts is not None else None
        if since is not None and (known is None or since > known):
            self._memory.refuse_before = since

    def _load(self) -> bool:
        """Read all from the beginning. False: nothing is there, or not all that was.

        Errors:
            ConfigError: a file is not ours. Damaged: part of it is not as it was; what could be read is taken over.
        """
        files = [self._open(slot) for slot in (0, 1)]
        try:
            heads = [head_or_none(raw) if file >= 0 else None for file, raw in files]
            if all(file < 0 for file, _ in files):
                return False
            slot = max((0, 1), key=lambda slot: heads[slot] or NONE)
            (file, raw), head, older = files[slot], heads[slot], heads[1 - slot]
            if head is None:
                raise Damaged("its first line is damaged")
            if self._file >= 0:
                os.close(self._file)
            files[slot] = (-1, b"")
            self._file, self._generation, self._length, self._raw = file, head.generation, head.length, raw
            self._facts = None
            facts, start = self._read_facts(file, head)
            self._facts = facts
            self._memory.tidy(now().utc_ms)
            complete = head.state != LACKING
            if not facts.whole:
                if older is None or older.generation != head.generation - 1:
                    complete = False
                else:
                    _, begin = self._read_facts(files[1 - slot][0], older)
                    self._take(files[1 - slot][0], begin, older.length)
            self._take(file, start, head.length)
            return complete
        finally:
            for file, _ in files:
                if file >= 0:
                    os.close(file)

    def _open(self, slot: int) -> tuple[int, bytes]:
        """A file and its first line; -1: there is none."""
        try:
            file = os.open(self._name(slot), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1, b""
        raw = os.pread(file, HEAD, 0)
        if not raw.startswith(MAGIC[: len(raw)]) and raw.strip(b"\0"):
            os.close(file)
            raise self._unusable(f"{self._name(slot)} is something else; name another path")
        if raw[len(MAGIC) : len(MAGIC) + 2].strip(b"\0") not in (b"1 ", b"1", b""):
            os.close(file)
            raise self._unusable(f"{self._name(slot)} was written by another version of fastsec; remove it")
        return file, raw

    def _read_facts(self, file: int, head: Head) -> tuple[Facts, int]:
        """The second line, and where the third begins."""
        line = os.pread(file, min(FACTS_MAX, head.length - HEAD), HEAD).partition(b"\n")[0] + b"\n"
        return parse_facts(unframed(line)[0]), HEAD + len(line)

    def _take(self, file: int, start: int, end: int) -> None:
        if start == end:
            return
        data = os.pread(file, end - start, start)
        if len(data) < end - start:
            raise Damaged("its end is missing")
        mono_ms, take = now().mono_ms, self._memory.take
        try:
            for line in unframed(data):
                take(line, mono_ms)
        except ValueError:
            raise Damaged("a line is not one of ours") from None


def _key(utc_ms: int) -> str:
    return time_key(time_text(max(utc_ms, 0)))


def _write(file: int, data: bytes, offset: int) -> None:
    if os.pwrite(file, data, offset) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _fsync(path: str) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _is_at(file: int, path: str) -> bool:
    """Whether ``path`` is the open file."""
    try:
        there, here = os.stat(path), os.fstat(file)
    except FileNotFoundError:
        return False
    return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)
