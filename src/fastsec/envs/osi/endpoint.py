"""One side of one OSI connection: transport, session, presentation and ACSE in one sans-I/O object.

The adapter owns the channel's receiving side: it feeds octets to the channel and hands each irregular frame to
``receive_tpdu``; it sends what ``data_to_send`` returns. The data phase goes through the channel alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeVar

from fastsec import limits, profile
from fastsec._core.tpkt import tpkt
from fastsec.envs.osi import acse, cotp, presentation, session
from fastsec.envs.osi.answer import Answer
from fastsec.envs.osi.checks import (
    ACSE_PROT_ERR,
    AUTH_MECH_NOT_USED_ABT,
    AUTH_MECH_NOT_USED_RQ,
    OSI_ENV_PROT_ERR,
    OSI_INV_PCI,
    UNAUTHENTICATED,
    Fault,
    check_aare,
    check_aarq,
    check_authentication,
    check_connect,
    check_outcome,
    check_password,
    information,
    proof_of,
    rejection_fault,
    selector_refused,
)
from fastsec.envs.osi.indications import (
    AbortInd,
    AssociateCnf,
    AssociateInd,
    DataInd,
    EnvFault,
    Indication,
    ProviderAbort,
    ReleaseCnf,
    ReleaseInd,
    Result,
    TransportConnected,
)
from fastsec.envs.osi.size import checked_request
from fastsec.envs.osi.states import SESSION_STATES, SPDU_INPUTS, TABLE, TPDU_INPUTS, Input, State
from fastsec.errors import ConfigError, DecodeError, LocalError, StateError

if TYPE_CHECKING:
    from fastsec._core.osidata import OsiChannel
    from fastsec.envs.osi.params import OsiParams

_RESULTS: Final[tuple[Result, ...]] = ("accepted", "rejected-permanent", "rejected-transient")
_TRANSPORT_STATES: Final = frozenset((State.START, State.WAIT_CC, State.WAIT_CR))

_A = TypeVar("_A", acse.Aarq, acse.Aare, acse.Release, acse.Abort)


class OsiEndpoint:
    """One side of one connection.

    Arguments:
        role: ``initiator`` calls, ``responder`` answers.
        params: addresses and settings.
        channel: splits and frames; the endpoint sets its TPDU sizes and uses ``frame`` and nothing else of it.

    Attributes:
        state: see ``fastsec.envs.osi.states``.
        tpdu_size: agreed TPDU size in octets, once the transport is connected.
        mms_context_id, e2e_context_id: numbers of the presentation contexts agreed on, or None; with the A-profile the
            second is the one for mmsAuthenticationAS.

    After each call the adapter sends ``data_to_send()``; when ``closed`` it then closes the TCP connection.
    Calls that the state does not allow raise StateError; whatever the peer does comes out as an indication.
    """

    # A server has many of these idle: what only the handshake needs hangs on params or _answer.
    __slots__ = (
        "_acse_context_id",
        "_answer",
        "_deferred",
        "_out",
        "_peer_reference",
        "channel",
        "e2e_context_id",
        "mms_context_id",
        "params",
        "role",
        "state",
        "tpdu_size",
    )

    def __init__(self, role: Literal["initiator", "responder"], params: OsiParams, channel: OsiChannel) -> None:
        if role not in ("initiator", "responder"):
            raise LocalError("role is initiator or responder")
        if role == "initiator" and params.security:
            remote = params.remote
            if not isinstance(remote.ap_title, str) or not isinstance(remote.ae_qualifier, int):
                raise ConfigError("end-to-end security needs the AP-title (OID) and AE-qualifier that are called")
        self.role = role
        self.params = params
        self.channel = channel
        self.state = State.START if role == "initiator" else State.WAIT_CR
        self.tpdu_size = 0
        self.mms_context_id: int | None = None
        self.e2e_context_id: int | None = None
        self._acse_context_id: int | None = None
        self._out: list[bytes] = []
        self._peer_reference = 0
        self._answer: Answer | None = None
        self._deferred: bytes | None = None

    # --- what the adapter asks --------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the connection has ended; nothing more is sent or reported."""
        return self.state is State.CLOSED

    @property
    def data_context_id(self) -> int | None:
        """The presentation context of the data phase: e2eSecurityAS with security, else MMS."""
        return self.e2e_context_id if self.params.security else self.mms_context_id

    def data_to_send(self) -> bytes:
        """Take the octets to send; b"" if there are none."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data

    # --- what the adapter does --------------------------------------------------------------------------------------

    def connect_transport(self) -> None:
        """Initiator: send CR."""
        self._need(State.START)
        self._out.append(tpkt(cotp.encode_connect(self.params.connect_request)))
        self.state = State.WAIT_CC

    def associate(self, user_data: bytes, proof: bytes | None = None) -> None:
        """Initiator: send CN with CP and AARQ.

        Arguments:
            user_data: the HandshakeReq, or the MMS initiate-Request.
            proof: A-profile, needed: the MMS-Authentication-value.
        Errors:
            LimitReached: more than 10 240 octets of CONNECT user data; nothing is sent, the text names the part.
        """
        self._need(State.TRANSPORT)
        request = checked_request(self.params, user_data, self.params.proof(proof))
        for number, syntax in self.params.contexts_offered:
            self._agree(syntax, number)
        self._send(session.encode_connect(self.params.cn_header, request))
        self.state = State.WAIT_AC

    def accept(self, user_data: bytes, proof: bytes | None = None) -> None:
        """Responder: answer AssociateInd with the HandshakeAcc (as ``A0`` CHOICE) or the MMS initiate-Response.

        Arguments:
            proof: A-profile, needed: the MMS-Authentication-value.
        """
        self._need(State.ASSOCIATING)
        answer = self._noted()
        fields = answer.accepting_fields(self.params, proof)
        apdu = acse.encode_aare(fields, (self._data_number(), user_data))
        ppdu = presentation.encode_accept(answer.psel, answer.results, self._acse_number(), apdu)
        self._send(session.encode_accept(answer.ssel, ppdu, answer.version))
        self._answer = None
        self.state = State.OPEN

    def reject(self, user_data: bytes | None, *, permanent: bool = True, diagnostic: int = acse.NO_REASON) -> None:
        """Responder: refuse the association; the connection ends.

        Arguments:
            user_data: ApplicationReject or HandshakeSecReject (CHOICE form), MMS initiate-Error, or None.
            permanent: result rejected-permanent, else rejected-transient.
            diagnostic: of acse-service-user, default no-reason-given (62351-4 §9).
        """
        self._need(State.ASSOCIATING)
        busy = user_data is None and self.params.security and not permanent  # an AARE without SecPDU would be a fault
        outcome = (acse.REJECTED_PERMANENT if permanent else acse.REJECTED_TRANSIENT, acse.SOURCE_USER, diagnostic)
        self._send(session.encode_refuse(session.RF_CONGESTION) if busy else self._refusal(outcome, user_data))
        self._answer = None
        self.state = State.CLOSED

    def data(self, pdu: bytes) -> None:
        """Send one PDU of the data phase (the slow path; the channel's ``seal`` is the fast one)."""
        self._need(State.OPEN, State.RELEASE_RECEIVED)
        self._send(session.encode_data(presentation.user_data(self._data_number(), pdu)))

    def release(self, user_data: bytes | None = None) -> None:
        """Send FN with RLRQ; ``user_data`` is the ReleaseReq, None without security.

        The peer's RLRQ may have come while the ReleaseReq was being signed: that is a collision as any other.
        """
        self._need(State.OPEN, State.RELEASE_RECEIVED)
        self._send(session.encode_finish(self._release(acse.TAG_RLRQ, user_data)))
        if self.state is State.OPEN:
            self.state = State.RELEASING
        else:
            self.state = State.COLLISION if self.role == "initiator" else State.COLLISION_WAIT

    def release_response(self, user_data: bytes | None = None) -> None:
        """Answer ReleaseInd; ``user_data`` is the ReleaseRsp, None without security."""
        self._need(State.RELEASE_RECEIVED, State.COLLISION, State.COLLISION_WAIT, State.COLLISION_DUE)
        tsdu = session.encode_disconnect(self._release(acse.TAG_RLRE, user_data))
        if self.state is State.COLLISION_WAIT:
            if self._deferred is not None:
                raise StateError("release_response was called already")
            self._deferred = tsdu
            return
        self._send(tsdu)
        self.state = State.COLLISION_ANSWERED if self.state is State.COLLISION else State.CLOSED

    def abort(self, user_data: bytes | None = None) -> None:
        """End the connection in whatever state it is: ABRT where the peer waits for one, else just closed.

        Arguments:
            user_data: HandshakeSecAbort, DtSecAbort or ApplAbort in CHOICE form, or None.
        """
        if self.state in SESSION_STATES:
            self._send(self._abort(acse.ABORT_BY_USER, user_data))
        self.state = State.CLOSED

    def provider_abort(self) -> None:
        """End the connection with a P-ABORT, as the A-profile does when authentication fails. No reason is given."""
        if self.state in SESSION_STATES:
            self._send(session.encode_abort(presentation.encode_provider_abort(presentation.ARP_NOT_SPECIFIED)))
        self.state = State.CLOSED

    def receive_tpdu(self, code: int, tpdu: bytes) -> list[Indication]:
        """Take what the channel's ``next`` returned.

        Arguments:
            code: 0xF0 for a complete TSDU, else the TPDU code.
            tpdu: the TSDU, or the TPDU from its length indicator on.
        Returns:
            what it means, in order; empty once the connection has ended.
        """
        state = self.state
        if state is State.CLOSED:
            return []
        pdu: session.Spdu | cotp.Tpdu | None = None
        if code == cotp.CODE_DT:
            try:
                pdu = session.decode(tpdu)
                kind = SPDU_INPUTS.get(pdu.si, Input.OTHER_SPDU)
                what = kind.value
            except DecodeError as error:
                kind = Input.OTHER_SPDU
                what = f"{error.step}: {error}"
        else:
            try:
                pdu = cotp.decode(tpdu)
                kind = TPDU_INPUTS[tpdu[1] & 0xF0]
                what = kind.value
            except DecodeError as error:
                kind = Input.BAD_TPDU
                what = f"{error.step}: {error}"
        action = TABLE[state].get(kind)
        try:
            if action is None:
                raise Fault(OSI_ENV_PROT_ERR, f"unexpected: {what}", self._transport_answer(kind))
            found: list[Indication] = getattr(self, action.value)(pdu)
        except Fault as fault:
            return self._fault(fault)
        except DecodeError as error:
            return self._fault(Fault(OSI_ENV_PROT_ERR, f"{error.step}: {error}"))
        return found

    # --- transport --------------------------------------------------------------------------------------------------

    def _on_cr(self, request: cotp.Connect) -> list[Indication]:
        if not request.class_0:
            self._refuse_transport(request, cotp.DR_NEGOTIATION_FAILED, "transport class 0 not proposed")
        if selector_refused(request.called, self.params.local.tsel, self.params):
            self._refuse_transport(request, cotp.DR_ADDRESS_UNKNOWN, "called T-selector is not ours")
        confirm = cotp.answer(request, cotp.REFERENCE, self.params.tpdu_size)
        self._peer_reference = request.src
        self._out.append(tpkt(cotp.encode_connect(confirm)))
        self._connected(confirm.preferred or confirm.size or limits.OUR_TPDU_SIZE_CLASSIC, explicit=True)
        self.state = State.WAIT_CN
        return [TransportConnected()]

    def _refuse_transport(self, request: cotp.Connect, reason: int, text: str) -> NoReturn:
        raise Fault(OSI_ENV_PROT_ERR, text, tpkt(cotp.encode_disconnect(request.src, 0, reason)))

    def _on_cc(self, confirm: cotp.Connect) -> list[Indication]:
        # The references are not compared: a device in the field answers with another number, and nothing hangs on it.
        if not confirm.class_0:
            raise Fault(OSI_ENV_PROT_ERR, "CC selects another class than 0")
        self._peer_reference = confirm.src
        explicit = confirm.size is not None or confirm.preferred is not None
        self._connected(cotp.agreed_size(self.params.connect_request, confirm), explicit=explicit)
        self.state = State.TRANSPORT
        return [TransportConnected()]

    def _connected(self, size: int, *, explicit: bool) -> None:
        self.tpdu_size = self.channel.tpdu_size = size
        if explicit:
            # A peer that names no size may send what RFC 1006 allows; the channel starts with that.
            self.channel.tpdu_max = size

    def _on_dr(self, pdu: cotp.Disconnect) -> list[Indication]:
        refused = "refused" if self.state is State.WAIT_CC else "disconnected"
        self.state = State.CLOSED
        return [ProviderAbort(f"transport {refused}: {pdu.text}")]

    def _on_er(self, pdu: cotp.Error) -> list[Indication]:
        self.state = State.CLOSED
        return [ProviderAbort(f"transport error reported by the peer, cause {pdu.cause}")]

    def _transport_answer(self, kind: Input) -> bytes | None:
        """ER for what no transport state machine expects, but never to a DR or ER."""
        if self.state in _TRANSPORT_STATES and kind not in (Input.DR, Input.ER):
            return tpkt(cotp.encode_error(self._peer_reference, cotp.ER_INVALID_TPDU_TYPE))
        return None

    # --- association, responder -------------------------------------------------------------------------------------

    def _on_cn(self, spdu: session.Spdu) -> list[Indication]:
        self._check_cn(spdu)
        # From here on the peer's session machine waits for an answer, so a fault is answered by an abort.
        self.state = State.ASSOCIATING
        cp = presentation.decode_connect(spdu.user_data)
        local = self.params.local
        version = session.VERSION_2 if spdu.version & session.VERSION_2 else session.VERSION_1
        answer = self._answer = Answer(
            local.ssel if spdu.called is None else spdu.called,
            local.psel if cp.called is None else cp.called,
            self.params.context_name,
            version,
        )
        answer.results = self._judge_contexts(cp.contexts)
        if not cp.version_1:
            self._refuse_presentation(presentation.CPR_VERSION, "presentation version 1 not proposed")
        if selector_refused(cp.called, local.psel, self.params):
            self._refuse_presentation(presentation.CPR_ADDRESS_UNKNOWN, "called P-selector is not ours")
        aarq = self._apdu(cp.user_data, acse.Aarq)
        if aarq.context_name in self.params.contexts_taken:
            answer.context_name = aarq.context_name
        answer.authenticated = self._check_request(aarq)
        user_data = information(aarq.user_information, self.data_context_id, self.params.security)
        if user_data is None:
            raise Fault(ACSE_PROT_ERR, "AARQ without user-information")
        given = aarq.authentication
        proof = None
        if self.params.a_profile:
            answer.proof = proof_of(given, self.e2e_context_id, AUTH_MECH_NOT_USED_RQ)
            proof = answer.proof.value
        password = None if self.params.a_profile else given.password
        names = aarq.calling, aarq.called
        return [AssociateInd(user_data, *names, aarq.context_name, given.mechanism, password, proof)]

    def _check_cn(self, spdu: session.Spdu) -> None:
        refusal = check_connect(spdu, self.params)
        if refusal is not None:
            reason, text = refusal
            raise Fault(OSI_ENV_PROT_ERR, text, self.channel.frame(session.encode_refuse(reason)))

    def _refuse_presentation(self, reason: int, text: str) -> NoReturn:
        answer = self._noted()
        ppdu = presentation.encode_refuse(answer.psel, answer.results, provider_reason=reason)
        tsdu = session.encode_refuse(session.RF_CALLED_USER_DATA, ppdu)
        raise Fault(OSI_ENV_PROT_ERR, text, self.channel.frame(tsdu))

    def _judge_contexts(self, proposed: tuple[presentation.Context, ...]) -> tuple[int, ...]:
        known = {syntax for _, syntax in self.params.contexts_offered}
        results = []
        for context in proposed:
            if context.abstract_syntax in known and context.ber:
                results.append(presentation.ACCEPTANCE)
                self._agree(context.abstract_syntax, context.id)
            else:
                results.append(presentation.PROVIDER_REJECTION)
        if self._acse_context_id is None:
            raise Fault(OSI_ENV_PROT_ERR, "ACSE context not proposed")
        return tuple(results)

    def _check_request(self, aarq: acse.Aarq) -> bool:
        """All checks of the AARQ but the user-information. Returns whether a password was asked for and is right."""
        objection = check_aarq(aarq, self.params, self.data_context_id)
        if objection is None and self.params.a_profile:
            objection = check_authentication(aarq.authentication)
        if objection is None and self.params.password is not None:
            objection = check_password(aarq.authentication, self.params.password)
        if objection is None:
            return self.params.password is not None
        reply = None
        if not self.params.security:
            outcome = (acse.REJECTED_PERMANENT, objection.source, objection.diagnostic)
            reply = self.channel.frame(self._refusal(outcome, None))
        raise Fault(objection.mnemonic, objection.text, reply)

    def _refusal(self, outcome: tuple[int, int, int], user_data: bytes | None) -> bytes:
        carried = None if user_data is None else (self._data_number(), user_data)
        answer = self._noted()
        apdu = acse.encode_aare(acse.aare_fields(answer.context_name, self.params.local.title, outcome), carried)
        ppdu = presentation.encode_refuse(answer.psel, answer.results, (self._acse_number(), apdu))
        return session.encode_refuse(session.RF_CALLED_USER_DATA, ppdu)

    # --- association, initiator -------------------------------------------------------------------------------------

    def _on_ac(self, spdu: session.Spdu) -> list[Indication]:
        if spdu.requirements is not None and not spdu.requirements & session.DUPLEX:
            raise Fault(OSI_ENV_PROT_ERR, "duplex functional unit not accepted")
        cpa = presentation.decode_accept(spdu.user_data)
        self._take_results(cpa.results)
        aare = self._apdu(cpa.user_data, acse.Aare)
        if aare.result != acse.ACCEPTED:
            return self._rejected(aare)
        check_aare(aare, self.params, self.data_context_id)
        user_data = information(aare.user_information, self.data_context_id, self.params.security)
        if user_data is None:
            raise Fault(ACSE_PROT_ERR, "AARE without user-information")
        if self.params.security:
            check_outcome(aare.result, user_data)
        proof = None
        if self.params.a_profile:
            proof = proof_of(aare.authentication, self.e2e_context_id, AUTH_MECH_NOT_USED_ABT).value
        self.state = State.OPEN
        return [AssociateCnf("accepted", aare.diagnostic, "accepted", user_data, aare.responding, proof)]

    def _on_rf(self, spdu: session.Spdu) -> list[Indication]:
        self.state = State.CLOSED
        if not spdu.user_data:
            return [ProviderAbort(f"session refused: {session.refuse_text(spdu.reason)}")]
        cpr = presentation.decode_refuse(spdu.user_data)
        if cpr.provider_reason is not None or not cpr.user_data:
            return [ProviderAbort(f"presentation refused: {presentation.refuse_text(cpr.provider_reason or 0)}")]
        aare = self._apdu(cpr.user_data, acse.Aare)
        if aare.result == acse.ACCEPTED:
            raise Fault(ACSE_PROT_ERR, "accepting AARE in a refusal")
        return self._rejected(aare)

    def _rejected(self, aare: acse.Aare) -> list[Indication]:
        # An AARE that rejects ends the association by itself; it is not answered.
        self.state = State.CLOSED
        if self.params.security:
            fault = rejection_fault(aare)
            if fault is not None:
                raise fault
        user_data = information(aare.user_information, self.data_context_id, self.params.security)
        if user_data is not None and self.params.security:
            check_outcome(aare.result, user_data)
        text = acse.diagnostic_text(aare.source, aare.diagnostic)
        return [AssociateCnf(_RESULTS[aare.result], aare.diagnostic, text, user_data, aare.responding)]

    def _take_results(self, results: tuple[int, ...] | None) -> None:
        offered = self.params.contexts_offered
        if results is None or len(results) != len(offered):
            raise Fault(OSI_ENV_PROT_ERR, "result list does not fit the contexts proposed")
        for (_, syntax), result in zip(offered, results, strict=True):
            if result != presentation.ACCEPTANCE:
                if syntax == profile.OID_ACSE_AS:
                    raise Fault(OSI_ENV_PROT_ERR, "ACSE context not accepted")
                if syntax == profile.OID_MMS_AS:
                    self.mms_context_id = None
                else:
                    self.e2e_context_id = None

    # --- data, release, abort ---------------------------------------------------------------------------------------

    def _on_dt(self, spdu: session.Spdu) -> list[Indication]:
        found: list[Indication] = []
        wanted = self.data_context_id
        for context, value in presentation.decode_user_data(spdu.user_data):
            if context != wanted:
                raise Fault(OSI_INV_PCI, f"data in presentation context {context}")
            found.append(DataInd(context, value))
        return found

    def _on_fn(self, spdu: session.Spdu) -> list[Indication]:
        if not self.params.security and spdu.user_data[:1] == b"\xa0":
            return self._on_ab(spdu)  # a peer in the field puts its ARU with ABRT into FN instead of AB
        user_data = self._released(spdu, acse.TAG_RLRQ)
        collision = self.state is State.RELEASING
        if not collision:
            self.state = State.RELEASE_RECEIVED
        else:
            self.state = State.COLLISION if self.role == "initiator" else State.COLLISION_WAIT
        return [ReleaseInd(user_data, collision)]

    def _on_dn(self, spdu: session.Spdu) -> list[Indication]:
        user_data = self._released(spdu, acse.TAG_RLRE)
        if self.state is not State.COLLISION_WAIT:
            self.state = State.CLOSED
        elif self._deferred is None:
            self.state = State.COLLISION_DUE
        else:
            self._send(self._deferred)
            self.state = State.CLOSED
        return [ReleaseCnf(user_data)]

    def _released(self, spdu: session.Spdu, tag: int) -> bytes | None:
        if not spdu.user_data and not self.params.security:
            return None  # a peer in the field leaves presentation and ACSE out of its release
        apdu = self._apdu(presentation.decode_user_data(spdu.user_data), acse.Release)
        if apdu.tag != tag:
            raise Fault(ACSE_PROT_ERR, "RLRQ and RLRE confused")
        user_data = information(apdu.user_information, self.data_context_id, self.params.security)
        if user_data is None and self.params.security:
            raise Fault(ACSE_PROT_ERR, "release without a SecPDU")
        return user_data

    def _on_ab(self, spdu: session.Spdu) -> list[Indication]:
        # An abort is never answered, whatever it holds.
        early = self.state is State.WAIT_CN
        self.state = State.CLOSED
        if early or not spdu.user_data:
            return [ProviderAbort("session aborted")]
        abort = presentation.decode_abort(spdu.user_data)
        if abort.provider:
            return [ProviderAbort(f"presentation aborted: {abort.text}")]
        if not abort.user_data:
            return [AbortInd("user", None)]
        apdu = self._apdu(abort.user_data, acse.Abort)
        user_data = information(apdu.user_information, self.data_context_id, self.params.security)
        return [AbortInd("provider" if apdu.source == acse.ABORT_BY_PROVIDER else "user", user_data)]

    def _on_nothing(self, pdu: object) -> list[Indication]:
        return []

    # --- shared -----------------------------------------------------------------------------------------------------

    def _apdu(self, values: tuple[presentation.Pdv, ...], kind: type[_A]) -> _A:
        """The one ACSE APDU among presentation data values; it must be of this kind."""
        if len(values) != 1:
            raise Fault(OSI_ENV_PROT_ERR, f"{len(values)} presentation data values where one ACSE APDU belongs")
        context, value = values[0]
        if context != self._acse_context_id:
            raise Fault(OSI_INV_PCI, f"ACSE APDU in presentation context {context}")
        try:
            apdu = acse.decode(value)
        except DecodeError as error:
            raise Fault(ACSE_PROT_ERR, f"{error.step}: {error}") from None
        if not isinstance(apdu, kind):
            raise Fault(ACSE_PROT_ERR, f"{type(apdu).__name__} where {kind.__name__} belongs")
        return apdu

    def _agree(self, syntax: str, number: int) -> None:
        """Note the number of a presentation context; a syntax proposed twice goes by its first number."""
        if syntax == profile.OID_ACSE_AS:
            if self._acse_context_id is None:
                self._acse_context_id = number
        elif syntax == profile.OID_MMS_AS:
            if self.mms_context_id is None:
                self.mms_context_id = number
        elif self.e2e_context_id is None:
            self.e2e_context_id = number

    def _noted(self) -> Answer:
        if self._answer is None:
            raise StateError("no request is being answered")
        return self._answer

    def _acse_number(self) -> int:
        # Before the contexts are agreed on, number 1 is the one every stack gives to ACSE.
        return profile.CONTEXT_ACSE if self._acse_context_id is None else self._acse_context_id

    def _data_number(self) -> int:
        number = self.data_context_id
        if number is None:
            raise StateError("no presentation context for data was agreed on")
        return number

    def _release(self, tag: int, user_data: bytes | None) -> bytes:
        if user_data is None and self.params.security:
            raise LocalError("with security a release carries a SecPDU")
        carried = None if user_data is None else (self._data_number(), user_data)
        return presentation.user_data(self._acse_number(), acse.encode_release(tag, carried))

    def _abort(self, source: int, user_data: bytes | None) -> bytes:
        carried = None
        if user_data is not None and self.data_context_id is not None:
            carried = (self.data_context_id, user_data)
        number = self._acse_number()
        return session.encode_abort(presentation.encode_abort(number, acse.encode_abort(source, carried)))

    def _fault(self, fault: Fault) -> list[Indication]:
        if fault.reply is not None:
            self._out.append(fault.reply)
        elif self.params.a_profile and fault.mnemonic in UNAUTHENTICATED:
            self.provider_abort()
        elif self.state in SESSION_STATES:
            # 62351-4 §9 wants source service-user without a diagnostic; a plain peer is told that the provider ends it.
            source = acse.ABORT_BY_USER if self.params.security else acse.ABORT_BY_PROVIDER
            self._send(self._abort(source, None))
        self.state = State.CLOSED
        return [EnvFault(fault.mnemonic, fault.text)]

    def _send(self, tsdu: bytes) -> None:
        self._out.append(self.channel.frame(tsdu))

    def _need(self, *states: State) -> None:
        if self.state not in states:
            raise StateError(f"not possible while: {self.state.value}")
