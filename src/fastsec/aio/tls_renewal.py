"""A TLS connection that lasts: looking at its peer again, and authenticating anew with fresh keys (62351-3).

Renegotiation is not within reach of Python's ``ssl``, and TLS 1.3 has none. So two fastsec ends, which know each other
by an ALPN token, end the TLS session in both directions and begin another one on the same TCP connection:

    TLS client                                    TLS server
    (ClientHello is made in a worker thread; data flow)
    close_notify | ClientHello  ───────────────▶  still sends data of the old session
    reads data of the old session      ◀───────   close_notify | ServerHello … Finished
    Certificate … Finished | data  ────────────▶  data

Each direction is silent for about one round trip and the public-key work, during which data to be sent wait here;
nothing is lost or overtaken. The server may ask for it: close_notify | HelloRequest, a message that means nothing in a
session that is over. Where nothing but the end of the TCP connection follows a close_notify it is what it always was.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final

from fastsec.aio.runtime import Runtime
from fastsec.aio.timers import mono_ms
from fastsec.aio.tls_checks import CertificateRefused, PeerFacts
from fastsec.aio.tls_hello import RECORD_MAX, Hello, read_hello
from fastsec.aio.tls_profile import REHANDSHAKE
from fastsec.errors import Aborted, FastsecError
from fastsec.events import SecurityEvent, named

if TYPE_CHECKING:
    from fastsec.aio.tls_config import TLSConfig

# States of the connection.
NEW: Final = 0
HANDSHAKE: Final = 1
CLOSED: Final = 2
OPEN: Final = 3
RENEWING: Final = 4

HELLO_REQUEST: Final = bytes.fromhex("160303000400000000")
QUEUE_HIGH: Final = 64 * 1024  # octets waiting for the new session; above, the protocol above is asked to pause
RENEWAL_TIME: Final = 60.0  # seconds for the peer to begin and finish
FOLLOW_TIME: Final = 10.0  # seconds between a close_notify and what follows it
GAP = 30.0  # seconds between two handshakes that the peer begins on one connection ...
HURRIED_MAX: Final = 3  # ... but for so many in a row
EARLIER: Final = (0.75, 0.9)  # the client begins at this part of the interval, so that not all do so together
SPREAD: Final = 30.0  # seconds over which connections are spread that all have to begin anew


class OutOfTurn(FastsecError):
    """The peer sent what does not belong there."""


class Attempt:
    """One TLS handshake under way: two BIOs, and the object between them once a worker thread has made it."""

    __slots__ = ("config", "connection", "hello", "incoming", "offered", "outgoing", "server_side", "session")

    def __init__(self, config: TLSConfig, *, server_side: bool) -> None:
        self.config = config
        self.server_side = server_side
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.connection: ssl.SSLObject | None = None
        self.session: ssl.SSLSession | None = None
        self.offered: str | None = None
        self.hello: bytearray | None = bytearray() if server_side else None

    def feed(self, data: bytes) -> None:
        """Octets of the peer."""
        self.incoming.write(data)
        hello = self.hello
        if hello is not None and len(hello) < RECORD_MAX:
            hello += data[: RECORD_MAX - len(hello)]

    def read_hello(self) -> Hello | None:
        """The ClientHello, server side."""
        return read_hello(bytes(self.hello)) if self.hello else None


class Step:
    """One step of a handshake, run in a worker thread; at its end the peer is checked.

    Attributes:
        executor: where to wait until it is known whether the certificate is revoked; then ``run`` checks once more.
    """

    __slots__ = ("_before", "_peer", "_version", "attempt", "events", "executor", "facts")

    def __init__(
        self, attempt: Attempt, peer: str, before: PeerFacts | None = None, version: str | None = None
    ) -> None:
        self.attempt = attempt
        self._peer = peer
        self._before = before
        self._version = version
        self.executor: Executor | None = None
        self.facts: PeerFacts | None = None
        self.events: tuple[SecurityEvent, ...] = ()

    def run(self) -> None:
        """Take the step. SSLWantReadError: the peer's next octets are needed."""
        attempt, config = self.attempt, self.attempt.config
        try:
            if attempt.connection is None:
                if attempt.server_side:
                    attempt.connection = config.server_object(attempt.incoming, attempt.outgoing)
                else:
                    attempt.connection = config.client_object(attempt.incoming, attempt.outgoing, attempt.session)
            waited = self.executor is not None
            if not waited:
                attempt.connection.do_handshake()
            self.facts, events, self.executor = config.check_peer(
                attempt.connection,
                time.time(),
                peer=self._peer,
                hello=attempt.read_hello(),
                offered=attempt.offered,
                before=self._before,
                version_before=self._version,
                final=waited,
            )
            self.events = tuple(events)
        except ssl.SSLWantReadError:
            raise
        except Exception as error:
            self.executor = None
            self.events = tuple(config.failed(error, attempt.read_hello(), self._peer, server_side=attempt.server_side))
            raise


