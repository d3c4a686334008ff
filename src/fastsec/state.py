"""The phases of an association and the one table that says what each input does in each of them.

``TABLE`` maps every (state, input) to a ``Rule`` or a ``Fault``. A ``Rule`` names the action (a method of
``fastsec.association.Association`` without its leading underscore) and the state it leads to; everything that is not
a rule is filled in by ``fault_of`` as section "States, release, abort" of the specification says, so the table has no
holes. A PDU that needs a signature check is looked up twice: on arrival, so that nothing illegal costs public-key
work, and again when it has verified, because the caller may have acted meanwhile.

The way of a client::

    READY -start-> REQUESTING -request made-> WAITING -HandshakeAcc-> JUDGING -ok-> OPEN

and of a server::

    LISTENING -HandshakeReq-> EXAMINING -ok-> DECIDING -accept-> ACCEPTING -acceptance made-> OPEN

then for both::

    OPEN -release-> RELEASING -ReleaseRsp-> ENDED              RELEASING -ReleaseReq-> CROSSED -ReleaseRsp-> ENDED
    OPEN -ReleaseReq-> ASKED -release_accept-> ANSWERING -> ENDED
    any  -fault or abort-> ENDING -signed and sent-> ENDED
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType


class State(Enum):
    """Where an association stands."""

    __hash__ = object.__hash__  # members are unique; the table is looked up for every input

    READY = "client: not started"
    REQUESTING = "client: HandshakeReq is being signed"
    WAITING = "client: HandshakeReq sent, no answer yet"
    JUDGING = "client: HandshakeAcc is being checked"
    LISTENING = "server: no HandshakeReq yet"
    EXAMINING = "server: HandshakeReq is being checked"
    DECIDING = "server: the application decides"
    ACCEPTING = "server: HandshakeAcc is being signed"
    OPEN = "data transfer"
    RELEASING = "own ReleaseReq sent or being signed"
    ASKED = "the peer's ReleaseReq verified, own queue being flushed"
    ANSWERING = "ReleaseRsp is being signed"
    CROSSED = "both sides sent ReleaseReq"
    ENDING = "the last PDU is being signed"
    ENDED = "over"


class Input(Enum):
    """What can happen to an association."""

    __hash__ = object.__hash__

    # calls of the application
    START = "start()"
    ACCEPT = "accept()"
    REJECT = "reject()"
    SEND = "send()"
    UPDATE_KEYS = "update_keys()"
    RELEASE = "release()"
    RELEASE_ACCEPT = "release_accept()"
    ABORT = "abort()"
    # PDUs of the peer
    HANDSHAKE_REQ = "HandshakeReq"
    HANDSHAKE_ACC = "HandshakeAcc"
    APPLICATION_REJECT = "ApplicationReject"
    HANDSHAKE_SEC_REJECT = "HandshakeSecReject"
    HANDSHAKE_SEC_ABORT = "HandshakeSecAbort"
    DT_SEC_ABORT = "DtSecAbort"
    APPL_ABORT = "ApplAbort"
    TRANSFER = "ClearTransfer or EncrTransfer"
    RELEASE_REQ = "ReleaseReq"
    RELEASE_RSP = "ReleaseRsp"
    # the environment
    PLAIN_REJECT = "association refused without SecPDU"
    PLAIN_ABORT = "abort without SecPDU"
    LOST = "connection lost"
    ENVIRONMENT_FAULT = "fault of the environment"
    # work finished
    REQUEST_MADE = "HandshakeReq signed"
    REQUEST_TAKEN = "HandshakeReq checked"
    ACCEPTANCE_MADE = "HandshakeAcc signed"
    ACCEPTANCE_TAKEN = "HandshakeAcc checked"
    CONTROL_MADE = "control PDU signed"
    KEYS_MADE = "new keys derived"
    PEER_CHECKED = "the peer's certificate was checked again"
    TIMEOUT = "the timer of the state ran out"


class Fault(Enum):
    """What happens to an input that has no rule in a state."""

    CALLER = "StateError is raised to the caller, nothing changes"
    IGNORE = "ignored, with the event PROTOCOL_ERR of that PDU: a reject or abort is never answered"
    SEC_REJECT = "HandshakeSecReject protocol-error"
    SEC_ABORT = "HandshakeSecAbort protocol-error"
    DT_ABORT = "DtSecAbort protocol-error"
    DROP = "dropped without a trace: the association is over, or the work is stale"


@dataclass(frozen=True, slots=True)
class Rule:
    """One legal input.

    Attributes:
        action: method of the association that does the work.
        next: the state afterwards; None leaves it. An action that finds a fault goes to ENDING instead.
        why: what the rule is for.
        when: a property of the association that must be true, else the fault of the pair applies.
    """

    action: str
    next: State | None
    why: str
    when: str = ""
    method: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", f"_{self.action}")


CALLS = frozenset(
    (
        Input.START,
        Input.ACCEPT,
        Input.REJECT,
        Input.SEND,
        Input.UPDATE_KEYS,
        Input.RELEASE,
        Input.RELEASE_ACCEPT,
        Input.ABORT,
    )
)
TERMINAL_PDUS = frozenset(
    (
        Input.APPLICATION_REJECT,
        Input.HANDSHAKE_SEC_REJECT,
        Input.HANDSHAKE_SEC_ABORT,
        Input.DT_SEC_ABORT,
        Input.APPL_ABORT,
    )
)
PDUS = TERMINAL_PDUS | {
    Input.HANDSHAKE_REQ,
    Input.HANDSHAKE_ACC,
    Input.TRANSFER,
    Input.RELEASE_REQ,
    Input.RELEASE_RSP,
}
CLIENT_HANDSHAKE = frozenset((State.READY, State.REQUESTING, State.WAITING, State.JUDGING))
SERVER_HANDSHAKE = frozenset((State.LISTENING, State.EXAMINING, State.DECIDING, State.ACCEPTING))
DATA_STATES = frozenset((State.OPEN, State.RELEASING, State.ASKED, State.ANSWERING, State.CROSSED))
OVER = frozenset((State.ENDING, State.ENDED))


def fault_of(state: State, given: Input) -> Fault:
    """What ``given`` does in ``state`` where no rule stands (62351-4, states)."""
    if given in CALLS:
        # abort() is always allowed; start, accept, send … where they do not belong are a caller's mistake.
        return Fault.DROP if given is Input.ABORT else Fault.CALLER
    if state in OVER:
        return Fault.DROP
    if given in TERMINAL_PDUS:
        return Fault.IGNORE
    if given in PDUS:
        if state in SERVER_HANDSHAKE:
            return Fault.SEC_REJECT
        if state in CLIENT_HANDSHAKE:
            return Fault.SEC_ABORT
        return Fault.DT_ABORT
    return Fault.DROP


S, I = State, Input  # noqa: E741 - the table below reads better with short names

RULES: dict[tuple[State, Input], Rule] = {
    # --- client, handshake ---
    (S.READY, I.START): Rule("make_request", S.REQUESTING, "step 1: ephemeral keys, token1 and signature in one job"),
    (S.REQUESTING, I.REQUEST_MADE): Rule("send_request", S.WAITING, "step 2: HandshakeReq goes out"),
    (S.WAITING, I.HANDSHAKE_ACC): Rule("judge_acceptance", S.JUDGING, "step 7: checks and key derivation in one job"),
    (S.WAITING, I.APPLICATION_REJECT): Rule("rejected", S.ENDED, "the protected protocol refused"),
    (S.WAITING, I.HANDSHAKE_SEC_REJECT): Rule("security_rejected", S.ENDED, "the peer found a fault in our request"),
    (S.WAITING, I.PLAIN_REJECT): Rule("refused", S.ENDED, "the environment refused; unsigned, so no reason to trust"),
    (S.JUDGING, I.ACCEPTANCE_TAKEN): Rule("open_client", S.OPEN, "step 8: keys in place, unconfirmed"),
    # --- server, handshake ---
    (S.LISTENING, I.HANDSHAKE_REQ): Rule("examine_request", S.EXAMINING, "step 3: flood rules, then one job"),
    (S.EXAMINING, I.REQUEST_TAKEN): Rule("indicate", S.DECIDING, "step 4: replay, numbers, negotiation"),
    (S.DECIDING, I.ACCEPT): Rule("make_acceptance", S.ACCEPTING, "step 5: key pair, keys and signature in one job"),
    (S.DECIDING, I.REJECT): Rule("refuse", S.ENDING, "ApplicationReject"),
    (S.ACCEPTING, I.ACCEPTANCE_MADE): Rule("open_server", S.OPEN, "step 6: HandshakeAcc goes out, keys in place"),
    # --- data transfer ---
    (S.OPEN, I.SEND): Rule("seal", None, "protect and send, in this order"),
    (S.OPEN, I.TRANSFER): Rule("take_transfer", None, "verify, then key-update fields, then deliver"),
    (S.OPEN, I.UPDATE_KEYS): Rule("want_new_keys", None, "client: rekey when the distance allows; server: ask"),
    (S.OPEN, I.KEYS_MADE): Rule("use_new_keys", None, "the derivation job of a key update is done"),
    (S.OPEN, I.HANDSHAKE_SEC_ABORT): Rule(
        "aborted", S.ENDED, "the client found a fault in our HandshakeAcc", when="awaits_client"
    ),
    (S.OPEN, I.PEER_CHECKED): Rule("peer_checked", None, "revoked or expired meanwhile: ApplAbort"),
    # --- release ---
    (S.OPEN, I.RELEASE): Rule("ask_release", S.RELEASING, "the caller has flushed its queue"),
    (S.OPEN, I.RELEASE_REQ): Rule("indicate_release", S.ASKED, "the caller flushes, then answers"),
    (S.ASKED, I.SEND): Rule("seal", None, "a receiver that has not asked itself flushes before ReleaseRsp"),
    (S.ASKED, I.TRANSFER): Rule("drop_transfer", None, "after its ReleaseReq a peer sends no data"),
    (S.ASKED, I.RELEASE_ACCEPT): Rule("answer_release", S.ANSWERING, "ReleaseRsp, then over"),
    (S.ASKED, I.KEYS_MADE): Rule("use_new_keys", None, "a carrier may have stood right before ReleaseReq"),
    (S.RELEASING, I.TRANSFER): Rule("take_transfer", None, "the peer flushes; delivered until its ReleaseRsp"),
    (S.RELEASING, I.KEYS_MADE): Rule("use_new_keys", None, "the peer's next transfer needs them"),
    (S.RELEASING, I.RELEASE_RSP): Rule("released", S.ENDED, "orderly end", when="has_signed"),
    (S.RELEASING, I.RELEASE_REQ): Rule("cross_release", S.CROSSED, "the client answers first (X.227)"),
    (S.RELEASING, I.HANDSHAKE_SEC_ABORT): Rule(
        "aborted", S.ENDED, "the client was still judging our HandshakeAcc", when="awaits_client"
    ),
    (S.CROSSED, I.TRANSFER): Rule("drop_transfer", None, "after its ReleaseReq a peer sends no data"),
    (S.CROSSED, I.RELEASE_RSP): Rule(
        "finish_crossed", None, "client: over; server: answers now, then over", when="has_signed"
    ),
    (S.ANSWERING, I.TRANSFER): Rule("drop_transfer", None, "after its ReleaseReq a peer sends no data"),
    # --- the last PDU ---
    (S.ENDING, I.CONTROL_MADE): Rule("send_control", S.ENDED, "reject or abort signed"),
    (S.ENDING, I.TIMEOUT): Rule("give_up", S.ENDED, "the signer does not answer: plain ABRT"),
    (S.ENDING, I.PLAIN_ABORT): Rule("overtaken", S.ENDED, "nothing more can be sent"),
}

for _state in (S.RELEASING, S.CROSSED, S.ANSWERING):
    RULES[_state, I.CONTROL_MADE] = Rule("send_control", None, "ReleaseReq or ReleaseRsp signed")
for _state in (S.RELEASING, S.CROSSED, S.ASKED, S.ANSWERING):
    RULES[_state, I.TIMEOUT] = Rule("release_timed_out", S.ENDING, "peer or own application does not answer: ApplAbort")
RULES[S.OPEN, I.TIMEOUT] = Rule("data_timers", None, "confirmation, key update, re-check, lifetime")
for _state in (S.REQUESTING, S.WAITING, S.JUDGING):
    RULES[_state, I.TIMEOUT] = Rule("give_up", S.ENDED, "plain ABRT: a client that waits for Acc just leaves")
    RULES[_state, I.ABORT] = Rule("leave", S.ENDED, "plain ABRT: a client that waits for Acc just leaves")
RULES[S.READY, I.ABORT] = Rule("leave_quietly", S.ENDED, "nothing was sent")
RULES[S.LISTENING, I.ABORT] = Rule("leave", S.ENDED, "plain ABRT: there is no peer yet")
for _state in (S.EXAMINING, S.DECIDING, S.ACCEPTING):
    RULES[_state, I.ABORT] = Rule("refuse_by_abort", S.ENDING, "between Req and Acc an abort is an ApplicationReject")
    RULES[_state, I.TIMEOUT] = Rule("refuse_late", S.ENDING, "the application or the signer does not answer in time")
for _state in DATA_STATES:
    RULES[_state, I.ABORT] = Rule("abort_data", S.ENDING, "ApplAbort")
    RULES[_state, I.DT_SEC_ABORT] = Rule("aborted", S.ENDED, "the peer found a fault in our data transfer")
    RULES[_state, I.APPL_ABORT] = Rule("aborted", S.ENDED, "the peer's application aborted")
for _state in State:
    if _state not in OVER:
        RULES[_state, I.LOST] = Rule("lost", S.ENDED, "the connection is gone, nothing can be sent")
        RULES[_state, I.ENVIRONMENT_FAULT] = Rule("leave_environment", S.ENDED, "plain ABRT, the environment's event")
        RULES[_state, I.PLAIN_ABORT] = Rule("plain_aborted", S.ENDED, "peer or provider left without a reason")
RULES[S.ENDING, I.LOST] = Rule("overtaken", S.ENDED, "nothing more can be sent")
RULES[S.ENDING, I.ENVIRONMENT_FAULT] = Rule("overtaken", S.ENDED, "nothing more can be sent")

TABLE: MappingProxyType[tuple[State, Input], Rule | Fault] = MappingProxyType(
    {(state, given): RULES.get((state, given)) or fault_of(state, given) for state in State for given in Input}
)
del S, I


def legend() -> str:
    """The rules as text, one per line, for the documentation."""
    lines = []
    for (state, given), rule in RULES.items():
        target = rule.next.name if rule.next else state.name
        condition = f" [{rule.when}]" if rule.when else ""
        lines.append(f"{state.name:<10} {given.value:<36}{condition} -> {target:<10} {rule.why}")
    return "\n".join(lines)
