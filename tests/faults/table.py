"""What each fault must come to: data, written from RFC 1006, X.224, X.225, X.226, X.227 and our specification page.

A row: frames, octet names (patterns of ``fnmatch``, the first that fits counts), and the words allowed, in the terms of
``judge.word``. A name of a check stands for the event that ``fastsec.faults`` gives it in the frame's own SecPDU.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from fastsec.faults import CHECKS, Group, verdict
from faults.tap import Kind

GROUPS = {
    "CN": (Group.HANDSHAKE_REQ,),
    "AC": (Group.HANDSHAKE_ACC,),
    "DT": (Group.CLEAR_TRANSFER, Group.ENCR_TRANSFER),
    "FN": (Group.RELEASE_REQ,),
    "DN": (Group.RELEASE_RSP,),
    "AB": (Group.APPL_ABORT, Group.DT_SEC_ABORT, Group.HANDSHAKE_SEC_ABORT),  # its tag says which abort it is
}
ENV = "env"  # any event of group 15
ANY = "any"  # any check of the frame's SecPDU


class Row(NamedTuple):
    """``frames``: kinds of frame, * for all; ``octets``: pattern; ``words``: what may come of it; ``why``."""

    frames: str
    octets: str
    words: str
    why: str


CORRUPT = (
    Row("*", "TPKT.version", "env", "RFC 1006: version is 3"),
    Row("*", "TPKT.reserved", "on", "RFC 1006: reserved"),
    Row("*", "TPKT.length", "env any time open lost", "the frame ends elsewhere: cut short, or waited for"),
    Row("CR CC", "COTP.li", "env", "X.224 13.2.1: the header's length"),
    Row("CR CC", "COTP.code", "env on time", "another TPDU; its lower half is the credit, of no meaning in class 0"),
    Row("CR", "COTP.dst", "env", "X.224 13.3.2: zero in CR"),
    Row("CC", "COTP.dst", "on", "RFC 1006: references tell nothing apart"),
    Row("CR CC", "COTP.src", "on", "RFC 1006: references tell nothing apart"),
    Row("CR CC", "COTP.class", "env on", "class, or options that class 0 does not have"),
    Row("CR CC", "COTP.*:L", "env on", "parameters no longer fit"),
    Row(
        "CR CC", "COTP.*", "env on", "sizes are negotiated down, selectors are not ours to check, unknown ones ignored"
    ),
    Row("*", "COTP.eot", "on open time env lost", "number of no meaning in class 0; or the TSDU goes on"),
    Row("*", "COTP.*", "env", "X.224 13.7: DT has a header of three octets"),
    Row("DT", "S.prefix", "env", "X.225: GIVE TOKENS and DATA TRANSFER"),
    Row("*", "S.si", "env", "another SPDU"),
    Row("*", "S.li", "env", "X.225 8.2: lengths have to fit"),
    Row("*", "S.c[12]:*", "env", "no user data, or with another end"),
    Row(
        "CN AC", "S.*", "env on", "X.225: unknown and unimportant parameters are ignored, versions and options checked"
    ),
    Row("FN DN AB", "S.*", "env on", "the transport disconnect item says nothing that matters here"),
    Row("*", "*.context-id:V", "env", "X.226: a context that was not agreed on"),
    Row("CN", "*.ACSE.a[67].value:V", "address env", "calling name: not that of the certificate"),
    Row("AC", "*.ACSE.a[45].value:V", "address env", "responding name: not the one called"),
    Row("*", "*.ACSE.user-information.EXTERNAL.single-ASN1.SecPDU:*", "protocol-error env", "the SecPDU's own tag"),
    Row("DT", "*.single-ASN1.SecPDU:*", "protocol-error env", "the SecPDU's own tag"),
    # Handshake and control PDUs: everything in tbs is signed; sigAlg and the certificate are needed to see that.
    Row("CN AC", "*.SecPDU.pp:*", "pp protocol-error", "not signed, but compared"),
    Row("CN AC FN DN AB", "*.SecPDU.tbs.*.sigAlg.oid:V", "signature-algorithm signature-mismatch protocol-error", ""),
    Row("CN AC FN DN AB", "*.SecPDU.tbs.*.pkCert:V", "certificate signature", "no certificate any more, or another"),
    Row(
        "CN AC FN DN AB", "*.SecPDU.tbs.*:V", "signature protocol-error", "signed; where no value any more, not decoded"
    ),
    Row(
        "CN AC FN DN AB",
        "*.SecPDU.tbs*",
        "protocol-error signature signature-algorithm signature-mismatch certificate env",
        "tags and lengths in what is signed",
    ),
    Row("CN AC FN DN AB", "*.SecPDU.sign.algo*", "signature-mismatch protocol-error", "is not sigAlg"),
    Row("CN AC FN DN AB", "*.SecPDU.sign.value:V", "signature", "the signature"),
    Row("CN AC FN DN AB", "*.SecPDU.sign*", "protocol-error signature env", ""),
    # Transfers: decode, kind, assoID, then the ICV before anything else is looked at.
    Row("DT", "*.SecPDU.auth.algorithm.parameters.nonce:V", "on", "specification 3.1: ignored"),
    Row(
        "DT",
        "*.SecPDU.auth.algorithm.parameters.nonce:L",
        "on icv-algorithm protocol-error",
        "8C and twelve zeros are BER for length 0: still a nonce, still ignored",
    ),
    Row("DT", "*.SecPDU.auth.algorithm*:V", "icv-algorithm protocol-error", "not the agreed one"),
    Row("DT", "*.SecPDU.auth.*:V", "icv", "nonce and ICV"),
    Row("DT", "*.token2.assoID:V", "asso-id", "before the ICV"),
    Row("DT", "*.SecPDU.tbp.applData:V", "icv", "what it is all about"),
    Row("DT", "*.SecPDU.tbp.token2.iv:V", "icv", ""),
    Row("DT", "*.SecPDU.tbp.*:V", "icv protocol-error", "protected; where no value any more, not decoded"),
    Row(
        "DT",
        "*.SecPDU.*",
        "protocol-error icv wrong-kind icv-algorithm nonce-missing iv-missing ae-iv-missing",
        "tags and lengths",
    ),
    Row("*", "*.user-information*", "env", "X.227: the association information"),
    Row("CN AC FN DN AB", "*.ACSE*", "env on", "names called, versions and reasons; unknown ones are ignored"),
    Row("CN AC", "CP.normal.call*:V", "env on", "presentation selectors"),
    Row("*", "CP*", "env on", "X.226: contexts of syntaxes that are not needed may be refused"),
    Row("*", "*", "env", "presentation data values"),
)
# One octet more, or two that changed places, can turn one field into another: any check, but never unnoticed, unless it
# only concerns what does not matter.
DAMAGE = (
    Row("*", "TPKT.*", "env any time open lost on", "lengths; version and reserved change places"),
    Row("CR CC", "*", "env on time", "as for CORRUPT"),
    Row("CN AC", "*.SecPDU.*", "any env time lost", "signed"),
    Row("CN AC", "*.ACSE*", "any env on time lost", "as for CORRUPT"),
    Row("CN AC", "*", "any env on time lost", "as for CORRUPT"),
    Row("DT", "*.SecPDU.auth.algorithm.parameters.nonce:*", "any env on open time lost", "ignored"),
    Row("DT", "*", "any env open time lost", "protected"),
    Row("FN DN AB", "*.SecPDU.*", "any env open time lost", "signed"),
    Row("FN DN AB", "*", "any env on open time lost", "reasons and versions do not matter"),
)
# By frame: what a direction that falls silent comes to. "time": a limit of ours named in the error; "open": an
# association may be idle as long as it likes.
STALL = (
    Row("CR-reverse", "*", "time open", "a server that dialled waits for a request as long as it takes"),
    Row("CR CC CN AC", "*", "time", "OUR_ACCEPT_TO_AARQ, OUR_AARQ_TO_AARE"),
    Row("FN DN AB", "*", "time open", "OUR_RELEASE ends the side that asked; who hears nothing goes on"),
    Row("DT-first", "*", "time", "OUR_UNCONFIRMED_TIMEOUT: the handshake is never confirmed"),
    Row("DT", "*", "open", "nothing ends it"),
)
LOSS = (Row("*", "*", "lost", "both hear of it"),)
WHOLE = (Row("*", "*", "on", "every octet arrives, in order"),)
FRAME_TWICE = (
    Row("CR CC CN AC FN", "*", "env time lost protocol-error", "X.224, X.225: unexpected in that state"),
    Row("DT-carrier", "*", "icv replay unexpected-rekey", "by then the key is another one"),
    Row("DT-changedKey", "*", "replay icv", ""),
    Row("DT", "*", "replay", ""),
    Row("DN AB", "*", "on", "all is over by then"),
)
FRAMES_SWAPPED = (
    Row("DT", "*", "sequence on", "on: there was no second frame in the write"),
    Row("*", "*", "on", "there was no second frame in the write"),
)
TABLE = {
    Kind.CUT: LOSS,
    Kind.HALF_CLOSE: LOSS,
    Kind.STALL: STALL,
    Kind.DELAY: WHOLE,
    Kind.TINY: WHOLE,
    Kind.CORRUPT: CORRUPT,
    Kind.DUPLICATE: DAMAGE,
    Kind.REORDER: DAMAGE,
    Kind.FRAME_TWICE: FRAME_TWICE,
    Kind.FRAMES_SWAPPED: FRAMES_SWAPPED,
}
# Over TLS the same faults strike records: nothing that TLS protects may arrive changed, so it is always the end of the
# connection, in order. "on": what says good-bye at the very end.
TLS_TABLE = {
    Kind.CUT: "lost on",
    Kind.HALF_CLOSE: "lost on",
    Kind.STALL: "time open on",
    Kind.DELAY: "on",
    Kind.TINY: "on",
    Kind.CORRUPT: "lost time open on",
    Kind.DUPLICATE: "lost time open on",
    Kind.REORDER: "lost time open on",
    Kind.FRAME_TWICE: "lost time open on",
    Kind.FRAMES_SWAPPED: "lost time open on",
}


def row_for(kind: Kind, frame: str, octet: str) -> Row:
    """The row that judges this fault."""
    names = {frame, frame.partition("-")[0], "*"}
    for row in TABLE[kind]:
        if not names.isdisjoint(row.frames.split()) and fnmatchcase(octet, row.octets):
            return row
    raise LookupError(f"no row for {kind.name} {frame} {octet}")


def allowed(kind: Kind, frame: str, octet: str) -> set[str]:
    """The words that may come of it; events as ``group.number``, ``env`` for all of group 15."""
    words: set[str] = {"lost"} if frame == "AB" else set()  # an abort whatever it holds, but then without a reason
    groups = GROUPS.get(frame.partition("-")[0], ())
    for word in row_for(kind, frame, octet).words.split():
        if word in ("on", "env", "time", "open", "lost"):
            words.add(word)
            continue
        for group in groups:
            checks = CHECKS[group] if word == ANY else [word] if word in CHECKS[group] else []
            words |= {f"{group.value}.{verdict(group, check).number}" for check in checks}
    return words


def fits(word: str, words: set[str]) -> bool:
    """Whether what came of a fault is among what was allowed."""
    return word in words or ("env" in words and word.startswith("15."))
