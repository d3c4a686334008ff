"""From one direction's octets to PDUs: TPKT and COTP, session, presentation, ACSE, and what they carry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from fastsec import profile
from fastsec.envs.osi import acse, cotp, presentation, session
from fastsec.envs.osi.names import AeTitle
from fastsec.errors import DecodeError
from fastsec.inspect import aprofile
from fastsec.inspect.words import ABSTRACT_SYNTAXES, APPLICATION_CONTEXTS, printable
from fastsec.pki.identity import OsiName
from fastsec.secpdu.fields import Carrier

TSDU_MAX: Final = 256 * 1024
SEARCH_MAX: Final = 128 * 1024  # where a stream is joined in the middle: how far a TPKT is looked for

# A TPKT with a DT, or with one of the TPDUs that set up and end a class 0 connection.
_FRAME: Final = re.compile(rb"\x03\x00[\x00-\xff]{2}(?:\x02\xf0[\x00\x80]|[\x04-\xfe][\xe0\xd0\x80\x70])")
_CARRIERS: Final = {
    acse.TAG_AARQ: Carrier.ASSOCIATE_REQ,
    acse.TAG_AARE: Carrier.ASSOCIATE_RSP,
    acse.TAG_RLRQ: Carrier.RELEASE_REQ,
    acse.TAG_RLRE: Carrier.RELEASE_RSP,
    acse.TAG_ABRT: Carrier.ABORT,
}
_APDUS: Final = {
    acse.TAG_AARQ: "AARQ",
    acse.TAG_AARE: "AARE",
    acse.TAG_RLRQ: "RLRQ",
    acse.TAG_RLRE: "RLRE",
    acse.TAG_ABRT: "ABRT",
}
_SPDUS: Final = {
    session.SI_GT_DT: "GIVE TOKENS + DATA TRANSFER",
    session.SI_NF: "NOT FINISHED",
    session.SI_FN: "FINISH",
    session.SI_DN: "DISCONNECT",
    session.SI_RF: "REFUSE",
    session.SI_CN: "CONNECT",
    session.SI_AC: "ACCEPT",
    session.SI_CDO: "CONNECT DATA OVERFLOW",
    session.SI_OA: "OVERFLOW ACCEPT",
    session.SI_AB: "ABORT",
    session.SI_AA: "ABORT ACCEPT",
}
_RESULTS: Final = {0: "accepted", 1: "rejected-permanent", 2: "rejected-transient"}
_TPDUS: Final = {cotp.CODE_CR: "CR", cotp.CODE_CC: "CC", cotp.CODE_DR: "DR", cotp.CODE_ER: "ER"}


@dataclass(slots=True)
class Tpdu:
    """A TPDU or, for data, a whole TSDU.

    Attributes:
        octets: the TPDU from its length indicator on, or the TSDU.
        data: whether it is a TSDU.
        count: TPKTs it came in.
        size: octets of these TPKTs.
        fault: what is malformed, or "".
    """

    octets: bytes
    data: bool
    count: int = 1
    size: int = 0
    fault: str = ""


class Splitter:
    """TPKTs and DT TPDUs of one direction.

    Attributes:
        kind: ``tpkt``, ``tls``, ``other``, or ``""`` as long as it cannot be told.
        lost: octets left out while a TPKT was looked for.
    """

    __slots__ = ("_buffer", "_count", "_searched", "_size", "_synchronous", "_tsdu", "begun", "kind", "lost")

    def __init__(self, begun: bool) -> None:
        self.kind = ""
        self.lost = 0
        self.begun = begun
        self._synchronous = True
        self._searched = 0
        self._buffer = bytearray()
        self._tsdu = bytearray()
        self._count = self._size = 0

    @property
    def held(self) -> int:
        """Octets kept."""
        return len(self._buffer) + len(self._tsdu)

    def lose(self) -> None:
        """Octets are missing here: look for the next TPKT."""
        self.lost += len(self._buffer)
        self._buffer.clear()
        self._drop_tsdu()
        if self.kind in ("", "tpkt"):
            self._synchronous = False
            self._searched = 0
            self.begun = False

    def _drop_tsdu(self) -> None:
        self._tsdu.clear()
        self._count = self._size = 0

    def take(self, octets: bytes) -> Iterator[Tpdu]:
        """More octets; what is complete comes out."""
        if self.kind in ("tls", "other"):
            return
        self._buffer += octets
        if not self.kind:
            self._judge()
        if self.kind != "tpkt":
            return
        while True:
            if not self._synchronous and not self._search():
                return
            found = self._next()
            if found is None:
                return
            if found.octets or found.fault:
                yield found

    def _judge(self) -> None:
        """What the first octets are."""
        buffer = self._buffer
        if len(buffer) < 2:
            return
        if buffer[:2] == b"\x03\x00":
            self.kind = "tpkt"
        elif buffer[0] == 0x16 and buffer[1] == 3:
            self.kind = "tls"
        elif self.begun or self._searched > SEARCH_MAX:
            self.kind = "other"
        elif _FRAME.search(buffer) is not None:
            self.kind, self._synchronous = "tpkt", False
        else:
            self._forget_searched()
        if self.kind in ("tls", "other"):
            buffer.clear()

    def _forget_searched(self) -> None:
        """Nothing begins in the buffer but perhaps in its last octets."""
        gone = max(len(self._buffer) - 6, 0)
        self._searched += gone
        self.lost += gone
        del self._buffer[:gone]

    def _search(self) -> bool:
        match = _FRAME.search(self._buffer)
        if match is None:
            self._forget_searched()
            return False
        self.lost += match.start()
        del self._buffer[: match.start()]
        self._synchronous = True
        return True

    def _next(self) -> Tpdu | None:
        """The next TPDU of the buffer; one without octets and fault stands for a DT that is not the last."""
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        size = buffer[2] << 8 | buffer[3]
        if buffer[0] != 3 or buffer[1] or size < 7:
            # A reserved octet that is not zero is tolerated by nobody here, because it hides lost octets.
            fault = f"TPKT of version {buffer[0]}, length {size}"
            self._synchronous = False
            self._drop_tsdu()
            del buffer[:1]
            self.lost += 1
            return Tpdu(b"", False, fault=fault)
        if len(buffer) < size:
            return None
        tpdu = bytes(buffer[4:size])
        del buffer[:size]
        if tpdu[1] & 0xF0 != cotp.CODE_DT:
            return Tpdu(tpdu, False, 1, size)
        self._count += 1
        self._size += size
        header = tpdu[0] + 1
        if header < 3 or header > len(tpdu):
            fault = "length indicator of a DT TPDU"
        elif len(self._tsdu) + len(tpdu) - header > TSDU_MAX:
            fault = f"TSDU of more than {TSDU_MAX} octets"
        else:
            self._tsdu += tpdu[header:]
            if not tpdu[2] & 0x80:
                return Tpdu(b"", False)
            whole = Tpdu(bytes(self._tsdu), True, self._count, self._size, "" if self._tsdu else "TSDU without octets")
            self._drop_tsdu()
            return whole
        broken = Tpdu(b"", True, self._count, self._size, fault)
        self._drop_tsdu()
        return broken


@dataclass(slots=True)
class Carried:
    """What a TSDU carries.

    Attributes:
        carrier: of a SecPDU.
        context: ``e2e``, ``mms`` or ``unknown``.
        value: the octets.
    """

    carrier: Carrier
    context: str
    value: bytes


@dataclass(slots=True)
class Layers:
    """What the OSI layers say of one TPDU or TSDU.

    Attributes:
        description: per layer, for the output.
        carried: values of user data and user information.
        apdu: the ACSE APDU, or None.
        faults: what is malformed.
    """

    description: dict[str, Any] = field(default_factory=dict)
    carried: list[Carried] = field(default_factory=list)
    apdu: acse.Apdu | None = None
    faults: list[str] = field(default_factory=list)


class Contexts:
    """The presentation contexts of one connection, by what was proposed."""

    def __init__(self) -> None:
        self.syntaxes: dict[int, str] = {}

    def learn(self, contexts: tuple[presentation.Context, ...]) -> None:
        """The contexts of a CP."""
        self.syntaxes = {context.id: context.abstract_syntax for context in contexts}

    def of(self, number: int | None) -> str:
        """``acse``, ``mms``, ``e2e``; ``unknown`` where no CP was seen or it did not name the context."""
        syntax = self.syntaxes.get(number) if number is not None else None
        return {
            profile.OID_ACSE_AS: "acse",
            profile.OID_MMS_AS: "mms",
            profile.OID_E2E_SECURITY_AS: "e2e",
        }.get(syntax or "", "unknown")


def read_layers(tpdu: Tpdu, contexts: Contexts) -> Layers:
    """Everything of one TPDU or TSDU; faults are noted, never raised."""
    layers = Layers()
    layers.description["tpkt"] = {"count": tpdu.count, "octets": tpdu.size}
    if tpdu.fault:
        layers.faults.append(tpdu.fault)
        return layers
    try:
        if tpdu.data:
            layers.description["cotp"] = {"tpdu": "DT", "tsdu_octets": len(tpdu.octets)}
            _read_session(tpdu.octets, contexts, layers)
        else:
            layers.description["cotp"] = _describe_tpdu(tpdu.octets)
    except DecodeError as error:
        layers.faults.append(f"{error.step}: {error}" if error.step else str(error))
    return layers


def _describe_tpdu(octets: bytes) -> dict[str, Any]:
    found = cotp.decode(octets)
    if isinstance(found, cotp.Connect):
        return {
            "tpdu": _TPDUS[found.code],
            "calling_tsel": None if found.calling is None else found.calling.hex(),
            "called_tsel": None if found.called is None else found.called.hex(),
            "tpdu_size": found.preferred or found.size,
        }
    if isinstance(found, cotp.Disconnect):
        return {"tpdu": "DR", "reason": found.reason, "text": found.text}
    return {"tpdu": "ER", "cause": found.cause}


def _read_session(tsdu: bytes, contexts: Contexts, layers: Layers) -> None:
    spdu = session.decode(tsdu)
    about: dict[str, Any] = {"spdu": _SPDUS.get(spdu.si, f"SPDU {spdu.si}")}
    if spdu.calling is not None:
        about["calling_ssel"] = spdu.calling.hex()
    if spdu.called is not None:
        about["called_ssel"] = spdu.called.hex()
    if spdu.si == session.SI_RF:
        about["reason"] = session.refuse_text(spdu.reason)
    layers.description["session"] = about
    data = spdu.user_data
    if not data:
        return
    found: presentation.Ppdu | presentation.AbortPpdu | tuple[presentation.Pdv, ...]
    if spdu.si == session.SI_CN:
        name, found = "CP", presentation.decode_connect(data)
    elif spdu.si == session.SI_AC:
        name, found = "CPA", presentation.decode_accept(data)
    elif spdu.si == session.SI_RF:
        name, found = "CPR", presentation.decode_refuse(data)
    elif spdu.si == session.SI_AB:
        name, found = "ARU", presentation.decode_abort(data)
        name = "ARP" if found.provider else name
    else:
        name, found = "user data", presentation.decode_user_data(data)
    values = found if not isinstance(found, presentation.Ppdu | presentation.AbortPpdu) else found.user_data
    shown = layers.description["presentation"] = {"ppdu": name}
    if isinstance(found, presentation.Ppdu):
        if name == "CP":
            contexts.learn(found.contexts)
            shown["contexts"] = [
                {
                    "id": context.id,
                    "abstract_syntax": context.abstract_syntax,
                    "name": ABSTRACT_SYNTAXES.get(context.abstract_syntax, "unknown"),
                }
                for context in found.contexts
            ]
        for which, selector in (("calling_psel", found.calling), ("called_psel", found.called)):
            if selector is not None:
                shown[which] = selector.hex()
        if found.results is not None:
            shown["results"] = list(found.results)
        if found.provider_reason is not None:
            shown["reason"] = presentation.refuse_text(found.provider_reason)
    elif isinstance(found, presentation.AbortPpdu) and found.provider:
        shown["reason"] = found.text
    for pdv in values:
        shown.setdefault("user_data", []).append({"context": pdv.context, "octets": len(pdv.value)})
        _read_value(pdv, spdu.si, contexts, layers)


def _read_value(pdv: presentation.Pdv, si: int, contexts: Contexts, layers: Layers) -> None:
    context = contexts.of(pdv.context)
    if si == session.SI_GT_DT and context != "acse":
        layers.carried.append(Carried(Carrier.DATA, context, pdv.value))
        return
    if context not in ("acse", "unknown"):
        raise DecodeError(f"context {pdv.context} where ACSE belongs", step="PPDU")
    apdu = layers.apdu = acse.decode(pdv.value)
    tag = pdv.value[0]
    layers.description["acse"] = _describe_apdu(tag, apdu)
    for external in apdu.user_information or ():
        inner = contexts.of(external.indirect)
        layers.carried.append(Carried(_CARRIERS[tag], inner, external.value))


def _describe_apdu(tag: int, apdu: acse.Apdu) -> dict[str, Any]:
    about: dict[str, Any] = {"apdu": _APDUS[tag]}
    if isinstance(apdu, acse.Aarq | acse.Aare):
        about["context_name"] = apdu.context_name
        about["context"] = APPLICATION_CONTEXTS.get(apdu.context_name, "unknown")
        if isinstance(apdu, acse.Aarq):
            about["calling"] = title(apdu.calling)
            about["called"] = title(apdu.called)
        else:
            about["result"] = _RESULTS[apdu.result]
            about["diagnostic"] = acse.diagnostic_text(apdu.source, apdu.diagnostic)
            about["responding"] = title(apdu.responding)
        if apdu.authentication.mechanism is not None:
            about["mechanism"] = apdu.authentication.mechanism
            proof = aprofile.describe(apdu.authentication)
            if proof is not None:
                about["a_profile"] = proof
    elif isinstance(apdu, acse.Abort):
        about["source"] = {0: "service-user", 1: "service-provider"}.get(apdu.source, str(apdu.source))
        if apdu.diagnostic is not None:
            about["diagnostic"] = apdu.diagnostic
    elif apdu.reason is not None:
        about["reason"] = apdu.reason
    if apdu.user_information:
        about["user_information_context"] = apdu.user_information[0].indirect
    return about


def title(name: AeTitle) -> dict[str, Any]:
    """AP-title and AE-qualifier for the output; forms other than OID and INTEGER as hex."""

    def plain(value: str | bytes | int | None) -> str | int | None:
        return value.hex() if isinstance(value, bytes) else printable(value) if isinstance(value, str) else value

    return {"ap_title": plain(name.ap_title), "ae_qualifier": plain(name.ae_qualifier)}


def osi_name(name: AeTitle) -> OsiName | None:
    """The identity that a title stands for, or None."""
    if isinstance(name.ap_title, str) and isinstance(name.ae_qualifier, int):
        return OsiName.of(name.ap_title, name.ae_qualifier)
    return None
