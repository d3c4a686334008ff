"""The states of one OSI connection, all layers together, and what each accepts.

One transport connection carries one session, one presentation connection and one association, so one table is enough.
What a state does not name is a fault of the peer: the connection ends with an ABRT without user data where an
association is under way (62351-4 §9), otherwise with what the layer at fault answers.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from fastsec.envs.osi import cotp, session


class State(Enum):
    """Where a connection is."""

    START = "initiator, nothing sent"
    WAIT_CC = "initiator, CR sent"
    TRANSPORT = "initiator, transport connected"
    WAIT_AC = "initiator, CN with AARQ sent"
    WAIT_CR = "responder, waiting for CR"
    WAIT_CN = "responder, transport connected"
    ASSOCIATING = "responder, AARQ received, answer due"
    OPEN = "associated"
    RELEASING = "RLRQ sent"
    RELEASE_RECEIVED = "RLRQ received, answer due"
    COLLISION = "initiator, RLRQ sent and received, answer due"
    COLLISION_ANSWERED = "initiator, RLRQ sent, received and answered"
    COLLISION_WAIT = "responder, RLRQ sent and received, RLRE awaited first"
    COLLISION_DUE = "responder, RLRQ sent and received, RLRE received, answer due"
    CLOSED = "ended"


class Input(Enum):
    """What can come from the peer."""

    CR = "CR"
    CC = "CC"
    DR = "DR"
    ER = "ER"
    BAD_TPDU = "a TPDU that is malformed or not of class 0"
    CN = "CONNECT"
    AC = "ACCEPT"
    RF = "REFUSE"
    FN = "FINISH"
    DN = "DISCONNECT"
    NF = "NOT FINISHED"
    AB = "ABORT"
    AA = "ABORT ACCEPT"
    DT = "DATA TRANSFER"
    CDO = "CONNECT DATA OVERFLOW or OVERFLOW ACCEPT"
    OTHER_SPDU = "an SPDU that is malformed or of no agreed functional unit"


class Action(Enum):
    """What is done; the values are the names of ``OsiEndpoint``'s methods."""

    ANSWER_CR = "_on_cr"
    TAKE_CC = "_on_cc"
    TAKE_DR = "_on_dr"
    TAKE_ER = "_on_er"
    TAKE_CN = "_on_cn"
    TAKE_AC = "_on_ac"
    TAKE_RF = "_on_rf"
    TAKE_FN = "_on_fn"
    TAKE_DN = "_on_dn"
    TAKE_AB = "_on_ab"
    TAKE_DT = "_on_dt"
    IGNORE = "_on_nothing"


_LOST: Final = {Input.DR: Action.TAKE_DR, Input.ER: Action.TAKE_ER}
_ASSOCIATION: Final = {**_LOST, Input.AB: Action.TAKE_AB}

TABLE: Final[dict[State, dict[Input, Action]]] = {
    State.START: {},
    State.WAIT_CC: {**_LOST, Input.CC: Action.TAKE_CC},
    State.TRANSPORT: _LOST,
    State.WAIT_AC: {**_ASSOCIATION, Input.AC: Action.TAKE_AC, Input.RF: Action.TAKE_RF},
    State.WAIT_CR: {Input.CR: Action.ANSWER_CR},
    State.WAIT_CN: {**_ASSOCIATION, Input.CN: Action.TAKE_CN},
    State.ASSOCIATING: _ASSOCIATION,
    State.OPEN: {**_ASSOCIATION, Input.DT: Action.TAKE_DT, Input.FN: Action.TAKE_FN},
    # Until its DN the other side may still send what it had queued, and may have sent its own FN.
    State.RELEASING: {
        **_ASSOCIATION,
        Input.DT: Action.TAKE_DT,
        Input.FN: Action.TAKE_FN,
        Input.DN: Action.TAKE_DN,
    },
    State.RELEASE_RECEIVED: _ASSOCIATION,
    State.COLLISION: _ASSOCIATION,
    State.COLLISION_ANSWERED: {**_ASSOCIATION, Input.DN: Action.TAKE_DN},
    State.COLLISION_WAIT: {**_ASSOCIATION, Input.DN: Action.TAKE_DN},
    State.COLLISION_DUE: _ASSOCIATION,
    State.CLOSED: dict.fromkeys(Input, Action.IGNORE),
}

# States in which the peer's session machine expects to be told of an abort by AB; before, closing is enough.
SESSION_STATES: Final = frozenset(
    (
        State.WAIT_AC,
        State.ASSOCIATING,
        State.OPEN,
        State.RELEASING,
        State.RELEASE_RECEIVED,
        State.COLLISION,
        State.COLLISION_ANSWERED,
        State.COLLISION_WAIT,
        State.COLLISION_DUE,
    )
)

TPDU_INPUTS: Final = {cotp.CODE_DR: Input.DR, cotp.CODE_ER: Input.ER, cotp.CODE_CR: Input.CR, cotp.CODE_CC: Input.CC}

SPDU_INPUTS: Final = {
    session.SI_GT_DT: Input.DT,
    session.SI_CN: Input.CN,
    session.SI_AC: Input.AC,
    session.SI_RF: Input.RF,
    session.SI_FN: Input.FN,
    session.SI_DN: Input.DN,
    session.SI_NF: Input.NF,
    session.SI_AB: Input.AB,
    session.SI_AA: Input.AA,
    session.SI_CDO: Input.CDO,
    session.SI_OA: Input.CDO,
}
