"""CRLs and OCSP answers, fetched in the background, for all associations and TLS connections of a process.

``RevocationService`` has one thread with an event loop of its own, so that neither a dead responder nor a large list is
ever in the way of an association. What it learns it puts into ``known`` (``fastsec.pki.revocation.Revocations``), which
a ``TrustStore`` gets as ``revocation=``: handshakes look up there and wait only for answers that are not there yet, at
most ``RevocationPolicy.timeout`` seconds, in a job that occupies no worker thread. When something new has come, open
associations look at their peers again, a few per turn of their loop.

Others, such as the checks of TLS, call ``status`` (never waits), ``ask`` (awaitable) or ``ask_blocking``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastsec import limits
from fastsec._core.crypto import random_bytes
from fastsec.aio import meter
from fastsec.aio.fetch import FetchError, fetch
from fastsec.aio.recheck import recheck_all
from fastsec.errors import ConfigError, HandshakeError, PeerError
from fastsec.events import SecurityEvent
from fastsec.instant import now
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import load_crls
from fastsec.pki.crl import RevocationList
from fastsec.pki.findings import Revocation
from fastsec.pki.ocsp import NONCE_OCTETS, OcspError, cert_id, make_request, take_response
from fastsec.pki.revocation import Failure, Question, RevocationPolicy, Revocations, is_public, web_address

_log = logging.getLogger("fastsec.revocation")
StrPath = str | os.PathLike[str]
_CLOSING: Final = 2.0  # seconds for the thread to end
_ROUNDS: Final = 3


class Status(NamedTuple):
    """What is known of one certificate.

    Attributes:
        revoked: the reason (CRLReason) if it is revoked, else None.
        findings: warnings of the domain IEC62351-9; with ``revoked`` the event CERT_V_REVOKED.
        refused: whether the policy refuses it (``hard_fail``, ``unknown``) although it is not known to be revoked.
        pending: whether asking may tell more.
    """

    revoked: str | None = None
    findings: tuple[SecurityEvent, ...] = ()
    refused: bool = False
    pending: bool = False


class RevocationService:
    """Keeps what is known about revocation up to date, and asks.

    Arguments:
        policy: where to ask, and what to do if nobody answers.
        files: CRL files, PEM or DER; read now, and again when they change.
        watch: seconds between looks at the files.
    Raises: ConfigError for a file that cannot be used.

    Attributes:
        known: for ``TrustStore(..., revocation=service.known)``.
        listeners: called in the service's thread after something new has come: a list, or a revocation. They must not
            block nor raise; open associations of this process are told anyway.

    Not started, it is a mere collection of the files' lists. ``start`` and ``close`` may be called from any thread.
    """

    def __init__(
        self,
        policy: RevocationPolicy | None = None,
        files: Iterable[StrPath] = (),
        *,
        watch: float = limits.OUR_CRL_FILE_POLL,
    ) -> None:
        self.known = Revocations((), policy)
        self.known.lock = threading.RLock()
        self.listeners: list[Callable[[], None]] = []
        self._files = tuple(dict.fromkeys(Path(file) for file in files))
        self._watch = watch
        self._stamps: dict[Path, tuple[int, ...]] = {}
        for file in self._files:
            self._stamps[file] = _stamp(file)
            self.known.replace(str(file), read_lists(file))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._asking: dict[tuple[Any, ...], asyncio.Task[None]] = {}
        self._probing: set[str] = set()
        self._following: dict[str, asyncio.Task[None]] = {}
        self._fetched: dict[str, tuple[tuple[str, str], ...]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pokes: dict[str, asyncio.Event] = {}
        meter.SERVICES.add(self)

    # --- start and end ------------------------------------------------------------------------------------------------

    def start(self) -> RevocationService:
        """Begin to watch, fetch and ask; without effect if begun. Returns self."""
        if self._thread is not None:
            return self
        for left in (self._asking, self._following, self._probing, self._pokes):  # of the time before a ``close``
            left.clear()
        self._loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(1, "fastsec_crl")
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="fastsec_revocation", daemon=True)
        self._thread.start()
        self.known.executor = self._place
        return self

    def close(self) -> None:
        """End. Whoever waits for an answer goes on without."""
        thread, loop = self._thread, self._loop
        self._thread = None
        self.known.executor = None
        if thread is None or loop is None:
            return
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(_CLOSING)

    def __enter__(self) -> RevocationService:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.call_soon(self._begin)
        try:
            loop.run_forever()
        finally:
            for _ in range(_ROUNDS):  # what was handed over at the last moment begins only now
                tasks = asyncio.all_tasks(loop)
                for task in tasks:
                    task.cancel()
                with suppress(Exception):
                    loop.run_until_complete(asyncio.gather(_turn(), *tasks, return_exceptions=True))
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            loop.close()

    def _begin(self) -> None:
        self._spawn(self._watch_files())
        for url in self.known.policy.lists:
            self._follow(url)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def configure(self, policy: RevocationPolicy, files: Iterable[StrPath] | None = None) -> None:
        """Another policy and other files from now on; what is known stays. The files are read at once.

        Raises: ConfigError for a file that cannot be used; then nothing has changed.
        """
        wanted = self._files if files is None else tuple(dict.fromkeys(Path(file) for file in files))
        read = [(file, _stamp(file), self.lists_of(file)) for file in wanted]
        self.known.policy = policy
        changed = False
        for file, stamp, lists in read:
            self._stamps[file] = stamp
            changed |= self.known.replace(str(file), lists)
        for file in set(self._files) - set(wanted):
            self.known.drop(str(file))
        self._files = wanted
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._reconfigured, changed)

    def lists_of(self, file: StrPath) -> tuple[RevocationList, ...]:
        """The CRLs in a file, which is read only if it has changed since it was last; ConfigError if it is unusable."""
        path = Path(file)
        stamp = _stamp(path)
        kept = self.known.source(str(path))
        return kept if kept and stamp and stamp == self._stamps.get(path) else read_lists(path)

    def _reconfigured(self, changed: bool) -> None:
        for url in self.known.policy.lists:
            if url not in self._following:
                self._follow(url)
        for url in set(self._following) - set(self.known.policy.lists):
            if not self.known.policy.allows(url):
                self._following.pop(url).cancel()
                self.known.drop(url)
        self.refresh()
        if changed:
            self._changed()

    def refresh(self) -> None:
        """Look at all files and URLs again now, from any thread."""
        loop = self._loop
        if loop is not None and self._thread is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._poke)

    def _poke(self) -> None:
        for poke in tuple(self._pokes.values()):
            poke.set()

    # --- for those who want to know ---------------------------------------------------------------------------------

    def status(self, certificate: bytes, issuer: bytes) -> Status:
        """What is known of a certificate (DER) whose signature by ``issuer`` (DER) has been verified. Never waits.

        PeerError: one of the two cannot be read.
        """
        return self._status(Certificate(certificate, ca=True), Certificate(issuer, ca=True))[0]

    def _status(
        self, subject: Certificate, issuer: Certificate, *, final: bool = False
    ) -> tuple[Status, tuple[Question, ...]]:
        try:
            found = self.known.judge(subject, (issuer,), now().utc_ms, may_ask=not final)
        except HandshakeError as error:
            for event in error.also:
                reason = dict(event.params).get("CRLReason")
                if error.check == "revoked" and reason is not None:
                    return Status(reason, error.also), ()
            return Status(None, error.also, refused=True), ()
        return Status(None, found.findings, pending=bool(found.questions)), found.questions

    async def ask(self, certificate: bytes, issuer: bytes) -> Status:
        """As ``status``, after asking those who may know; at most ``RevocationPolicy.timeout`` seconds later."""
        subject, authority = Certificate(certificate, ca=True), Certificate(issuer, ca=True)
        status, questions = self._status(subject, authority)
        if questions:
            await asyncio.wrap_future(self._asked(questions))
            status, _ = self._status(subject, authority, final=True)
        return status

    def ask_blocking(self, certificate: bytes, issuer: bytes) -> Status:
        """As ``ask``, for a worker thread."""
        subject, authority = Certificate(certificate, ca=True), Certificate(issuer, ca=True)
        status, questions = self._status(subject, authority)
        if questions:
            with suppress(TimeoutError):
                self._asked(questions).result(self.known.policy.timeout + 1)
            status, _ = self._status(subject, authority, final=True)
        return status

    def _asked(self, questions: Sequence[Question]) -> Future[None]:
        return self._place(questions).submit(lambda: None)

    def _place(self, questions: Sequence[Question]) -> Place:
        return Place(self, tuple(questions))

    # --- questions ----------------------------------------------------------------------------------------------------

    def submit(self, questions: tuple[Question, ...], future: Future[None], work: Callable[[], None]) -> None:
        """Run ``work`` when the questions have been answered or the time is over; in the service's thread."""

        def done() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    work()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(None)

        async def wait() -> None:
            try:
                await self._answers(questions)
            finally:
                done()

        loop = self._loop
        try:
            if loop is None or self._thread is None:
                raise RuntimeError
            loop.call_soon_threadsafe(lambda: self._spawn(wait()))
        except RuntimeError:  # the service has ended
            done()

    async def _answers(self, questions: tuple[Question, ...]) -> None:
        tasks = [task for question in questions if (task := self._asked_once(question)) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self.known.policy.timeout)

    def _asked_once(self, question: Question) -> asyncio.Task[None] | None:
        """The task that finds the answer, shared by all who want it; None if there are too many."""
        if question.kind == "crl":
            return next((task for url in question.urls if (task := self._first_fetch(url)) is not None), None)
        key = question.key
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= limits.OUR_OCSP_AT_ONCE:
                self._failed(question, Revocation.NO_OCSP, "too many questions are under way", 1000)
                return None
            task = self._asking[key] = self._spawn(self._ask(question))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    def _failed(self, question: Question, number: int, reason: str, pause_ms: float, also: int = 0) -> None:
        self.known.failed(question.key, Failure(number, reason, now().utc_ms + int(pause_ms), also))

    async def _ask(self, question: Question) -> None:
        """Ask one responder after the other within the time for all of them."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.known.policy.timeout
        told: tuple[int, str, float, int] = (Revocation.NO_OCSP, "the responder was not reached lately", 1000, 0)
        for index, url in enumerate(question.urls):
            utc_ms = now().utc_ms
            # A server that has failed is tried by one question at a time; the others do not wait for it.
            if self.known.is_resting(url, utc_ms) or (self.known.has_failed(url) and url in self._probing):
                continue
            self._probing.add(url)
            seconds = (end - loop.time()) / (len(question.urls) - index)
            try:
                await self._ask_at(question, url, seconds)
                return
            except TimeoutError:
                told = (Revocation.OCSP_TIMEOUT, f"no answer within {seconds:.1f} s", self._rest(url), 0)
            except FetchError as error:
                told = (Revocation.NO_OCSP, str(error), self._rest(url), 0)
            except OcspError as error:
                pause = self._rest(url) if error.busy else limits.OUR_REVOCATION_REST * 1000
                told = (error.number, str(error), pause, error.also)
                if not error.busy:
                    self.known.awake(url)
            finally:
                self._probing.discard(url)
        meter.REVOCATION.answers_failed += 1
        self._failed(question, *told)

    def _rest(self, url: str) -> float:
        return self.known.rest(url, now().utc_ms, random.uniform(0.75, 1.25))

    def _allowed(self, url: str) -> Callable[[str], bool]:
        """Which addresses a URL may lead to: a configured one, or a host that is listed by name, to any."""
        policy = self.known.policy
        if url in policy.responders or url in policy.lists:
            return lambda address: True
        host, port = web_address(url) or ("", 0)
        named = any(entry.lower() in (host, f"{host}:{port}", f"[{host}]:{port}") for entry in policy.hosts)
        return (lambda address: True) if named else is_public

    async def _ask_at(self, question: Question, url: str, seconds: float) -> None:
        policy = self.known.policy
        wanted = cert_id(question.subject.serial, question.issuer, policy.cert_id)
        nonce = None if policy.nonce == "off" else random_bytes(NONCE_OCTETS)
        found = await fetch(
            url,
            seconds=seconds,
            maximum=limits.OUR_OCSP_RESPONSE_MAX,
            body=make_request(wanted, nonce),
            content_type="application/ocsp-request",
            allowed=self._allowed(url),
        )
        utc_ms = now().utc_ms
        answer, delegate = take_response(
            found.body, wanted, question.issuer, nonce, utc_ms, nonce_required=policy.nonce == "required"
        )
        if delegate is not None and not delegate.no_check and self.known.is_listed(delegate, question.issuer, utc_ms):
            raise OcspError(Revocation.OCSP_SIGNATURE, "the responder's certificate is revoked")
        self.known.awake(url)
        meter.REVOCATION.answers += 1
        if self.known.answered(question.key, answer):
            self._changed()

    # --- lists --------------------------------------------------------------------------------------------------------

    def _follow(self, url: str) -> asyncio.Event:
        """Keep the list at ``url`` up to date from now on; the event is set after the first attempt."""
        first = asyncio.Event()
        self._following[url] = self._spawn(self._keep(url, first))
        return first

    def _first_fetch(self, url: str) -> asyncio.Task[None] | None:
        """Begin to follow a distribution point that a verified certificate names; done after the first attempt."""
        key = ("crl", url)
        task = self._asking.get(key)
        if task is None and url not in self._following:
            if len(self._following) >= limits.OUR_CRL_POINTS + len(self.known.policy.lists):
                self._rest(url)
                return None
            first = self._follow(url)

            async def wait() -> None:
                await first.wait()

            task = self._asking[key] = self._spawn(wait())
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _keep(self, url: str, first: asyncio.Event) -> None:
        poke = self._pokes[url] = asyncio.Event()
        try:
            while True:
                poke.clear()
                try:
                    await self._fetch_list(url)
                    self.known.awake(url)
                    meter.REVOCATION.lists_fetched += 1
                    pause = self._until_next(url)
                except (FetchError, OSError, PeerError, RuntimeError) as error:
                    why = str(error) or "no answer in time"
                    _log.warning("the CRL at %s is not to be had: %s", url, why)
                    meter.REVOCATION.lists_failed += 1
                    pause = self._rest(url) / 1000
                finally:
                    first.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(poke.wait(), pause)
        finally:
            self._pokes.pop(url, None)

    async def _fetch_list(self, url: str) -> None:
        found = await fetch(
            url,
            seconds=limits.OUR_CRL_FETCH,
            maximum=limits.OUR_CRL_MAX,
            headers=self._fetched.get(url, ()),
            allowed=self._allowed(url),
        )
        if found.status == 304:
            return
        if await asyncio.get_running_loop().run_in_executor(self._pool, self._take_list, url, found.body):
            self._changed()
        self._fetched[url] = tuple(
            (wanted, value)
            for name, wanted in (("etag", "If-None-Match"), ("last-modified", "If-Modified-Since"))
            if (value := found.headers.get(name, "")) and value.isascii() and value.isprintable()
        )

    def _take_list(self, url: str, octets: bytes) -> bool:
        """In a thread: parse, verify and index; without the GIL where the list is large."""
        crl = RevocationList(octets)
        issuers = self.known.issuers(crl.issuer)
        changed = self.known.replace(url, (crl,), only_genuine=bool(issuers))
        if issuers and not crl.was_genuine:
            raise FetchError("its signature does not verify")
        if not changed and not any(crl.same_as(kept) for kept in self.known.source(url)):
            raise FetchError("it is older than the one before")
        return changed

    def _until_next(self, url: str) -> float:
        """Seconds to the next look at a list: before it runs out, once a day at least, not all at one moment."""
        ends = [crl.next_update_ms for crl in self.known.source(url) if crl.next_update_ms is not None]
        left = min(ends, default=2**60) / 1000 - now().utc_ms / 1000
        least = limits.OUR_CRL_REFRESH_MIN if left > 0 else limits.OUR_CRL_REFRESH_EXPIRED
        return max(least, min(0.8 * left, limits.OUR_CRL_REFRESH)) * random.uniform(0.8, 1.0)

    # --- files --------------------------------------------------------------------------------------------------------

    async def _watch_files(self) -> None:
        loop = asyncio.get_running_loop()
        poke = self._pokes[""] = asyncio.Event()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(poke.wait(), self._watch)
            poke.clear()
            changed = await loop.run_in_executor(self._pool, self._look_at_files)
            if changed:
                self._changed()

    def _look_at_files(self) -> bool:
        changed = False
        for file, before in tuple(self._stamps.items()):
            stamp = _stamp(file)
            if stamp == before or file not in self._files:
                continue
            self._stamps[file] = stamp
            try:
                changed |= self.known.replace(str(file), read_lists(file))
            except ConfigError as error:
                _log.warning("the CRL file has changed and cannot be used, the list from before stays: %s", error)
        return changed

    def _changed(self) -> None:
        recheck_all()
        for listener in tuple(self.listeners):
            listener()


async def _turn() -> None:
    await asyncio.sleep(0)


def _forked() -> None:
    """A forked process has no thread of ours: there nobody is asked, and nobody waits."""
    for service in tuple(meter.SERVICES):
        service.known.executor = service._thread = service._loop = None


os.register_at_fork(after_in_child=_forked)


class Place:
    """An executor whose jobs begin when questions have been answered."""

    __slots__ = ("_questions", "_service")
    waits_for: Final = "revocation"

    def __init__(self, service: RevocationService, questions: tuple[Question, ...]) -> None:
        self._service = service
        self._questions = questions

    def submit(self, work: Callable[..., Any], /, *args: Any) -> Future[None]:
        """Run ``work(*args)`` then; it should be short."""
        future: Future[None] = Future()

        def run() -> None:
            work(*args)

        self._service.submit(self._questions, future, run)
        return future


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_lists(file: Path) -> tuple[RevocationList, ...]:
    """The CRLs of a file, parsed; ConfigError if it cannot be used. However large it is, other threads go on."""
    try:
        return tuple(RevocationList(der) for der in load_crls(file))
    except PeerError as error:
        raise ConfigError(f"{file}: a CRL is not usable: {error}") from error
