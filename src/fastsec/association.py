"""One association, without any input or output of its own: octets, calls and moments go in, ``outputs()`` come out.

``Association`` is what an adapter drives and what most readers need. The rules stand in ``state`` (what may happen
when), ``handshake`` and ``control`` (what is checked), ``key_update`` and ``peers``. The receive path never raises: a
peer's mistake becomes an event, an answer on the wire and ``Ended``.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from fastsec import limits
from fastsec._core.crypto import sha256
from fastsec.control import TakenControl
from fastsec.data_phase import DataPhase
from fastsec.engine import OSI, Environment, Role, internal_fault, present
from fastsec.errors import Aborted, FastsecError, HandshakeError, LimitReached, LocalError, PeerError, Rejected
from fastsec.events import named
from fastsec.faults import Group, received
from fastsec.handshake import (
    MadeAcceptance,
    MadeRequest,
    TakenAcceptance,
    TakenRequest,
    make_acceptance,
    make_request,
    offers_encryption_list,
    take_acceptance,
    take_request,
)
from fastsec.instant import Instant
from fastsec.key_update import KeyUpdate
from fastsec.keys import first_guards
from fastsec.outputs import (
    AssociateIndication,
    Confirmed,
    Disposition,
    Ended,
    Established,
    Job,
    KeysChanged,
    Output,
    Raised,
    Received,
    Released,
    ReleaseIndication,
    Run,
    Send,
)
from fastsec.pki.identity import OsiName
from fastsec.profile import DtDiag, HandshakeDiag, wire_name
from fastsec.secpdu.der import decode_client_number
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import Control, Handshake
from fastsec.state import DATA_STATES, Input, State

if TYPE_CHECKING:
    from fastsec.peers import Endpoint

__all__ = [
    "AssociateIndication",
    "Association",
    "Confirmed",
    "Ended",
    "Environment",
    "Established",
    "Job",
    "KeysChanged",
    "Output",
    "Raised",
    "Received",
    "ReleaseIndication",
    "Released",
    "Role",
    "Run",
    "Send",
]


class Association(DataPhase):
    """One end of one association.

    After every call below fetch ``outputs()`` and carry them out in order. Calls of the application raise
    ``StateError`` where the state does not allow them; ``receive`` and ``job_done`` never raise for what a peer did.

    Arguments:
        role: client (initiates the association) or server.
        endpoint: shared by all associations of this identity.
        peer: client: the identity that is called; LocalError without. Server: None.
        environment: timers and limits of what carries the PDUs.

    Attributes:
        role, state: as they are.
        tx, rx: the guards, None outside data transfer. Read them again at every ``KeysChanged``.
        fast_tx, fast_rx: whether the adapter may seal with ``tx``, open with ``rx`` itself. Irregular PDUs go to
            ``receive``, faults to ``transfer_fault``. After sending, call ``tick`` if ``tx.due``.
        busy: a received PDU is being worked on; deliver nothing before its ``job_done`` (if delivered, it waits).
        deadline: monotonic milliseconds at which ``tick`` is to be called, or None. Read it after every call.
        asso_id: ``n:m`` once agreed.
        peer: the verified peer, None before.
        confirmed: the peer has proved that it saw our handshake PDU unaltered.
        may_retry: client, after the end: the peer refused our association number; a new association gets another one
            (try OUR_ASSO_RETRIES times).
        wakeup: set by the adapter: called when another association caused outputs here.
    """

    __slots__ = ("__weakref__",)

    def __init__(
        self, role: Role, endpoint: Endpoint, *, peer: OsiName | None = None, environment: Environment = OSI
    ) -> None:
        if (role is Role.CLIENT) != (peer is not None):
            raise LocalError("a client association names the peer that it calls, a server association does not")
        super().__init__(role, endpoint, peer=peer, environment=environment)

    def __repr__(self) -> str:
        return f"<Association {self.role.value} {self.asso_id or '-'} {self.state.name} peer={self._peer_text or '-'}>"

    @property
    def mode(self) -> int | None:
        """MODE_* of the guard once agreed."""
        return None if self._params is None else self._params.mode

    # --- outputs --------------------------------------------------------------------------------------------------

    def outputs(self) -> list[Output]:
        """What there is to do, in order; each output is returned once."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # --- calls of the application ---------------------------------------------------------------------------------

    def start(self, appl_data: bytes, now: Instant) -> None:
        """Client: begin the handshake.

        Arguments:
            appl_data: the protected protocol's request, one TLV (an MMS initiate-Request); empty for none.
        Errors:
            LimitReached: 1,000 associations to this peer live.
        """
        self._dispatch(Input.START, appl_data, now)
        self._schedule()

    def accept(self, appl_data: bytes, now: Instant) -> None:
        """Server, after AssociateIndication: accept with the protected protocol's response."""
        self._dispatch(Input.ACCEPT, appl_data, now)
        self._schedule()

    def reject(self, appl_data: bytes | None, transient: bool, now: Instant) -> None:
        """Server, after AssociateIndication: refuse with the protected protocol's own answer, if it has one."""
        self._dispatch(Input.REJECT, appl_data, transient, now)
        self._schedule()

    def send(self, appl_data: bytes, now: Instant) -> None:
        """Protect and send one PDU of the protected protocol (exactly one TLV).

        Errors:
            StateError: not open, or the own ReleaseReq has gone out.
            LocalError: not one TLV of class CONTEXT or PRIVATE 0.
        """
        self._dispatch(Input.SEND, appl_data, now)
        self._schedule()

    def update_keys(self, now: Instant) -> None:
        """Ask for new keys now: the client begins (60 s after the last update at the earliest), the server asks."""
        self._dispatch(Input.UPDATE_KEYS, now)
        self._schedule()

    def release(self, now: Instant) -> None:
        """End orderly. Flush the own queue before; nothing can be sent after, but data still arrive."""
        self._dispatch(Input.RELEASE, now)
        self._schedule()

    def release_accept(self, now: Instant) -> None:
        """Answer ReleaseIndication, after the own queue was flushed."""
        self._dispatch(Input.RELEASE_ACCEPT, now)
        self._schedule()

    def abort(self, appl_data: bytes | None, now: Instant) -> None:
        """End at once; without effect when already over.

        Arguments:
            appl_data: the protected protocol's own abort, if it has one; goes out only where ApplAbort or
                ApplicationReject does.
        """
        self._dispatch(Input.ABORT, appl_data, now)
        self._schedule()

    # --- what happened outside ------------------------------------------------------------------------------------

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
        """A PDU of the environment arrived.

        Arguments:
            carrier: which.
            pdu: the SecPDU in it; None if there was none.
            calling, responding: addresses in the environment's ASSOCIATE_REQ, ASSOCIATE_RSP.
            source: address of the sender, for rate limits and events.
            disposition: result that the environment's ASSOCIATE_RSP stated.
        """
        if self.state is State.ENDED:
            return
        if self.busy:
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.append((carrier, pdu, calling, responding, source, disposition))
            return
        if carrier is Carrier.DATA and pdu is not None:
            self._dispatch(Input.TRANSFER, pdu, now)
        elif carrier is Carrier.ASSOCIATE_REQ:
            self._request_arrived(pdu or b"", calling, source, now)
        elif pdu is None:
            self._arrived_bare(carrier, disposition, now)
        else:
            self._said = (responding, disposition)
            self._arrived(carrier, pdu, now)
        self._schedule()

    def transfer_fault(self, fault: PeerError, now: Instant) -> None:
        """The channel's fast path refused a data PDU."""
        if self.state in DATA_STATES:
            self._transfer_faulted(fault, now)
            self._schedule()

    def environment_fault(self, mnemonic: str, now: Instant) -> None:
        """The environment's own protocol was broken: event of group 15 or 18, plain ABRT, end."""
        self._dispatch(Input.ENVIRONMENT_FAULT, mnemonic, now)
        self._schedule()

    def connection_lost(self, now: Instant) -> None:
        """The connection is gone; no more can be sent."""
        self._dispatch(Input.LOST, now)
        self._schedule()

    def job_done(self, job: Job, now: Instant) -> None:
        """``job.run()`` has returned."""
        then, job.then = job.then, None
        if then is None:
            return
        then(job, now)
        while self._inbox and not self.busy:
            carrier, pdu, calling, responding, source, disposition = self._inbox.popleft()
            self.receive(
                carrier, pdu, now, calling=calling, responding=responding, source=source, disposition=disposition
            )
        self._schedule()

    def tick(self, now: Instant) -> None:
        """Time has come to ``deadline``, or ``tx.due`` was seen. Calling it too often does no harm."""
        if self._timer is not None:
            if now.mono_ms >= self._timer:
                self._dispatch(Input.TIMEOUT, now)
        elif self.state is State.OPEN:
            self._dispatch(Input.TIMEOUT, now)
        self._schedule()

    def evict(self, now: Instant) -> None:
        """Unconfirmed for too long while others want in: ApplAbort."""
        self._end_with(LimitReached("OUR_UNCONFIRMED_PER_PEER", "evicted while unconfirmed"), now)
        self._schedule()
        if self.wakeup is not None:
            self.wakeup()

    # --- arrivals ---------------------------------------------------------------------------------------------------

    def _arrived_bare(self, carrier: Carrier, disposition: Disposition, now: Instant) -> None:
        """An environment PDU without SecPDU."""
        if carrier is Carrier.ABORT:
            self._dispatch(Input.PLAIN_ABORT, now)
        elif carrier is Carrier.ASSOCIATE_RSP and disposition != "accepted":
            self._dispatch(Input.PLAIN_REJECT, disposition, now)
        else:
            self._arrived(carrier, b"", now)

    def _request_arrived(self, pdu: bytes, calling: OsiName | None, source: str, now: Instant) -> None:
        """The flood rules come before decoding and before any public-key work."""
        if self.state is not State.LISTENING:
            self._arrived(Carrier.ASSOCIATE_REQ, pdu, now)
            return
        self._source = source
        self._called = calling
        self._said = (sha256(pdu), "")
        if self._endpoint.replay.exact(self._said[0]):
            fault = HandshakeError("exact repeat", check="replay", step="HandshakeReq")
            self._raise_fault(Group.HANDSHAKE_REQ, fault)
            self._outputs.append(Send(Carrier.ABORT, None))
            self._close(fault, now)
            return
        self._n = decode_client_number(pdu)
        if not self._endpoint.enter_handshake():
            self._reject(
                SecPduKind.APPLICATION_REJECT, None, None, LimitReached("OUR_HALF_OPEN_MAX"), now, transient=True
            )
            return
        self._half_open = True
        self._arrived(Carrier.ASSOCIATE_REQ, pdu, now)

    # --- client, handshake ------------------------------------------------------------------------------------------

    def _make_request(self, appl_data: bytes, now: Instant) -> None:
        """Step 1."""
        self._numbers = self._endpoint.numbers(present(self._called).oid)
        try:
            number, self._signed_ms = self._numbers.take_client_number(now)
        except LimitReached:
            self.state = State.READY
            raise
        self._n = str(number)
        config, policy, utc_ms = self._endpoint.config, self._policy, self._signed_ms
        room = self._environment.handshake_max
        self._timer = now.mono_ms + self._environment.handshake_timeout_s * 1000
        self._start(
            lambda: make_request(config, policy, number, utc_ms, appl_data, room), self._request_made, signs=True
        )

    def _request_made(self, job: Job, now: Instant) -> None:
        if self.state is not State.REQUESTING:
            if job.error is None:
                job.result.wipe()
        elif job.error is not None:
            self._close(_own_failure(job.error), now)
        else:
            self._dispatch(Input.REQUEST_MADE, job.result, now)

    def _send_request(self, made: MadeRequest, now: Instant) -> None:
        """Step 2."""
        self._made = made
        self._outputs.append(Send(Carrier.ASSOCIATE_REQ, made.pdu))

    def _judge_acceptance(self, kind: SecPduKind, pdu: Handshake, now: Instant) -> None:
        """Step 7."""
        made, called, config = present(self._made), present(self._called), self._endpoint.config
        responding, disposition = self._said
        if disposition.startswith("rejected"):
            self._fail(Group.HANDSHAKE_ACC, HandshakeError("acceptance in a refusal", step="HandshakeAcc"), now)
            return
        if pdu.token1.asso_id.partition(":")[0] == self._n:
            self.asso_id = pdu.token1.asso_id  # also for the abort that a fault needs
        self._receive_job(
            lambda: take_acceptance(pdu, made, config, called, responding, now.utc_ms), self._acceptance_taken
        )

    def _acceptance_taken(self, job: Job, now: Instant) -> None:
        self.busy = False
        if self.state is not State.JUDGING:
            if job.error is None:
                job.result.wipe()
        elif job.error is not None:
            self._fail(Group.HANDSHAKE_ACC, internal_fault(SecPduKind.HANDSHAKE_ACC, job), now)
        else:
            try:
                self._check_acceptance(job.result, now)
            except PeerError as fault:
                job.result.wipe()
                self._fail(Group.HANDSHAKE_ACC, fault, now)
            else:
                self._dispatch(Input.ACCEPTANCE_TAKEN, job.result, now)

    def _check_acceptance(self, taken: TakenAcceptance, now: Instant) -> None:
        """Step 8: replay, numbers, then what the job found later in the order."""
        numbers, name = present(self._numbers), present(self._called).oid
        digest = sha256(taken.h2 + taken.time.encode() + taken.asso_id.encode())
        seen = self._endpoint.replay.remember(name, "A", taken.time, taken.asso_id, digest, now.utc_ms)
        if seen == "replay":
            raise HandshakeError("seen before", check="replay", step="HandshakeAcc.tbs.token1.time")
        n, _, m = taken.asso_id.partition(":")
        if n != self._n or not m or numbers.is_live((int(n), int(m))):
            raise HandshakeError("not our number", step="HandshakeAcc.tbs.token1.assoID")
        if taken.later is not None:
            raise taken.later

    def _open_client(self, taken: TakenAcceptance, now: Instant) -> None:
        made, value, okm = present(self._made), present(taken.value), present(taken.okm)
        self.asso_id = taken.asso_id
        self._pair = (int(present(self._n)), int(taken.asso_id.partition(":")[2]))
        present(self._numbers).hold(self._pair)
        self._params = present(taken.suite).guard_params(taken.asso_id)
        self._note_signed(taken.time)
        self.tx, self.rx = first_guards(self._params, okm, is_client=True, own_time=made.time, peer_time=taken.time)
        offered = tuple(key.public for key in made.keys if key.group == value.group)
        self._keys = KeyUpdate(
            self._policy,
            value.group,
            own=None,
            server_public=value.public,
            used=(*offered, value.public),
            h2=taken.h2,
            carrier_timeout=self._environment.carrier_timeout_s,
            mono_ms=now.mono_ms,
        )
        self._made = None
        self.peer = self._endpoint.share(present(self._called).oid, taken.peer)
        self._opened(now)
        self._outputs.append(Established(taken.appl_data, self.peer, False))

    def _opened(self, now: Instant) -> None:
        """Both roles: data transfer begins, unconfirmed; the first transfer of the peer comes through the engine."""
        self._timer = None
        self._opened_ms = now.mono_ms
        self._recheck_ms = now.mono_ms + limits.OUR_RECHECK_INTERVAL * 1000
        self._set_soft_limit(present(self.tx))
        self.fast_tx = True
        self._keys_changed()

    def _rejected(self, taken: TakenControl, now: Instant) -> None:
        """ApplicationReject verified."""
        transient = self._said[1] == "rejected-transient"
        appl_data = taken.control.appl_data
        self._close(Rejected("peer", None, "the application refused", appl_data, transient), now)

    def _security_rejected(self, taken: TakenControl, now: Instant) -> None:
        """HandshakeSecReject verified: the event says which diagnostic the server gave."""
        diag = taken.control.diag
        listed = offers_encryption_list(present(self._made).offer)
        number = received(Group.HANDSHAKE_SEC_REJECT, diag, encryption_list_offered=listed)
        self._raise(Group.HANDSHAKE_SEC_REJECT, number, diag="none" if diag is None else diag)
        if diag == HandshakeDiag.PROTOCOL_ERROR:
            # Our number may still be live at the server: it rests, and the caller may try another one.
            present(self._numbers).avoid(int(present(self._n)), now)
            self.may_retry = True
        self._close(Rejected("peer", diag, _diag_text(diag, HandshakeDiag)), now)

    def _refused(self, disposition: Disposition, now: Instant) -> None:
        transient = disposition == "rejected-transient"
        self._close(Rejected("provider", None, "refused without a signed reason", None, transient), now)

    def _give_up(self, now: Instant) -> None:
        """A timer ran out where nothing signed can be sent."""
        self._outputs.append(Send(Carrier.ABORT, None))
        error = self._ending[0] if self._ending is not None else Aborted("local", None, "no answer in time")
        self._close(error, now)

    # --- server, handshake ------------------------------------------------------------------------------------------

    def _examine_request(self, kind: SecPduKind, pdu: Handshake, now: Instant) -> None:
        """Step 3."""
        endpoint, calling = self._endpoint, self._called
        config, refuse_before = endpoint.config, endpoint.refuse_before
        self._n = pdu.token1.asso_id.partition(":")[0]
        self._timer = now.mono_ms + self._environment.handshake_timeout_s * 1000
        self._receive_job(lambda: take_request(pdu, config, calling, refuse_before, now.utc_ms), self._request_taken)

    def _request_taken(self, job: Job, now: Instant) -> None:
        self.busy = False
        if self.state is not State.EXAMINING:
            return
        if job.error is not None:
            self._fail(Group.HANDSHAKE_REQ, internal_fault(SecPduKind.HANDSHAKE_REQ, job), now)
            return
        try:
            admitted = self._check_request(job.result, now)
        except PeerError as fault:
            self._fail(Group.HANDSHAKE_REQ, fault, now)
            return
        if admitted is None:
            self._dispatch(Input.REQUEST_TAKEN, job.result, now)
        else:
            self._reject(SecPduKind.APPLICATION_REJECT, None, None, LimitReached(admitted), now, transient=True)

    def _check_request(self, taken: TakenRequest, now: Instant) -> str | None:
        """Step 4: replay, numbers, then what the job found later in the order; the limit that refuses, or None."""
        name = taken.name.oid
        seen = self._endpoint.replay.remember(name, "Q", taken.time, taken.number, self._said[0], now.utc_ms)
        if seen == "replay":
            raise HandshakeError("seen before", check="replay", step="HandshakeReq.tbs.token1.time")
        if seen == "full":
            return "OUR_REPLAY_PER_PEER"
        if taken.later is not None and taken.later.step.endswith(".assoID"):
            raise taken.later
        numbers, n = self._endpoint.numbers(name), int(taken.number)
        if n in numbers.live_as_server:
            raise HandshakeError("client number is live", step="HandshakeReq.tbs.token1.assoID")
        if taken.later is not None:
            raise taken.later
        m = numbers.choose_server_number(n, now)
        if m is None:
            return "OUR_ASSO_NUMBERS"
        if not self._endpoint.admit_unconfirmed(self, name, now):
            return "OUR_UNCONFIRMED_PER_PEER"
        numbers.live_as_server.add(n)
        numbers.hold((n, m))
        self._numbers, self._n, self._pair = numbers, taken.number, (n, m)
        return None

    def _indicate(self, taken: TakenRequest, now: Instant) -> None:
        """The application decides."""
        self._taken = taken
        self._policy = self._endpoint.config.policy_for(taken.name)
        self.peer = self._endpoint.share(taken.name.oid, taken.peer)
        self._note_signed(taken.time)
        self._outputs.append(AssociateIndication(taken.appl_data, self.peer))

    def _make_acceptance(self, appl_data: bytes, now: Instant) -> None:
        """Step 5."""
        taken, pair, config = present(self._taken), present(self._pair), self._endpoint.config
        room = self._environment.handshake_max
        asso_id = f"{pair[0]}:{pair[1]}"
        self._signed_ms = utc_ms = now.utc_ms
        self._start(
            lambda: make_acceptance(config, taken, asso_id, utc_ms, appl_data, room), self._acceptance_made, signs=True
        )

    def _acceptance_made(self, job: Job, now: Instant) -> None:
        if self.state is not State.ACCEPTING:
            if job.error is None:
                job.result.wipe()
        elif isinstance(job.error, PeerError):
            self._fail(Group.HANDSHAKE_REQ, job.error, now)
        elif job.error is not None:
            self._answer(int(HandshakeDiag.NO_REASON_GIVEN), _own_failure(job.error), now)
        else:
            self._dispatch(Input.ACCEPTANCE_MADE, job.result, now)

    def _open_server(self, made: MadeAcceptance, now: Instant) -> None:
        """Step 6."""
        taken, pair = present(self._taken), present(self._pair)
        self.asso_id = f"{pair[0]}:{pair[1]}"
        self._params = present(taken.suite).guard_params(self.asso_id)
        self.tx, self.rx = first_guards(
            self._params, made.okm, is_client=False, own_time=made.time, peer_time=taken.time
        )
        self._keys = KeyUpdate(
            self._policy,
            made.key.group,
            own=made.key,
            server_public=b"",
            used=(present(taken.value).public, made.key.public),
            h2=made.h2,
            carrier_timeout=self._environment.carrier_timeout_s,
            mono_ms=now.mono_ms,
        )
        self._taken = None
        self._leave_half_open()
        self._outputs.append(Send(Carrier.ASSOCIATE_RSP, made.pdu, "accepted"))
        self._opened(now)
        self._outputs.append(Established(b"", present(self.peer), False))

    def _refuse(self, appl_data: bytes | None, transient: bool, now: Instant) -> None:
        """reject(), or abort() before the answer: ApplicationReject."""
        error = Rejected("local", None, "refused by the own application", appl_data, transient)
        self._reject(SecPduKind.APPLICATION_REJECT, None, appl_data, error, now, transient=transient)

    def _refuse_late(self, now: Instant) -> None:
        error = Aborted("local", None, "the own application did not answer in time")
        self._reject(SecPduKind.APPLICATION_REJECT, None, None, error, now, transient=True)

    # --- release ----------------------------------------------------------------------------------------------------

    def _ask_release(self, now: Instant) -> None:
        self._timer = now.mono_ms + self._environment.release_timeout_s * 1000
        self.fast_tx = False
        self._keys_changed()
        self._sign(SecPduKind.RELEASE_REQ, None, None, now)

    def _indicate_release(self, taken: TakenControl, now: Instant) -> None:
        """The peer sends no more data; the caller flushes and answers."""
        self._timer = now.mono_ms + self._environment.release_timeout_s * 1000
        self.fast_rx = False
        self._keys_changed()
        self._outputs.append(ReleaseIndication())

    def _answer_release(self, now: Instant) -> None:
        self.fast_tx = False
        self._keys_changed()
        self._sign(SecPduKind.RELEASE_RSP, None, None, now)

    def _cross_release(self, taken: TakenControl, now: Instant) -> None:
        """Both asked: the initiator of the association answers first, the responder after its ReleaseRsp (X.227)."""
        self.fast_rx = False
        self._keys_changed()
        if self.role is Role.CLIENT:
            self._sign(SecPduKind.RELEASE_RSP, None, None, now)

    def _finish_crossed(self, taken: TakenControl, now: Instant) -> None:
        if self.role is Role.CLIENT:
            self._released(taken, now)
        else:
            self.state = State.ANSWERING
            self._sign(SecPduKind.RELEASE_RSP, None, None, now)

    def _release_answered(self, now: Instant) -> None:
        """Our ReleaseRsp has gone out."""
        if self.state is State.ANSWERING:
            self._released(None, now)

    def _released(self, taken: TakenControl | None, now: Instant) -> None:
        self._outputs.append(Released())
        self._close(None, now)

    def _release_timed_out(self, now: Instant) -> None:
        self._end_with(Aborted("local", None, "no answer to the release in time"), now)

    # --- aborts and losses ------------------------------------------------------------------------------------------

    def _refuse_by_abort(self, appl_data: bytes | None, now: Instant) -> None:
        self._refuse(appl_data, False, now)

    def _abort_data(self, appl_data: bytes | None, now: Instant) -> None:
        self._finish(SecPduKind.APPL_ABORT, None, appl_data, Aborted("local", None, "by the own application"), now)

    def _leave(self, appl_data: bytes | None, now: Instant) -> None:
        self._outputs.append(Send(Carrier.ABORT, None))
        self._close(Aborted("local", None, "by the own application"), now)

    def _leave_quietly(self, appl_data: bytes | None, now: Instant) -> None:
        self._close(Aborted("local", None, "by the own application"), now)

    def _leave_environment(self, mnemonic: str, now: Instant) -> None:
        self._outputs.append(Raised(named(mnemonic, peer=self._peer_text)))
        self._outputs.append(Send(Carrier.ABORT, None))
        self._close(Aborted("local", None, f"environment fault {mnemonic}"), now)

    def _aborted(self, taken: TakenControl, now: Instant) -> None:
        """A verified abort of the peer."""
        control: Control = taken.control
        if control.kind is SecPduKind.APPL_ABORT:
            self._close(Aborted("peer", None, "the peer's application aborted"), now)
            return
        group = Group.DT_SEC_ABORT if control.kind is SecPduKind.DT_SEC_ABORT else Group.HANDSHAKE_SEC_ABORT
        diag = control.diag
        self._raise(group, received(group, diag), diag="none" if diag is None else diag)
        names = DtDiag if group is Group.DT_SEC_ABORT else HandshakeDiag
        self._close(Aborted("peer", diag, _diag_text(diag, names)), now)

    def _plain_aborted(self, now: Instant) -> None:
        self._close(Aborted("provider", None, "aborted without a signed reason"), now)

    def _lost(self, now: Instant) -> None:
        self._close(Aborted("provider", None, "connection lost"), now)

    def _overtaken(self, *facts: Any) -> None:
        """The connection went while the last PDU was being signed; the error it was for stays."""
        now: Instant = facts[-1]
        self._close(self._ending[0] if self._ending is not None else None, now)

    # --- time -------------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Say when ``tick`` is due; the last thing every input does."""
        if self._timer is not None:
            self.deadline = self._timer
        elif self.state is State.OPEN:
            self.deadline = self._data_deadline()
        else:
            self.deadline = None


def _diag_text(diag: int | None, names: type[IntEnum]) -> str:
    if diag is None:
        return "the peer raised an alarm and does not say which"
    try:
        return wire_name(names(diag))
    except ValueError:
        return f"diagnostic {diag}"


def _own_failure(error: Exception) -> FastsecError:
    """What a job that failed by our own fault ends the association with."""
    return error if isinstance(error, FastsecError) else Aborted("local", None, "the handshake could not be made")
