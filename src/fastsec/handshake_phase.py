"""The handshake of one association: the engine's steps between the jobs of ``fastsec.handshake`` (62351-4 §5, §6)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import cast

from fastsec._core.crypto import sha256
from fastsec.control import TakenControl
from fastsec.data_phase import RECHECK_SOON, DataPhase
from fastsec.engine import internal_fault, present, signing_failed
from fastsec.errors import Aborted, FastsecError, HandshakeError, LimitReached, PeerError, Rejected, SignerError
from fastsec.faults import Group, received
from fastsec.handshake import (
    MadeAcceptance,
    MadeRequest,
    TakenAcceptance,
    TakenRequest,
    make_acceptance,
    make_request,
    offers_encryption_list,
    settle,
    take_acceptance,
    take_request,
)
from fastsec.instant import Instant
from fastsec.key_update import KeyUpdate
from fastsec.keys import first_guards
from fastsec.outputs import AssociateIndication, Disposition, Established, Job, Run, Send
from fastsec.pki.identity import OsiName
from fastsec.profile import HandshakeDiag, wire_name
from fastsec.secpdu.der import decode_client_number
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import Handshake
from fastsec.secpdu.timestamp import time_key
from fastsec.state import Input, State


class HandshakePhase(DataPhase):
    """The actions of an association that is being made."""

    __slots__ = ()

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
        if self.state is State.JUDGING and self._asks_first(job, self._acceptance_taken, now):
            return
        self.busy = False
        self._taken = None
        if self.state is not State.JUDGING:
            if job.error is None:
                job.result.wipe()
        elif job.error is not None:
            self._fail(Group.HANDSHAKE_ACC, internal_fault(SecPduKind.HANDSHAKE_ACC, job), now)
        else:
            try:
                with self._endpoint.replay:
                    self._check_acceptance(job.result, now)
            except PeerError as fault:
                job.result.wipe()
                self._fail(Group.HANDSHAKE_ACC, fault, now)
            except LimitReached as limit:
                job.result.wipe()
                self._answer(int(HandshakeDiag.NO_REASON_GIVEN), limit, now)
            else:
                self._dispatch(Input.ACCEPTANCE_TAKEN, job.result, now)

    def _asks_first(self, job: Job, then: Callable[[Job, Instant], None], now: Instant) -> bool:
        """If the verdict about the peer's certificates needs answers of responders, have them asked and then call
        ``then`` with a job like this one. The job waits with the responders and takes no worker's time meanwhile."""
        taken = job.result
        if job.error is not None or not taken.peer.questions:
            return False
        config = self._endpoint.config
        executor = config.trust.revocation.place(taken.peer.questions)
        self._taken = taken  # so that an end forgets its keys
        self._outputs.append(Run(Job(lambda: settle(taken, config, now.utc_ms), then, executor)))
        return True

    def _check_acceptance(self, taken: TakenAcceptance, now: Instant) -> None:
        """Step 8: replay, numbers, then what the job found later in the order."""
        numbers, name = present(self._numbers), present(self._called).oid
        digest = sha256(taken.h2 + taken.time.encode() + taken.asso_id.encode())
        seen = self._endpoint.replay.remember(name, "A", taken.time, taken.asso_id, digest, now.utc_ms)
        if seen == "replay":
            raise HandshakeError("seen before", check="replay", step="HandshakeAcc.tbs.token1.time")
        if seen == "full":
            raise LimitReached("OUR_REPLAY_PER_PEER", "a replay could not be noticed")
        n, _, m = taken.asso_id.partition(":")
        if n != self._n or not m or numbers.is_live((int(n), int(m))):
            raise HandshakeError("not our number", step="HandshakeAcc.tbs.token1.assoID")
        if taken.later is not None:
            raise taken.later
        if numbers.is_live_elsewhere((int(n), int(m))):
            # No fault of the peer's, which chose m by what it knows. Another number will do.
            self.may_retry = True
            raise LimitReached("OUR_ASSO_NUMBERS", "the pair of numbers is in use with another peer")
        self._pair = (int(n), int(m))
        numbers.hold(self._pair)

    def _open_client(self, taken: TakenAcceptance, now: Instant) -> None:
        made, value, okm = present(self._made), present(taken.value), present(taken.okm)
        self.asso_id = taken.asso_id
        self._params = present(taken.suite).guard_params(taken.asso_id)
        self._note_signed(taken.time)
        self._log_keys(self._params, okm, taken.h2, 0)
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
        self.peer = self._endpoint.share(present(self._called), taken.peer)
        self._opened(now)
        self._outputs.append(Established(taken.appl_data, self.peer, False))
        if present(self._numbers).is_burst(now.mono_ms):
            self._send_null(now)

    def _opened(self, now: Instant) -> None:
        """Both roles: data transfer begins, unconfirmed; the first transfer of the peer comes through the engine."""
        self._timer = None
        self._said = (None, "")
        self._opened_ms = now.mono_ms
        # A list that came while the handshake was under way may name the peer.
        soon = self._recheck_ms == RECHECK_SOON
        self._recheck_ms = now.mono_ms if soon else self._next_recheck(now)
        self._raise_findings(present(self.peer).findings)
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
        self._close(Rejected("peer", diag, diag_text(diag, HandshakeDiag)), now)

    def _refused(self, disposition: Disposition, now: Instant) -> None:
        transient = disposition == "rejected-transient"
        self._close(Rejected("provider", None, "refused without a signed reason", None, transient), now)

    def _give_up(self, now: Instant) -> None:
        """A timer ran out where nothing signed can be sent."""
        self._outputs.append(Send(Carrier.ABORT, None))
        error = self._ending[0] if self._ending is not None else Aborted("local", None, "no answer in time")
        self._close(error, now)

    # --- server, handshake ------------------------------------------------------------------------------------------

    def _request_arrived(self, pdu: bytes, calling: OsiName | None, source: str, now: Instant) -> None:
        """The flood rules come before decoding and before any public-key work."""
        if self.state is not State.LISTENING:
            self._arrived(Carrier.ASSOCIATE_REQ, pdu, now)
            return
        self._source = source
        self._called = calling
        self._said = (sha256(pdu), "")
        if self._endpoint.replay.exact(self._said[0]):
            self._endpoint.refusals.repeats += 1
            fault = HandshakeError("exact repeat", check="replay", step="HandshakeReq")
            self._raise_fault(Group.HANDSHAKE_REQ, fault)
            self._outputs.append(Send(Carrier.ABORT, None))
            self._close(fault, now)
            return
        if not self._endpoint.enter_handshake():
            self._n = decode_client_number(pdu)
            self._reject(
                SecPduKind.APPLICATION_REJECT, None, None, LimitReached("OUR_HALF_OPEN_MAX"), now, transient=True
            )
            return
        self._half_open = True
        self._arrived(Carrier.ASSOCIATE_REQ, pdu, now)

    def _examine_request(self, kind: SecPduKind, pdu: Handshake, now: Instant) -> None:
        """Step 3."""
        endpoint, calling = self._endpoint, self._called
        config, refuse_before = endpoint.config, endpoint.refuse_before
        self._n = pdu.token1.asso_id.partition(":")[0]
        self._timer = now.mono_ms + self._environment.handshake_timeout_s * 1000
        self._receive_job(lambda: take_request(pdu, config, calling, refuse_before, now.utc_ms), self._request_taken)

    def _request_taken(self, job: Job, now: Instant) -> None:
        if self.state is State.EXAMINING and self._asks_first(job, self._request_taken, now):
            return
        self.busy = False
        self._taken = None
        if self.state is not State.EXAMINING:
            return
        if job.error is not None:
            self._fail(Group.HANDSHAKE_REQ, internal_fault(SecPduKind.HANDSHAKE_REQ, job), now)
            return
        try:
            with self._endpoint.replay:  # of several processes only one decides at a time
                admitted = self._check_request(job.result, now)
        except PeerError as fault:
            self._fail(Group.HANDSHAKE_REQ, fault, now)
            return
        except LimitReached as limit:
            self._endpoint.refusals.sharing += 1
            self._reject(SecPduKind.APPLICATION_REJECT, None, None, limit, now, transient=True)
            return
        if admitted is None:
            self._dispatch(Input.REQUEST_TAKEN, job.result, now)
        else:
            self._reject(SecPduKind.APPLICATION_REJECT, None, None, LimitReached(admitted), now, transient=True)

    def _check_request(self, taken: TakenRequest, now: Instant) -> str | None:
        """Step 4: replay, numbers, then what the job found later in the order; the limit that refuses, or None."""
        name = taken.name.oid
        refuse_before = self._endpoint.refuse_before
        if refuse_before is not None and time_key(taken.time) < refuse_before:  # found out since the job began
            raise HandshakeError("time before our start", check="time", step="HandshakeReq.tbs.token1.time")
        seen = self._endpoint.replay.remember(name, "Q", taken.time, taken.number, self._said[0], now.utc_ms)
        if seen == "replay":
            raise HandshakeError("seen before", check="replay", step="HandshakeReq.tbs.token1.time")
        if seen == "full":
            self._endpoint.refusals.memory += 1
            return "OUR_REPLAY_PER_PEER"
        if taken.later is not None and taken.later.step.endswith(".assoID"):
            raise taken.later
        numbers, n = self._endpoint.numbers(name), int(taken.number)
        if numbers.is_served(n, now):
            raise HandshakeError("client number is live", step="HandshakeReq.tbs.token1.assoID")
        if taken.later is not None:
            raise taken.later
        m = numbers.choose_server_number(n, now)
        if m is None:
            self._endpoint.refusals.numbers += 1
            return "OUR_ASSO_NUMBERS"
        if not self._endpoint.admit_unconfirmed(self, name, now):
            return "OUR_UNCONFIRMED_PER_PEER"
        numbers.live_as_server.add(n)
        numbers.hold((n, m), served=True)
        self._numbers, self._n, self._pair = numbers, taken.number, (n, m)
        return None

    def _indicate(self, taken: TakenRequest, now: Instant) -> None:
        """The application decides."""
        self._taken = taken
        self._policy = self._endpoint.config.policy_for(taken.name)
        self.peer = self._endpoint.share(taken.name, taken.peer)
        self._note_signed(taken.time)
        self._outputs.append(AssociateIndication(taken.appl_data, self.peer))

    def _make_acceptance(self, appl_data: bytes, now: Instant) -> None:
        """Step 5."""
        taken = cast(TakenRequest, present(self._taken))
        pair, config = present(self._pair), self._endpoint.config
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
        elif isinstance(job.error, SignerError):
            # A signed refusal would need the same signer.
            self._outputs.append(Send(Carrier.ASSOCIATE_RSP, None, "rejected-transient"))
            self._close(signing_failed(job.error), now)
        elif job.error is not None:
            self._answer(int(HandshakeDiag.NO_REASON_GIVEN), _own_failure(job.error), now)
        else:
            self._dispatch(Input.ACCEPTANCE_MADE, job.result, now)

    def _open_server(self, made: MadeAcceptance, now: Instant) -> None:
        """Step 6."""
        taken, pair = cast(TakenRequest, present(self._taken)), present(self._pair)
        self.asso_id = f"{pair[0]}:{pair[1]}"
        self._params = present(taken.suite).guard_params(self.asso_id)
        self._log_keys(self._params, made.okm, made.h2, 0)
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


def diag_text(diag: int | None, names: type[IntEnum]) -> str:
    if diag is None:
        return "the peer raised an alarm and does not say which"
    try:
        return wire_name(names(diag))
    except ValueError:
        return f"diagnostic {diag}"


def _own_failure(error: Exception) -> FastsecError:
    """What a job that failed by our own fault ends the association with."""
    if isinstance(error, SignerError):
        return signing_failed(error)
    return error if isinstance(error, FastsecError) else Aborted("local", None, "the handshake could not be made")