class Look:
    """A look at the certificate of an open connection's peer, in a worker thread."""

    __slots__ = ("_config", "_facts", "_peer", "events", "executor")

    def __init__(self, config: TLSConfig, facts: PeerFacts, peer: str) -> None:
        self._config = config
        self._facts = facts
        self._peer = peer
        self.executor: Executor | None = None
        self.events: tuple[SecurityEvent, ...] = ()

    def run(self) -> None:
        """CertificateRefused if it is not acceptable any more."""
        waited = self.executor is not None
        events, self.executor = self._config.judge(
            self._facts, time.time(), self._peer, establishing=False, final=waited
        )
        self.events = tuple(events)


class Renewal:
    """A new handshake on an open connection.

    Attributes:
        attempt: the new session; None until it begins.
        deadline: monotonic milliseconds.
        ready: our first octets of it are made (client), or it may be asked for (server).
        sent: our close_notify is out: what is to be sent waits in ``queue``.
        got: the peer's close_notify has come: what comes belongs to the new session.
        fed: something has come after it.
        asked: client: the server has asked for it.
        running: a worker thread has ``attempt``.
        head: client: octets that may become a HelloRequest.
        queue, queued: data to be sent, and how many octets.
        full: the protocol above has been asked to pause.
    """

    __slots__ = (
        "asked", "attempt", "deadline", "fed", "full", "got", "head", "queue", "queued", "ready", "running", "sent",
    )  # fmt: skip

    def __init__(self, deadline: int) -> None:
        self.attempt: Attempt | None = None
        self.deadline = deadline
        self.ready = self.sent = self.got = self.fed = self.asked = self.running = self.full = False
        self.head: bytes | None = b""
        self.queue: list[bytes] = []
        self.queued = 0


