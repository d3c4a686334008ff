"""MMS service requests as the access policy of a gateway judges them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastsec._core.cursor import tlv
from fastsec.access.judge import Judge
from fastsec.access.policy import AccessPolicy, Grant
from fastsec.access.rights import Right
from fastsec.errors import DecodeError
from fastsec.mms import pdu as mms
from fastsec.mms import services
from fastsec.pki.roles import RoleGrant
from fuzz.kit import Target, tree
from mms_requests import get_name_list, list_of, name, read, request, service, usual, variable, variables, write


def _holder(rights: Iterable[Right], unknown: str) -> Judge:
    policy = AccessPolicy(
        roles=((1, tuple(map(Grant, rights))),),
        unknown=unknown,  # type: ignore[arg-type]
    )
    return Judge(policy, (RoleGrant(1, "", 0, "IEC62351-8", "certificate"),))


# From nobody to everybody, each with all that the one before has.
_GROWING: Final = [_holder(list(Right)[:count], "deny") for count in range(12)]
_ALL: Final = _holder(Right, "all-rights")
_SOME: Final = Judge(
    AccessPolicy(roles=((1, (Grant.parse("CONTROL:A*/G*O?$CO"), Grant.parse("READVALUES:*/*LN?$*$D*"))),)),
    (RoleGrant(1, "", 0, "IEC62351-8", "certificate"),),
)


def judged(data: bytes) -> None:
    """One octet chooses whether the frame is made or given; the verdicts have to go together."""
    pdu = data[1:] if data[:1] < b"\x80" else request(data[1:], 7)
    refusals = [judge.refusal(pdu) for judge in (*_GROWING, _ALL)]
    allowed = [refusal is None for refusal in refusals]
    assert allowed == sorted(allowed), "more rights allowed less"
    if (found := _SOME.refusal(pdu)) is None:
        assert allowed[-1]
    for refusal in (*refusals, found):
        if refusal is None:
            continue
        denial, answer = refusal
        if answer is not None:
            assert mms.is_one_pdu(answer)
            assert len(answer) <= len(pdu) + 16
            assert (answer[0] == 0xA4) == denial.malformed
        else:
            assert pdu[0] in (*range(0xA1, 0xAE), 0x86, 0x8C)
    for judge in (*_GROWING, _ALL, _SOME):
        judge._known.clear()
    try:
        body = pdu[services.frame(pdu).body :]
        parsed = services.parse(body)
    except DecodeError:
        assert not any(allowed) or pdu[0] != 0xA0
        return
    try:
        anew = tree(body)
    except ValueError:
        return  # values that are no TLVs: nobody looked at them
    assert services.parse(anew) == parsed, "understood in two ways"


def _seeds() -> Iterable[bytes]:
    for number in services.NAMES:
        yield b"\x80" + usual(number)
    for body in (
        read(variables("GGIO1$ST$Ind1$stVal", "MMXU1$MX$A"), tlv(0x80, b"\xff")),
        read(list_of("LLN0$ds")),
        write(list_of("ds", "@")),
        write(variables("GGIO1$CO$SPCSO1$Oper")),
        read(tlv(0xA0, variable("MMXU1$MX$HA", alternate=tlv(0xA5, tlv(0x81, b"phsA"))))),
        read(variables("LLN0$SP$SGCB", None)),
        service(11, name("ds", "@") + variables("GGIO1$ST$a")),
        get_name_list(None, "GGIO1"),
        tlv(0x30, b"") + usual(4),
        usual(40) + tlv(0xBF4F, b"\x05\x00"),
    ):
        yield b"\x80" + body
        yield b"\x00" + request(body, 0xFFFFFFFF)
    for pdu in (b"\x8b\x00", b"\x85\x01\x01", b"\xa3\x02\xa0\x00", b"\xa8\x00", b"\x30\x00", b""):
        yield b"\x00" + pdu


def load() -> dict[str, Target]:
    """The targets of this module."""
    return {"mms_request": Target(judged, 600, _seeds, 1)}
