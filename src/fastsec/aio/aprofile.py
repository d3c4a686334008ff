"""Associations of the A-security-profile of 2007: MMS in the clear, opened by authentication of both sides.

``AProfileAssociation`` is a plain association whose AARQ and AARE carry a signed time each; signing and judging happen
in jobs. From the outside it is as any other, so ``Connection`` runs it. The rules are in ``fastsec.aprofile``.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from fastsec import limits
from fastsec.aio.connection import Connection
from fastsec.aio.events import default_sink
from fastsec.aio.meter import meter_or_default
from fastsec.aio.plain import DECIDING, ENDED, OPEN, READY, WAITING, PlainAssociation
from fastsec.aio.replay_file import ReplayFile
from fastsec.aprofile import AProfileMemory, Taken, events_of, key_name, make_value, settle, subject_text, take_value
from fastsec.envs.osi import OsiParams
from fastsec.errors import Aborted, ConfigError, FastsecError, LimitReached, PeerError
from fastsec.events import named
from fastsec.instant import now as present
from fastsec.outputs import AssociateIndication, Established, Job, Raised, Run, Send
from fastsec.secpdu.fields import Carrier

if TYPE_CHECKING:
    from fastsec.aio.handler import AssociationHandler
    from fastsec.aio.meter import Meter
    from fastsec.aio.runtime import Runtime
    from fastsec.aio.wiring import Keeper
    from fastsec.aprofile import AProfileConfig
    from fastsec.instant import Instant
    from fastsec.outputs import Disposition
    from fastsec.pki.identity import OsiName
    from fastsec.pki.path import TrustStore, VerifiedPeer

EXAMINING: Final = "being examined"  # server: the peer's value is being judged
ANSWERING: Final = "being answered"  # server: the own value is being signed
JUDGING: Final = "being judged"  # client: the peer's value is being judged
_OPENING: Final = frozenset((WAITING, EXAMINING, DECIDING, ANSWERING, JUDGING))
_UNAUTHENTICATED: Final = frozenset(("AUTH_MECH_NOT_USED_RQ", "AUTH_MECH_NOT_USED_ABT"))


class AProfileShared:
    """What all associations of one own key share: times seen and used, and their file."""

    __slots__ = ("file", "memory")

    def __init__(self) -> None:
        self.memory = AProfileMemory(present().utc_ms)
        self.file: ReplayFile | None = None

    def keep_in(self, path: str, name: str) -> None:
        """Keep the memory in a file; ConfigError if it cannot be used, or another one is in use."""
        if self.file is None:
            self.file = ReplayFile(path, self.memory.replay, name)
        elif self.file.path != path:
            raise ConfigError(
                f"replay file {path}: this key has {self.file.path} already; give all its configurations the same one"
            )

    def keep(self) -> None:
        """Write down what is not yet."""
        with contextlib.suppress(LimitReached):  # logged; it is tried again
            self.memory.replay.flush()


_shared: dict[str, AProfileShared] = {}


def shared_of(config: AProfileConfig) -> AProfileShared:
    """The memory of the key of ``config``, the same for every configuration with it.

    Errors:
        ConfigError: the replay file cannot be used.
    """
    name = key_name(config.credential.key)
    shared = _shared.get(name) or AProfileShared()
    if config.replay_file is not None:
        shared.keep_in(config.replay_file, name)
    _shared[name] = shared
    return shared


def forget_a_profile() -> None:
    """Drop all memories and close their files: for tests, and at the end of a process."""
    for shared in _shared.values():
        if shared.file is not None:
            shared.file.close()
    _shared.clear()


def _forget_copies() -> None:
    """In a forked process: what was opened belongs to the other one, which goes on with it."""
    for shared in _shared.values():
        if shared.file is not None:
            shared.file.abandon()
    _shared.clear()


atexit.register(forget_a_profile)
os.register_at_fork(after_in_child=_forget_copies)


class AProfileEndpoint:
    """What the associations of one configuration are made of.

    Attributes:
        config: as given.
        shared: memory of the own key.
        fresh_trust: anchors and CRLs that have come since, or None.
    """

    __slots__ = ("__weakref__", "config", "fresh_trust", "shared")

    def __init__(self, config: AProfileConfig) -> None:
        self.config = config
        self.shared = shared_of(config)
        self.fresh_trust: TrustStore | None = None

    @property
    def trust(self) -> TrustStore:
        """Whom to believe now."""
        return self.fresh_trust or self.config.trust


class AProfileAssociation(PlainAssociation):
    """One association; sans-I/O as ``PlainAssociation``.

    Arguments:
        client: the initiator of the association.
        endpoint: configuration and memory.

    Attributes:
        peer: who proved itself, once it has.
    """

    __slots__ = ("__weakref__", "_appl_data", "_endpoint", "_proof", "_soon", "_source", "_wakeup", "busy", "peer")

    def __init__(self, client: bool, endpoint: AProfileEndpoint) -> None:
        super().__init__(client)
        self.busy = False
        self.peer: VerifiedPeer | None = None
        self._wakeup: Callable[[], None] | None = None
        self._endpoint = endpoint
        self._appl_data = b""
        self._proof: bytes | None = None
        self._soon = False
        self._source = ""

    # --- calls --------------------------------------------------------------------------------------------------------

    def start(self, appl_data: bytes, now: Instant) -> None:
        """Client: sign the time, then ask for the association. LimitReached: no own time is left for now."""
        self._need(READY)
        config = self._endpoint.config
        time = self._endpoint.shared.memory.request_time(now.utc_ms, config.time)
        self._state = WAITING
        self._appl_data = appl_data
        self.deadline = now.mono_ms + limits.OUR_AARQ_TO_AARE * 1000
        self._sign(time, self._request_signed)

    def accept(self, appl_data: bytes, now: Instant) -> None:
        """Server: sign the time, then accept."""
        self._need(DECIDING)
        config, peer = self._endpoint.config, self.peer
        key = key_name(peer.certificate.public_key) if peer is not None else ""
        try:
            time = self._endpoint.shared.memory.response_time(key, now.utc_ms, config.time)
        except LimitReached as limit:
            self._outputs.append(Send(Carrier.ASSOCIATE_RSP, None, "rejected-transient"))
            self._end(limit)
            return
        self._state = ANSWERING
        self._appl_data = appl_data
        self._sign(time, self._response_signed)

    def recheck(self, now: Instant) -> None:
        """What is known about revocation has changed: look at the peer's certificate again, by ``deadline``."""
        if self._state == OPEN:
            self.deadline = now.mono_ms
        elif self._state in _OPENING:
            self._soon = True

    def _look_again(self, peer: VerifiedPeer, now: Instant) -> None:
        """Whether the peer's certificate is valid and not revoked; the association ends if it is not."""
        self.deadline = now.mono_ms + limits.OUR_RECHECK_INTERVAL * 1000
        trust = self._endpoint.trust
        self._run(lambda: trust.recheck(peer, now.utc_ms, may_ask=True), partial(self._rechecked, trust))

    def trust_renewed(self, trust: TrustStore, now: Instant) -> None:
        """From now on believe ``trust``, and look again at the peer."""
        self._endpoint.fresh_trust = trust
        self.recheck(now)
        if self._wakeup is not None:
            self._wakeup()

    # --- what the peer does -------------------------------------------------------------------------------------------

    def on_wakeup(self, wakeup: Callable[[], None]) -> None:
        """What to call when trust was renewed."""
        self._wakeup = wakeup

    def prove(self, proof: bytes, source: str) -> None:
        """The MMS-Authentication-value of the PDU that ``receive`` gets next, and the address it came from."""
        self._proof = proof
        self._source = source

    def receive(
        self,
        carrier: Carrier,
        pdu: bytes | None,
        now: Instant,
        *,
        calling: OsiName | None = None,
        responding: OsiName | None = None,
        source: str = "",
        disposition: Disposition = "",
    ) -> None:
        """As the plain association's; AARQ and AARE are judged first."""
        state = self._state
        if carrier is Carrier.ASSOCIATE_REQ and state == READY and not self.client:
            self.deadline = now.mono_ms + limits.OUR_AARQ_TO_AARE * 1000
            self._examine(EXAMINING, pdu, self._request_judged, now)
        elif carrier is Carrier.ASSOCIATE_RSP and state == WAITING:
            self._examine(JUDGING, pdu, self._response_judged, now)
        else:
            if carrier is Carrier.ABORT and self.client and state in _OPENING:
                self._raise("COMM_SA_ESTABLISHMENT_FAIL", reason="aborted by the peer")
            super().receive(carrier, pdu, now)

    def refused(self, appl_data: bytes | None, transient: bool, reason: str) -> None:
        """Client: the server refused the association."""
        if self._state != ENDED:
            self._raise("COMM_SA_ESTABLISHMENT_FAIL", reason=reason)
        super().refused(appl_data, transient, reason)

    def environment_fault(self, mnemonic: str, now: Instant, *, reason: str = "", source: str = "") -> None:
        """The peer broke a rule of the OSI stack, or does not authenticate itself at all."""
        if self._state == ENDED:
            return
        self._source = self._source or source
        self._raise(mnemonic, reason=reason)
        if mnemonic in _UNAUTHENTICATED:
            self._raise("COMM_PEER_AUTHENTICATION_FAIL", check="mechanism", reason=reason)
        super().environment_fault(mnemonic, now)

    def tick(self, now: Instant) -> None:
        """The deadline may have come; that of an open association is the next look at the peer's certificate."""
        if self._state != OPEN or self.peer is None:
            super().tick(now)
        elif self.deadline is not None and now.mono_ms >= self.deadline:
            self._look_again(self.peer, now)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def job_done(self, job: Job, now: Instant) -> None:
        """A job has ended; what it found is acted on unless the association has ended meanwhile."""
        then, job.then = job.then, None
        if then is not None:
            then(job, now)

    def _run(self, work: Callable[[], Any], then: Callable[[Job, Instant], None], *, signs: bool = False) -> None:
        signer = self._endpoint.config.credential.signer
        self._outputs.append(Run(Job(work, then, getattr(signer, "executor", None) if signs else None)))

    def _sign(self, time: str, then: Callable[[Job, Instant], None]) -> None:
        config = self._endpoint.config
        self._run(lambda: make_value(config, time), then, signs=True)

    def _examine(self, state: str, pdu: bytes | None, then: Callable[[Job, Instant], None], now: Instant) -> None:
        """Judge the peer's value in a job; later PDUs wait."""
        config, trust, proof = self._endpoint.config, self._endpoint.trust, self._proof
        self._proof = None
        self._state = state
        self._appl_data = pdu or b""
        try:
            self._endpoint.shared.memory.check_new(proof or b"")
        except PeerError as fault:
            self._refuse(fault)
            return
        self.busy = True
        self._run(lambda: take_value(proof or b"", config, trust, now.utc_ms), partial(self._asked_first, trust, then))

    def _asked_first(self, trust: TrustStore, then: Callable[[Job, Instant], None], job: Job, now: Instant) -> None:
        """Where the verdict about the peer's certificates needs answers of responders, have them asked before
        ``then``. The job waits with the responders and takes no worker's time meanwhile."""
        taken = job.result
        if job.error is not None or not taken.peer.questions:
            then(job, now)
        else:
            place = trust.revocation.place(taken.peer.questions)
            self._outputs.append(Run(Job(lambda: settle(taken, trust, now.utc_ms), then, place)))

    def _request_signed(self, job: Job, now: Instant) -> None:
        if self._state == WAITING and self._signed(job):
            self._outputs.append(Send(Carrier.ASSOCIATE_REQ, self._appl_data, proof=job.result))

    def _response_signed(self, job: Job, now: Instant) -> None:
        if self._state == ANSWERING and self._signed(job):
            self._outputs.append(Send(Carrier.ASSOCIATE_RSP, self._appl_data, "accepted", job.result))
            self._authenticated(b"", now)

    def _signed(self, job: Job) -> bool:
        if job.error is None:
            return True
        self._outputs.append(Send(Carrier.ABORT, None))
        words = str(job.error) if isinstance(job.error, FastsecError) else type(job.error).__name__
        self._end(Aborted("local", None, f"the own signer failed: {words}"))
        return False

    def _request_judged(self, job: Job, now: Instant) -> None:
        if self._judged(EXAMINING, job, now):
            self._state = DECIDING
            self._outputs.append(AssociateIndication(self._appl_data, self.peer))

    def _response_judged(self, job: Job, now: Instant) -> None:
        if self._judged(JUDGING, job, now):
            self._authenticated(self._appl_data, now)

    def _judged(self, state: str, job: Job, now: Instant) -> bool:
        """Whether the peer has proved itself, replay included; else the association ends by P-ABORT."""
        self.busy = False
        if self._state != state:
            return False
        fault: FastsecError
        if job.error is None:
            taken: Taken = job.result
            try:
                self._endpoint.shared.memory.remember(taken, now.utc_ms)
            except (PeerError, LimitReached) as error:
                fault = error
            else:
                self.peer = taken.peer
                for finding in taken.peer.findings:
                    self._outputs.append(Raised(replace(finding, peer=self._peer_text)))
                return True
        elif isinstance(job.error, PeerError):
            fault = job.error
        else:
            fault = Aborted("local", None, f"internal error ({type(job.error).__name__})")
        self._refuse(fault)
        return False

    def _refuse(self, fault: FastsecError) -> None:
        """The peer has not proved itself: P-ABORT."""
        if isinstance(fault, PeerError):
            self._outputs += [Raised(event) for event in events_of(fault, self._source)]
        self._outputs.append(Send(Carrier.ABORT, None, "provider-abort"))
        self._end(fault)

    def _authenticated(self, appl_data: bytes, now: Instant) -> None:
        self._state = OPEN
        self._appl_data = b""
        # Something may have become known while the peer was judged.
        self.deadline = now.mono_ms + (0 if self._soon else limits.OUR_RECHECK_INTERVAL * 1000)
        self._outputs.append(Established(appl_data, self.peer, True))

    def _rechecked(self, trust: TrustStore, job: Job, now: Instant) -> None:
        if self._state == ENDED:
            return
        if job.error is None and job.result.questions:
            peer = job.result
            place = trust.revocation.place(peer.questions)
            work = partial(trust.settle, peer, now.utc_ms, establishing=False)
            self._outputs.append(Run(Job(work, partial(self._rechecked, trust), place)))
        elif isinstance(job.error, PeerError):
            self._outputs += [Raised(event) for event in events_of(job.error, self._peer_text)]
            self._outputs.append(Send(Carrier.ABORT, None))
            self._end(job.error)
        elif job.error is None:
            before = self.peer.findings if self.peer is not None else ()
            self.peer = job.result
            for finding in job.result.findings:
                if finding not in before:
                    self._outputs.append(Raised(replace(finding, peer=self._peer_text)))

    def _end(self, error: FastsecError | None) -> None:
        super()._end(error)
        self._wakeup = None

    # --- events -------------------------------------------------------------------------------------------------------

    @property
    def _peer_text(self) -> str:
        return subject_text(self.peer.certificate.subject) if self.peer is not None else self._source

    def _raise(self, mnemonic: str, **params: object) -> None:
        self._outputs.append(Raised(named(mnemonic, peer=self._peer_text, **params)))