class Renewing(asyncio.Protocol, asyncio.Transport):
    """The base of ``TLSLayer``: what keeps a connection young. ``TLSLayer`` fills in what is not implemented."""

    __slots__ = (
        "_address", "_below", "_closing", "_config", "_due", "_ended", "_error", "_first", "_full", "_held", "_hurried",
        "_incoming", "_key", "_look_due", "_outgoing", "_paused", "_peer_facts", "_renewal", "_renewed", "_retiring",
        "_runtime", "_server_side", "_slot", "_ssl", "_state", "_told", "_upper", "_warned", "renewals", "resumed",
    )  # fmt: skip

    _below: asyncio.Transport
    _runtime: Runtime
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    _ssl: ssl.SSLObject

    def __init__(self, upper: asyncio.Protocol, config: TLSConfig, *, server_side: bool, address: str = "") -> None:
        self._upper = upper
        self._config = config
        self._server_side = server_side
        self._address = address  # client: until the session of this handshake is kept
        self._key = address
        self._state = NEW
        self._first: Attempt | None = None
        self._paused = False
        self._full = False  # the transport below is full
        self._ended = False  # close_notify came while the protocol above was paused
        self._told = False  # the protocol above has had connection_lost
        self._closing = ""  # close() or write_eof() was called during a new handshake
        self._held = b""
        self._error: Exception | None = None
        self._peer_facts: PeerFacts | None = None
        self._renewal: Renewal | None = None
        self._slot = 0
        self._due = self._look_due = self._renewed = self._hurried = 0
        self._retiring = False
        self._warned: frozenset[str] = frozenset()
        self.resumed = False
        self.renewals = 0

    # --- filled in by TLSLayer ---------------------------------------------------------------------------------------

    def _peer(self) -> str:
        raise NotImplementedError

    def _take(self, data: bytes) -> None:
        raise NotImplementedError

    def _fail(self, error: BaseException, *, alert: bool = True) -> None:
        raise NotImplementedError

    def _leave(self, error: Exception) -> None:
        raise NotImplementedError

    def _proceed(self) -> None:
        raise NotImplementedError

    def _raise(self, events: tuple[SecurityEvent, ...]) -> None:
        raise NotImplementedError

    # --- the clock ---------------------------------------------------------------------------------------------------

    def _grow_up(self, facts: PeerFacts | None, events: tuple[SecurityEvent, ...]) -> None:
        """A handshake is over: set the dates of the next look and the next handshake."""
        self._config = self._config.current
        self._peer_facts = facts
        self._warned = frozenset(each.mnemonic for each in events)
        now, rules = mono_ms(), self._config.rules
        self._renewed = now
        self._look_due = now + int(rules.recheck * 1000)
        if not self._renewable:
            self._due = now + int(rules.limit * 1000)
        else:
            part = 1.0 if self._server_side else random.uniform(*EARLIER)  # to spread, not to hide
            self._due = now + int(rules.renewal * part * 1000)
        self._retime()

    @property
    def _renewable(self) -> bool:
        return self._ssl.selected_alpn_protocol() == REHANDSHAKE

    def _retime(self) -> None:
        due = min(self._due, self._look_due)
        if self._renewal is not None:
            due = min(due, self._renewal.deadline)
        self._slot = self._runtime.timers.move(self, self._slot, due if self._state >= OPEN else None)

    def timer_expired(self) -> None:
        """A date has come."""
        self._slot = 0
        if self._state < OPEN:
            return
        now = mono_ms()
        if now >= self._look_due:
            self._look_due = now + int(self._config.rules.recheck * 1000)
            self._look()
        renewal = self._renewal
        if renewal is not None:
            if now >= renewal.deadline and not self._overdue(renewal, now):
                return
        elif now >= self._due:
            self._begin_anew(now)
        if self._state >= OPEN:
            self._retime()

    def look_again(self, *, anew: bool, within: float) -> None:
        """See ``tls_config.Open``. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._runtime.loop.call_soon_threadsafe(self._hasten, anew, within)

    def _hasten(self, anew: bool, within: float) -> None:
        if self._state < OPEN:
            return
        self._config = self._config.current
        now = mono_ms()
        self._look_due = min(self._look_due, now + int(random.uniform(0, within) * 1000))
        if anew and self._renewable:
            self._due = min(self._due, now + int(random.uniform(0, min(SPREAD, self._config.rules.renewal)) * 1000))
        self._retime()

    def _work(self, job: Step | Look, done: Callable[[Any, BaseException | None], None], *, urgent: bool) -> None:
        """Run ``job``, a second time if somebody has to be asked about revocation in between."""

        def once(job: Step | Look, error: BaseException | None) -> None:
            if error is None and job.executor is not None:
                self._runtime.jobs.submit(job, done)
            else:
                done(job, error)

        self._runtime.jobs.submit(job, once, urgent=urgent)

    # --- looking again -----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._peer_facts is not None:
            self._work(Look(self._config, self._peer_facts, self._peer()), self._looked, urgent=False)

    def _looked(self, look: Look, error: BaseException | None) -> None:
        if self._state < OPEN:
            return
        if isinstance(error, CertificateRefused):
            self._raise(error.events)
            self._leave(Aborted("provider", None, f"TLS: {error}"))
        elif error is not None:
            self._runtime.loop.call_exception_handler({"message": "checking a TLS peer again", "exception": error})
        else:
            self._raise(tuple(each for each in look.events if each.mnemonic not in self._warned))
            self._warned = frozenset(each.mnemonic for each in look.events)

    # --- beginning ---------------------------------------------------------------------------------------------------

    def _begin_anew(self, now: int) -> None:
        """The date of the next handshake has come."""
        if not self._renewable:
            self._reach_limit(now)
            return
        renewal = self._renewal = Renewal(now + int(RENEWAL_TIME * 1000))
        self._due = now + int(self._config.rules.limit * 1000)
        if self._server_side:
            renewal.ready = True
            self._end_session()
        else:
            self._prepare(renewal)

    def _reach_limit(self, now: int) -> None:
        """A peer that cannot begin anew has been here for as long as it may."""
        rules = self._config.rules
        if self._retiring:  # the orderly end did not come
            self._leave(Aborted("provider", None, "TLS: the time of the session is over"))
            return
        self._raise((named("TLS_NO_RENEG", peer=self._peer(), interval=f"{rules.limit:g} s", policy=rules.at_limit),))
        self._due = now + int((rules.limit if rules.at_limit == "keep" else RENEWAL_TIME) * 1000)
        if rules.at_limit == "end":
            self._retiring = True
            retire = getattr(self._upper, "retire", None)
            if retire is not None:
                retire("the time of the TLS session is over")
            else:
                self._leave(Aborted("provider", None, "TLS: the time of the session is over"))

    def _overdue(self, renewal: Renewal, now: int) -> bool:
        """The peer did not begin or finish in time; whether to wait on."""
        if self._paused and not renewal.fed:  # it cannot: we do not read what it sends
            renewal.deadline = now + int(RENEWAL_TIME * 1000)
            return True
        if renewal.got and not renewal.fed and not renewal.sent:  # an end after all
            self.close()
            return False
        self._raise((named("TLS_NO_RENEG", peer=self._peer(), reason="the new handshake was not finished in time"),))
        self._leave(Aborted("provider", None, "TLS: the new handshake was not finished in time"))
        return False

    def _prepare(self, renewal: Renewal) -> None:
        """Client: make the ClientHello of the new session while data flow on."""
        renewal.attempt = Attempt(self._config, server_side=False)
        renewal.running = True
        self._submit(renewal.attempt, self._prepared)

    def _submit(self, attempt: Attempt, done: Callable[[Any, BaseException | None], None]) -> None:
        self._work(Step(attempt, self._peer(), self._peer_facts, self._ssl.version()), done, urgent=True)

    def _prepared(self, step: Step, error: BaseException | None) -> None:
        renewal = self._renewal
        if self._state < OPEN or renewal is None or renewal.attempt is not step.attempt:
            return
        renewal.running = False
        if not isinstance(error, ssl.SSLWantReadError):
            self._fail(error or OutOfTurn("no handshake"))
            return
        renewal.ready = True
        if self._state == OPEN:
            self._end_session()
        elif renewal.asked:
            self._answer(renewal)
            self._below.resume_reading()

    def _end_session(self) -> None:
        """Send close_notify, and behind it what begins the new session, as soon as all that came has been read."""
        renewal = self._renewal
        if renewal is None or not renewal.ready or self._state != OPEN or self._paused or self._incoming.pending:
            return
        self._state = RENEWING
        self._answer(renewal)

    def _answer(self, renewal: Renewal) -> None:
        """Our close_notify, and behind it what we have of the new session."""
        renewal.sent = True
        octets = self._notify_octets()
        if renewal.attempt is None:
            octets += HELLO_REQUEST
        elif renewal.attempt.outgoing.pending:
            octets += renewal.attempt.outgoing.read()
        self._below.write(octets)

    def _notify_octets(self) -> bytes:
        with contextlib.suppress(ssl.SSLError):  # want-read: the peer's close_notify comes later
            self._ssl.unwrap()
        return self._outgoing.read()

    # --- the peer's close_notify, and what follows it ----------------------------------------------------------------

    def _session_ended(self, rest: bytes) -> bool:
        """close_notify has come, and behind it ``rest``; False if it is the end of the connection."""
        renewal = self._renewal
        if self._state == OPEN:
            if not self._renewable or not self._config.rules.rehandshake:
                return False
            if renewal is None:
                renewal = self._renewal = Renewal(mono_ms() + int(FOLLOW_TIME * 1000))
            self._state = RENEWING
        if renewal is None:
            return False
        renewal.got = True
        self._retime()
        if rest:
            self._feed(renewal, rest)
        return True

    def _feed(self, renewal: Renewal, data: bytes) -> None:
        """Octets of the new session."""
        if renewal.running:  # a thread has the BIOs; nobody who keeps to the rules sends anything now
            self._fail(OutOfTurn("octets out of turn in a new handshake"))
            return
        if not renewal.fed:
            renewal.fed = True
            renewal.deadline = mono_ms() + int(RENEWAL_TIME * 1000)
            self._retime()
            if not renewal.sent and self._hurries():
                return
        if not self._server_side and renewal.head is not None:
            data = renewal.head + data
            if len(data) < len(HELLO_REQUEST) and HELLO_REQUEST.startswith(data):
                renewal.head = data
                return
            renewal.head = None
            asked = data.startswith(HELLO_REQUEST)
            data = data[len(HELLO_REQUEST) :] if asked else data
            if not renewal.sent:
                if not asked or data:
                    self._fail(OutOfTurn("neither an end nor a new session follows close_notify"))
                    return
                renewal.asked = True
                if renewal.attempt is None:
                    self._prepare(renewal)
                elif renewal.ready:
                    self._answer(renewal)
                return
        if not data:
            return
        if renewal.attempt is None:
            renewal.attempt = Attempt(self._config, server_side=True)
        renewal.attempt.feed(data)
        renewal.running = True
        self._below.pause_reading()  # nothing is received while a thread has the BIOs
        self._submit(renewal.attempt, self._stepped_anew)

    def _hurries(self) -> bool:
        """Whether the peer begins anew too often; then the connection has ended."""
        gap = min(GAP, self._config.rules.renewal / 2)
        self._hurried = self._hurried + 1 if mono_ms() - self._renewed < gap * 1000 else 0
        if self._hurried > HURRIED_MAX:
            self._leave(Aborted("provider", None, "TLS: the peer begins new handshakes all the time"))
            return True
        return False

    def _stepped_anew(self, step: Step, error: BaseException | None) -> None:
        renewal = self._renewal
        if self._state != RENEWING or renewal is None:
            return
        renewal.running = False
        attempt = step.attempt
        if isinstance(error, ssl.SSLWantReadError):
            if not renewal.sent:
                self._answer(renewal)
            elif attempt.outgoing.pending:
                self._below.write(attempt.outgoing.read())
            self._below.resume_reading()
            return
        self._raise(step.events)
        if error is not None or attempt.connection is None:
            if not renewal.sent:
                self._answer(renewal)
            else:
                self._outgoing = attempt.outgoing  # an alert, if OpenSSL has left one
            self._fail(error or OutOfTurn("no handshake"), alert=not isinstance(error, CertificateRefused))
            return
        self._ssl, self._incoming, self._outgoing = attempt.connection, attempt.incoming, attempt.outgoing
        self._state, self._renewal = OPEN, None
        self._address = self._key
        self.renewals += 1
        told = getattr(self._upper, "tls_renewed", None)
        if told is not None:
            told()
        self._grow_up(step.facts, step.events)
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())
        if renewal.queue:
            self.write(b"".join(renewal.queue))
        if self._closing:
            (self.close if self._closing == "close" else self.write_eof)()
            return
        if renewal.full and not self._full:
            self._upper.resume_writing()
        if self._paused:
            self._below.pause_reading()
        self._proceed()

    # --- what is to be sent meanwhile --------------------------------------------------------------------------------

    def _queue(self, renewal: Renewal, data: bytes | bytearray | memoryview) -> None:
        renewal.queue.append(bytes(data))
        renewal.queued += len(data)
        if renewal.queued > QUEUE_HIGH and not renewal.full:
            renewal.full = True
            if not self._full:
                self._upper.pause_writing()
