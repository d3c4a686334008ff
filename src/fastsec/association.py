"""One association, without any input or output of its own: octets, calls and moments go in, ``outputs()`` come out.

``Association`` is what an adapter drives and what most readers need. The rules stand in ``state`` (what may happen
when), ``handshake`` and ``control`` (what is checked), ``key_update`` and ``peers``. The receive path never raises: a
peer's mistake becomes an event, an answer on the wire and ``Ended``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from fastsec.control import TakenControl
from fastsec.data_phase import RECHECK_SOON
from fastsec.engine import OSI, Environment, Role
from fastsec.errors import Aborted, LimitReached, LocalError, PeerError
from fastsec.events import named
from fastsec.faults import Group, received
from fastsec.handshake_phase import HandshakePhase, diag_text
from fastsec.instant import Instant
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
    RolesChanged,
    Run,
    Send,
)
from fastsec.pki.identity import OsiName
from fastsec.profile import DtDiag, HandshakeDiag
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import Control
from fastsec.state import CLIENT_HANDSHAKE, DATA_STATES, OVER, SERVER_HANDSHAKE, Input, State

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
    "RolesChanged",
    "Run",
    "Send",
]


class Association(HandshakePhase):
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
        roles: the verified roles of the peer; () until confirmed, and after the end.
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

    @property
    def key_updates(self) -> int:
        """Key updates completed so far; known after the end too."""
        return self._updates if self._keys is None else self._keys.completed

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
        if self.state in OVER:
            if carrier is Carrier.ABORT and (pdu is None or self._environment.abort_is_final):
                self._dispatch(Input.PLAIN_ABORT, now)  # what is being signed can no longer be sent
            return
        if self.busy:
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.append((carrier, pdu, calling, responding, source, disposition))
            return
        if carrier is Carrier.DATA:
            self._dispatch(Input.TRANSFER, pdu or b"", now)
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

    def environment_fault(self, mnemonic: str, now: Instant, *, reason: str = "", source: str = "") -> None:
        """The environment's own protocol was broken: event of group 15 or 18, plain ABRT, end.

        Arguments:
            mnemonic: of the event.
            reason: what was wrong, for the event.
            source: address of the sender, for the event: it may not have said yet who it is.
        """
        params = {"reason": reason, "source": self._source or source}
        self._dispatch(Input.ENVIRONMENT_FAULT, mnemonic, {k: v for k, v in params.items() if v}, now)
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

    def recheck(self, now: Instant) -> None:
        """What is known about revocation has changed: look at the peer's certificates again, by ``deadline``."""
        if self.state is State.OPEN:
            self._recheck_ms = now.mono_ms
            self._schedule()
        elif self.state in CLIENT_HANDSHAKE | SERVER_HANDSHAKE:
            self._recheck_ms = RECHECK_SOON

    def tick(self, now: Instant) -> None:
        """Time has come to ``deadline``, or ``tx.due`` was seen. Calling it too often does no harm."""
        if self._timer is not None:
            if now.mono_ms >= self._timer:
                self._dispatch(Input.TIMEOUT, now)
        elif self.state is State.OPEN:
            self._dispatch(Input.TIMEOUT, now)
        self._schedule()

    def evict(self, now: Instant) -> None:
        """Unconfirmed for too long while others want in: ApplAbort, or ApplicationReject before HandshakeAcc."""
        limit = LimitReached("OUR_UNCONFIRMED_PER_PEER", "evicted while unconfirmed")
        self._drop_unconfirmed()  # now, not when the last PDU is signed: one place is given away once
        if self.state in SERVER_HANDSHAKE:
            self._reject(SecPduKind.APPLICATION_REJECT, None, None, limit, now, transient=True)
        elif self.state in DATA_STATES:
            self._end_with(limit, now)
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

    def _leave_environment(self, mnemonic: str, params: dict[str, str], now: Instant) -> None:
        self._outputs.append(Raised(named(mnemonic, peer=self._peer_text, **params)))
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
        self._close(Aborted("peer", diag, diag_text(diag, names)), now)

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
