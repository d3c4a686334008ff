"""The machinery below ``Association``: dispatch by the state table, jobs, faults, signed control PDUs, the end.

Nothing here knows the handshake or data transfer; those are the actions that ``data_phase`` and ``association`` add.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from fastsec import limits
from fastsec.control import (
    CARRIER_OF,
    GROUP_OF,
    INPUT_OF,
    Expectation,
    TakenControl,
    make_control,
    take_control,
)
from fastsec.errors import (
    Aborted,
    DecodeError,
    FastsecError,
    HandshakeError,
    LimitReached,
    PeerError,
    SignerError,
    StateError,
)
from fastsec.events import DOMAIN_E2E, event
from fastsec.faults import UNVERIFIED, Group, Verdict, verdict
from fastsec.instant import Instant
from fastsec.keys import key_lines
from fastsec.outputs import Disposition, Ended, Job, KeysChanged, Output, Raised, Run, Send
from fastsec.secpdu.der import decode, decode_client_number, is_osi_diagnostics, kind_of
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import Control
from fastsec.secpdu.timestamp import time_key
from fastsec.state import (
    CLIENT_HANDSHAKE,
    DATA_STATES,
    OVER,
    SERVER_HANDSHAKE,
    TABLE,
    TERMINAL_PDUS,
    Fault,
    Input,
    Rule,
    State,
    fault_of,
)

if TYPE_CHECKING:
    from fastsec._core.crypto import Secret
    from fastsec._core.guard import GuardParams, OpenGuard, SealGuard
    from fastsec.config import Policy
    from fastsec.events import SecurityEvent
    from fastsec.handshake import MadeRequest, TakenAcceptance, TakenRequest
    from fastsec.key_update import KeyUpdate
    from fastsec.peers import Endpoint, PeerNumbers
    from fastsec.pki.identity import OsiName
    from fastsec.pki.path import VerifiedPeer
    from fastsec.pki.roles import RoleGrant


T = TypeVar("T")


def present(value: T | None) -> T:
    """``value``, where the state table guarantees that there is one."""
    if value is None:
        raise RuntimeError("the state table let an action run too early")
    return value


class Role(Enum):
    """Who initiates the association (the client), whoever dials the connection."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the engine has to know of the environment that carries its PDUs. The defaults are OSI's.

    Attributes:
        carrier_timeout_s: seconds after the carrier of a key update when a missing changedKey becomes a fault.
        handshake_timeout_s: seconds a side waits for the other's part of the handshake.
        release_timeout_s: seconds from ReleaseReq to ReleaseRsp.
        handshake_max: octets a handshake SecPDU may have before certPath is left out.
        abort_is_final: whether an abort ends the connection whatever it carries (OSI), or is judged first (XMPP).
    """

    carrier_timeout_s: int = limits.OUR_CARRIER
    handshake_timeout_s: int = limits.OUR_AARQ_TO_AARE
    release_timeout_s: int = limits.OUR_RELEASE
    handshake_max: int = limits.SPEC_CONNECT_USER_DATA_MAX - limits.OUR_CONNECT_OVERHEAD
    abort_is_final: bool = True


OSI: Final = Environment()

# A PDU that does not even show its kind is judged as the one that is expected in its carrier.
_USUAL_KIND: Final = {
    Carrier.ASSOCIATE_REQ: SecPduKind.HANDSHAKE_REQ,
    Carrier.ASSOCIATE_RSP: SecPduKind.HANDSHAKE_ACC,
    Carrier.ABORT: SecPduKind.DT_SEC_ABORT,
    Carrier.RELEASE_REQ: SecPduKind.RELEASE_REQ,
    Carrier.RELEASE_RSP: SecPduKind.RELEASE_RSP,
    Carrier.DATA: SecPduKind.CLEAR_TRANSFER,
}


class Engine:
    """State and machinery of one association; see ``Association`` for the contract."""

    __slots__ = (
        "_called",
        "_control",
        "_ending",
        "_endpoint",
        "_environment",
        "_half_open",
        "_inbox",
        "_keys",
        "_made",
        "_n",
        "_numbers",
        "_opened_ms",
        "_outputs",
        "_pair",
        "_params",
        "_policy",
        "_recheck_ms",
        "_said",
        "_seen",
        "_signed_ms",
        "_source",
        "_taken",
        "_timer",
        "_to_sign",
        "_updates",
        "asso_id",
        "busy",
        "confirmed",
        "deadline",
        "fast_rx",
        "fast_tx",
        "may_retry",
        "peer",
        "role",
        "rx",
        "state",
        "tx",
        "wakeup",
    )

    def __init__(
        self, role: Role, endpoint: Endpoint, *, peer: OsiName | None = None, environment: Environment = OSI
    ) -> None:
        self.role = role
        self.state = State.READY if role is Role.CLIENT else State.LISTENING
        self.tx: SealGuard | None = None
        self.rx: OpenGuard | None = None
        self.fast_tx = False
        self.fast_rx = False
        self.busy = False
        self.deadline: int | None = None
        self.asso_id: str | None = None
        self.peer: VerifiedPeer | None = None
        self.confirmed = False
        self.may_retry = False
        self.wakeup: Callable[[], None] | None = None
        self._endpoint = endpoint
        self._environment = environment
        self._called = peer
        self._policy: Policy = endpoint.config.policy_for(peer)
        self._outputs: list[Output] = []
        self._inbox: deque[tuple[Any, ...]] | None = None
        self._timer: int | None = None
        self._source = ""
        self._said: tuple[Any, str] = (None, "")
        self._n: str | None = None
        self._numbers: PeerNumbers | None = None
        self._pair: tuple[int, int] | None = None
        self._half_open = False
        self._made: MadeRequest | None = None
        self._taken: TakenRequest | TakenAcceptance | None = None
        self._params: GuardParams | None = None
        self._keys: KeyUpdate | None = None
        self._updates = 0
        self._signed_ms = 0
        self._seen: tuple[str, ...] = ()
        self._opened_ms = 0
        self._recheck_ms = 0
        self._control: Job | None = None
        self._to_sign: tuple[tuple[Any, ...], ...] = ()
        self._ending: tuple[FastsecError | None, Disposition] | None = None

    # --- what actions with conditions in the state table ask ---

    @property
    def awaits_client(self) -> bool:
        """Server, unconfirmed: the client may still find a fault in our HandshakeAcc."""
        return self.role is Role.SERVER and not self.confirmed

    @property
    def has_signed(self) -> bool:
        """What this side owes the release so far has gone out."""
        return self._control is None and not self._to_sign

    @property
    def roles(self) -> tuple[RoleGrant, ...]:
        """The roles of the peer while the association is open and confirmed, else none (62351-4 §6)."""
        peer = self.peer
        return peer.roles if self.confirmed and peer is not None and self.state in DATA_STATES else ()

    @property
    def _peer_text(self) -> str:
        """The peer for events: its identity, else the address it came from."""
        return str(self._called) if self._called is not None else self._source

    # --- dispatch ---

    def _dispatch(self, given: Input, *facts: Any) -> None:
        """Look up (state, input) and do what the table says. The last of ``facts`` is always the Instant."""
        rule = TABLE[self.state, given]
        if type(rule) is Rule:
            if not rule.when or getattr(self, rule.when):
                if rule.next is not None:
                    self.state = rule.next
                getattr(self, rule.method)(*facts)
                return
            rule = fault_of(self.state, given)
        self._fault(cast(Fault, rule), given, facts)

    def _fault(self, fault: Fault, given: Input, facts: tuple[Any, ...]) -> None:
        now: Instant = facts[-1]
        match fault:
            case Fault.CALLER:
                raise StateError(f"{given.value} is not possible now: {self.state.value}")
            case Fault.DROP:
                return
            case Fault.IGNORE:
                self._ignore(facts[0].control.kind if isinstance(facts[0], TakenControl) else facts[0], now)
            case _:
                kind = facts[0]
                if isinstance(kind, TakenControl):
                    kind = kind.control.kind
                elif isinstance(kind, bytes):
                    kind = self._transfer_kind(kind)
                text = f"{kind.standard_name} out of place: {self.state.value}"
                self._fail(GROUP_OF[kind], DecodeError(text, step=kind.standard_name), now)

    def _transfer_kind(self, pdu: bytes) -> SecPduKind:
        try:
            return kind_of(Carrier.DATA, pdu)
        except DecodeError:
            return SecPduKind.CLEAR_TRANSFER

    def _ignore(self, kind: SecPduKind, now: Instant) -> None:
        """A reject or abort out of its state: the event PROTOCOL_ERR of that PDU, no answer."""
        self._raise(GROUP_OF[kind], verdict(GROUP_OF[kind], "protocol-error").number, reason="out of place")
        if kind in (SecPduKind.HANDSHAKE_SEC_ABORT, SecPduKind.DT_SEC_ABORT, SecPduKind.APPL_ABORT):
            self._aborted_anyway(now)

    def _aborted_anyway(self, now: Instant) -> None:
        """Where the environment's abort is final, the connection is gone whatever its user data was worth."""
        if self._environment.abort_is_final:
            self._close(Aborted("provider", None, "aborted without a reason that can be trusted"), now)

    # --- outputs ---

    def _raise(self, group: Group, number: int, **params: object) -> None:
        if self._source:
            params["source"] = self._source
        self._outputs.append(Raised(event(DOMAIN_E2E, group, number, peer=self._peer_text, **params)))

    def _raise_ready(self, found: SecurityEvent) -> None:
        """An event that a check has made, which did not know whom it is about."""
        source = (("source", self._source),) if self._source else ()
        self._outputs.append(Raised(replace(found, peer=self._peer_text, params=found.params + source)))

    def _raise_fault(self, group: Group, fault: PeerError) -> Verdict:
        """The event of a failed check; returns what the check says."""
        for other in fault.also:
            self._raise_ready(other)
        found = verdict(group, fault.check)
        self._raise(group, found.number, check=fault.check, step=fault.step, reason=fault)
        return found

    def _keys_changed(self) -> None:
        self._outputs.append(KeysChanged())

    # --- jobs ---

    def _start(
        self,
        work: Callable[[], Any],
        then: Callable[[Job, Instant], None],
        *,
        signs: bool = False,
        spare: bool = False,
    ) -> Job:
        signer = self._endpoint.config.credential.signer
        job = Job(work, then, getattr(signer, "executor", None) if signs else None, spare=spare)
        self._outputs.append(Run(job))
        return job

    def _receive_job(self, work: Callable[[], Any], then: Callable[[Job, Instant], None]) -> None:
        """Work on a received PDU; later PDUs wait for it."""
        self.busy = True
        self._start(work, then)

    # --- faults of the peer ---

    def _fail(self, group: Group, fault: PeerError, now: Instant) -> None:
        """A check of a received PDU failed: event, then the answer that the phase allows, then the end."""
        found = self._raise_fault(group, fault)
        fault.code = found.diag
        if group in (Group.HANDSHAKE_SEC_ABORT, Group.DT_SEC_ABORT, Group.APPL_ABORT):
            self._aborted_anyway(now)
        elif group in (Group.APPLICATION_REJECT, Group.HANDSHAKE_SEC_REJECT):
            # A reject is never answered. The environment has refused the association with it, so this is the end.
            if self.state in CLIENT_HANDSHAKE:
                self._close(fault, now)
        elif group is Group.RELEASE_RSP and self.state in (State.RELEASING, State.CROSSED):
            self._close(fault, now)
        elif group is Group.RELEASE_REQ and not self._environment.abort_is_final and fault.check in UNVERIFIED:
            pass  # anybody may have sent it; the association goes on
        else:
            self._answer(found.diag, fault, now)

    def _answer(self, diag: int | None, error: FastsecError | None, now: Instant) -> None:
        """The security reject or abort of the phase. An alarm and an error take the same way, diag or none."""
        if self.state in SERVER_HANDSHAKE:
            self._reject(SecPduKind.HANDSHAKE_SEC_REJECT, diag, None, error, now)
        elif self.state in CLIENT_HANDSHAKE:
            self._finish(SecPduKind.HANDSHAKE_SEC_ABORT, diag, None, error, now)
        else:
            self._finish(SecPduKind.DT_SEC_ABORT, diag, None, error, now)

    def _reject(
        self,
        kind: SecPduKind,
        diag: int | None,
        appl_data: bytes | None,
        error: FastsecError | None,
        now: Instant,
        *,
        transient: bool = False,
    ) -> None:
        """A signed reject; a source that gets too many of them gets a plain ABRT (62351-4, flood rules)."""
        if self._endpoint.may_reject(self._source, now):
            disposition: Disposition = "rejected-transient" if transient else "rejected-permanent"
            self._finish(kind, diag, appl_data, error, now, disposition)
        else:
            self._endpoint.refusals.unsigned += 1
            self._outputs.append(Send(Carrier.ABORT, None))
            self._close(error, now)

    # --- signed control PDUs, own ---

    def _finish(
        self,
        kind: SecPduKind,
        diag: int | None,
        appl_data: bytes | None,
        error: FastsecError | None,
        now: Instant,
        disposition: Disposition = "",
    ) -> None:
        """Sign and send the last PDU, then end with ``error``. Keys go at once: nothing is sent or received after."""
        self.state = State.ENDING
        self._ending = (error, disposition)
        self._timer = now.mono_ms + limits.OUR_SIGN * 1000
        self._to_sign = ()
        self._control = None
        self._wipe()
        self._sign(kind, diag, appl_data, now)

    def _sign(self, kind: SecPduKind, diag: int | None, appl_data: bytes | None, now: Instant) -> None:
        """Have a control PDU signed; one at a time, so that they go out in the order of their times."""
        self._signed_ms = max(now.utc_ms, self._signed_ms + 1)
        facts = (kind, self.asso_id or self._n, self._signed_ms, diag, appl_data)
        if self._control is not None:
            self._to_sign += (facts,)
        else:
            self._sign_next(facts)

    def _sign_next(self, facts: tuple[Any, ...]) -> None:
        credential = self._endpoint.config.credential
        # Whoever is not verified could keep a slow signer busy with rejects; those wait behind nobody.
        spare = self.role is Role.SERVER and self.peer is None
        self._control = self._start(
            lambda: (facts[0], make_control(credential, *facts)), self._control_made, signs=True, spare=spare
        )

    def _control_made(self, job: Job, now: Instant) -> None:
        if job is not self._control:
            return
        self._control = None
        if job.error is not None:
            # The signer failed, so nothing more can be signed. Why the association ends says more, if there is a why.
            error = self._ending[0] if self._ending is not None else None
            self._outputs.append(Send(Carrier.ABORT, None))
            self._close(error or signing_failed(job.error), now)
            return
        kind, pdu = job.result
        if self._to_sign:
            facts, *rest = self._to_sign
            self._to_sign = tuple(rest)
            self._sign_next(facts)
        self._dispatch(Input.CONTROL_MADE, kind, pdu, now)

    def _send_control(self, kind: SecPduKind, pdu: bytes, now: Instant) -> None:
        """A control PDU is signed: send it; after a reject, abort or the last ReleaseRsp the association is over."""
        error, disposition = self._ending or (None, "")
        self._outputs.append(Send(CARRIER_OF[kind], pdu, disposition))
        if self._ending is not None:
            self._close(error, now)
        elif kind is SecPduKind.RELEASE_RSP:
            self._release_answered(now)

    def _release_answered(self, now: Instant) -> None:
        raise NotImplementedError

    # --- signed control PDUs, the peer's ---

    def _arrived(self, carrier: Carrier, pdu: bytes, now: Instant) -> None:
        """A signed PDU arrived: decode, look up, and if legal have it verified."""
        if carrier is Carrier.ABORT and is_osi_diagnostics(pdu):
            self._dispatch(Input.PLAIN_ABORT, now)
            return
        try:
            decoded = decode(carrier, pdu)
        except DecodeError as fault:
            if self.state is State.LISTENING:
                self._n = decode_client_number(pdu)
            try:
                kind = kind_of(carrier, pdu[:1] + b"\x00")  # its tag tells, whatever became of the rest
            except DecodeError:
                kind = self._usual_kind(carrier)
            self._malformed(kind, fault, now)
            return
        kind = decoded.kind
        given = INPUT_OF[kind]
        if not isinstance(decoded, Control):
            self._dispatch(given, kind, decoded, now)
            return
        rule = TABLE[self.state, given]
        if isinstance(rule, Rule) and (not rule.when or getattr(self, rule.when)):
            expected = self._expectation(kind, now)
            self._receive_job(lambda: take_control(decoded, expected), self._control_taken_by(kind))
        else:
            self._fault(fault_of(self.state, given), given, (kind, now))

    def _usual_kind(self, carrier: Carrier) -> SecPduKind:
        if carrier is Carrier.ABORT and self.state in CLIENT_HANDSHAKE | SERVER_HANDSHAKE:
            return SecPduKind.HANDSHAKE_SEC_ABORT
        return _USUAL_KIND[carrier]

    def _malformed(self, kind: SecPduKind, fault: DecodeError, now: Instant) -> None:
        if self.state not in (State.ENDING, State.ENDED):
            self._fail(GROUP_OF[kind], fault, now)
        elif INPUT_OF[kind] in TERMINAL_PDUS:
            self._dispatch(Input.PLAIN_ABORT, now)

    def _expectation(self, kind: SecPduKind, now: Instant) -> Expectation:
        config = self._endpoint.config
        numbers: tuple[str | None, ...] = (self.asso_id,)
        if kind in (SecPduKind.APPLICATION_REJECT, SecPduKind.HANDSHAKE_SEC_REJECT):
            numbers = (self._n, None)
        elif kind is SecPduKind.HANDSHAKE_SEC_ABORT:
            numbers = (self.asso_id, self._n)
        names = frozenset((self._called.oid,)) if self._called is not None else frozenset()
        return Expectation(
            self.peer, names, config.credential.certificate, numbers, self._seen, self._endpoint.trust, now.utc_ms
        )

    def _control_taken_by(self, kind: SecPduKind) -> Callable[[Job, Instant], None]:
        def taken(job: Job, now: Instant) -> None:
            self.busy = False
            if self.state in OVER:
                return
            if isinstance(job.error, PeerError):
                self._fail(GROUP_OF[kind], job.error, now)
            elif job.error is not None:
                self._fail(GROUP_OF[kind], _internal(kind), now)
            elif self._is_repeated(job.result, now):
                fault = HandshakeError("seen before", check="replay", step=f"{kind.standard_name}.tbs.token3.time")
                self._fail(GROUP_OF[kind], fault, now)
            else:
                self._seen += (job.result.time_key,)
                self._dispatch(INPUT_OF[kind], job.result, now)

        return taken

    def _is_repeated(self, taken: TakenControl, now: Instant) -> bool:
        """Rejects come before there is an association to compare with, so the endpoint remembers them."""
        control = taken.control
        if control.kind not in (SecPduKind.APPLICATION_REJECT, SecPduKind.HANDSHAKE_SEC_REJECT) or self._called is None:
            return False
        token = control.token3
        try:
            verdict_ = self._endpoint.replay.remember(
                self._called.oid, "R", token.time, token.asso_id or "", control.signature[-32:].rjust(32), now.utc_ms
            )
        except LimitReached:  # it cannot be told; a reject opens nothing
            return False
        return verdict_ == "replay"

    def _note_signed(self, time: str) -> None:
        self._seen += (time_key(time),)

    def _log_keys(self, params: GuardParams, okm: Secret, h2: bytes, epoch: int) -> None:
        """Only where the configuration asks for it; without it no copy of a key is made."""
        key_log = self._endpoint.config.key_log
        if key_log is not None:
            for line in key_lines(params, okm, h2, epoch):
                key_log(line)

    # --- the end ---

    def _wipe(self) -> None:
        """Forget all keys; the adapter disarms its channel at KeysChanged."""
        had = self.tx is not None or self.rx is not None
        for guard in (self.tx, self.rx):
            if guard is not None:
                guard.wipe()
        if self._keys is not None:
            self._updates = self._keys.completed
            self._keys.wipe()
        if self._made is not None:
            self._made.wipe()
        if self._taken is not None:
            self._taken.wipe()
        self.tx = self.rx = self._keys = self._made = self._taken = None
        self.fast_tx = self.fast_rx = False
        if had:
            self._keys_changed()

    def _close(self, error: FastsecError | None, now: Instant) -> None:
        """The association is over: give back what is shared, forget the keys, say so. Nothing follows ``Ended``."""
        self.state = State.ENDED
        self._wipe()
        self._leave_half_open()
        numbers = self._numbers
        self._drop_unconfirmed()
        if numbers is not None and self._n is not None:
            live = numbers.live_as_client if self.role is Role.CLIENT else numbers.live_as_server
            live.discard(int(self._n))
            if self._pair is not None:
                numbers.free(self._pair, now)
        self._numbers = self._pair = None
        self._inbox = None
        self._to_sign = ()
        self._control = None
        self._timer = self.deadline = None
        self.busy = False
        self._outputs.append(Ended(error))

    def _drop_unconfirmed(self) -> None:
        if self.role is Role.SERVER and self._called is not None:
            self._endpoint.drop_unconfirmed(self, self._called)

    def evict(self, now: Instant) -> None:
        """End, unconfirmed, because others want in."""
        raise NotImplementedError

    def _leave_half_open(self) -> None:
        if self._half_open:
            self._half_open = False
            self._endpoint.leave_handshake()


def _internal(kind: SecPduKind) -> HandshakeError:
    """What a check that broke by our own fault is reported as: the peer learns no-reason-given."""
    return HandshakeError("the check could not be carried out", check="internal", step=kind.standard_name)


def signing_failed(error: Exception) -> Aborted:
    """What an association ends with when the own signature failed; texts of other errors may hold anything."""
    return Aborted("local", None, f"signing failed: {error}" if isinstance(error, SignerError) else "signing failed")


def internal_fault(kind: SecPduKind, job: Job) -> PeerError:
    """The fault of a job that did not succeed: the peer's, or our own as "internal"."""
    return job.error if isinstance(job.error, PeerError) else _internal(kind)