class AProfileMaker:
    """Makes connections of the A-profile.

    Arguments:
        client: association role.
        osi: addresses, if others than usual.
        tls: whether there is TLS below.
    Errors:
        ConfigError: no TLS, unusable parameters or replay file.
    """

    def __init__(
        self,
        config: AProfileConfig,
        *,
        client: bool,
        osi: OsiParams | None,
        initiate: bytes,
        tls: bool,
        meter: Meter | None = None,
    ) -> None:
        if not tls and not config.without_tls:
            raise ConfigError(
                "the A-profile without TLS below is not secure (62351-4): give tls, or without_tls = True for a test"
            )
        if osi is None:
            osi = OsiParams(security=False)
        elif osi.security or osi.password is not None:
            raise ConfigError("these OsiParams are not for the A-profile: security=False, no password")
        self.meter = meter_or_default(meter)
        self._params = replace(osi, a_profile=True, a_profile_carrier=config.carrier)
        self._client = client
        self._initiate = initiate
        self._endpoint = AProfileEndpoint(config)
        self._sink = self.meter.counting(config.sink or default_sink)
        self._made: WeakSet[AProfileAssociation] = WeakSet()

    def __call__(self, runtime: Runtime, handler: AssociationHandler, keeper: Keeper | None) -> Connection:
        """A new connection."""
        engine = AProfileAssociation(self._client, self._endpoint)
        self._made.add(engine)
        return Connection(
            runtime,
            handler,
            engine,
            self._params,
            client=self._client,
            initiate=self._initiate,
            sink=self._sink,
            keep=self._endpoint.shared.keep,
            keeper=keeper,
            meter=self.meter,
        )

    def take_over(self, older: AProfileMaker) -> None:
        """Look again at the peers of all that ``older`` made, with the anchors and CRLs of this one."""
        if older is self:
            return
        self._made |= older._made
        for engine in list(older._made):
            engine.trust_renewed(self._endpoint.trust, present())
