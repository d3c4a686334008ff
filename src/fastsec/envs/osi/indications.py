"""What an ``OsiEndpoint`` reports to its adapter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fastsec.envs.osi.names import AeTitle

Result = Literal["accepted", "rejected-permanent", "rejected-transient"]


@dataclass(frozen=True, slots=True)
class TransportConnected:
    """CR and CC have been exchanged; an initiator may associate now."""


@dataclass(frozen=True, slots=True)
class AssociateInd:
    """An AARQ came; answer with ``accept`` or ``reject``.

    Attributes:
        user_data: the SecPDU, or the MMS initiate-Request where there is no security.
        calling, called: names of the two sides as the AARQ has them.
        application_context: dotted.
        mechanism: mechanism-name, dotted, or None.
        password: the ACSE password received, or None.
        proof: the MMS-Authentication-value received (A-profile), or None. Nothing of it has been looked at.
    """

    user_data: bytes
    calling: AeTitle
    called: AeTitle
    application_context: str
    mechanism: str | None = None
    password: bytes | None = field(default=None, repr=False)
    proof: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AssociateCnf:
    """The answer to ``associate``.

    Attributes:
        result: ``accepted``, ``rejected-permanent`` or ``rejected-transient``. A rejection ends the connection.
        diagnostic: number of the AARE's diagnostic; ``text`` has its words.
        user_data: the SecPDU, or the MMS initiate-Response or -Error; None only without security.
        responding: name of the peer as the AARE has it.
        proof: as in ``AssociateInd``; there whenever the A-profile's association is accepted.
    """

    result: Result
    diagnostic: int
    text: str
    user_data: bytes | None
    responding: AeTitle
    proof: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DataInd:
    """Data that did not take the channel's fast path: the SecPDU, or the MMS PDU."""

    context_id: int
    pdu: bytes


@dataclass(frozen=True, slots=True)
class ReleaseInd:
    """An RLRQ came; answer with ``release_response``.

    Attributes:
        user_data: the ReleaseReq, or None without security.
        collision: ``release`` was called here too. The initiator of the association answers first; a responder's
            answer waits by itself until the initiator's has come (X.227 7.2.3).
    """

    user_data: bytes | None
    collision: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseCnf:
    """The RLRE came: ``user_data`` is the ReleaseRsp, or None without security."""

    user_data: bytes | None


@dataclass(frozen=True, slots=True)
class AbortInd:
    """The peer aborted; the connection has ended.

    Attributes:
        source: ``user`` or ``provider`` as the ABRT says.
        user_data: the SecPDU of the abort, or None.
    """

    source: Literal["user", "provider"]
    user_data: bytes | None


@dataclass(frozen=True, slots=True)
class ProviderAbort:
    """A layer below ACSE refused or ended the connection; ``reason`` is for the log."""

    reason: str


@dataclass(frozen=True, slots=True)
class EnvFault:
    """The peer broke a rule of the environment; the connection has ended and an ABRT without user data, or what the
    layer at fault answers, is in ``data_to_send``.

    Attributes:
        mnemonic: event of group 15 of domain IEC62351-4.
        text: what was wrong, for the log.
    """

    mnemonic: str
    text: str


Indication = (
    TransportConnected
    | AssociateInd
    | AssociateCnf
    | DataInd
    | ReleaseInd
    | ReleaseCnf
    | AbortInd
    | ProviderAbort
    | EnvFault
)
