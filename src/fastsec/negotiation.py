"""What a client offers, what a server selects, how the client judges the selection (62351-4 §5 negotiation).

Nothing falls back: a fault ends the handshake, and every row of the specification's tables is one ``raise`` here, in
the order of those tables. The outcome is a ``Suite``, which also knows the sizes of all keys.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from fastsec import profile
from fastsec._core.guard import (
    MODE_AE,
    MODE_CBC_GMAC,
    MODE_CBC_HMAC,
    MODE_GMAC,
    MODE_HMAC,
    GuardParams,
)
from fastsec.config import Config, Policy
from fastsec.errors import HandshakeError
from fastsec.secpdu.model import AeaOffer, AlgorithmId, ClearToken1, DhPublic, NonAeaOffer, algorithm_id

HMAC_SHA256: Final = algorithm_id(profile.HMAC_SHA256)
V1: Final = 1 << profile.VERSION_V1_BIT
APPL_PROTECTED: Final = 1 << profile.CONF_APPL_PROTECTED
_TLS_PROTECTED: Final = 1 << profile.CONF_TLS_PROTECTED
_VPN: Final = 1 << profile.CONF_VPN

MODE_NAMES: Final = {
    MODE_HMAC: "integrity (HMAC)",
    MODE_GMAC: "integrity (GMAC)",
    MODE_CBC_HMAC: "AES-CBC with HMAC",
    MODE_CBC_GMAC: "AES-CBC with GMAC",
    MODE_AE: "authenticated encryption (AES-GCM)",
}
# RFC 9044's own GMAC identifiers mean the same as the GCM ones that the standard uses for GMAC.
_GMAC_CANONICAL: Final = {
    profile.AES128_GMAC_RFC9044: profile.AES128_GCM,
    profile.AES256_GMAC_RFC9044: profile.AES256_GCM,
}


class Suite(NamedTuple):
    """What both sides agreed on.

    Attributes:
        mode: one of the MODE_* numbers of the guard.
        encr_mode: the selection as HandshakeAcc carries it.
        encrypting: whether transfers are EncrTransfer.
        icv_algorithm: DER of Authenticator.algorithm, empty for authenticated encryption.
        icv_len: octets of the ICV or of the authentication tag.
        aes_key_size: octets of EK, 0 without encryption.
        mac_key_size: octets of IK, 0 for authenticated encryption.
    """

    mode: int
    encr_mode: AeaOffer | NonAeaOffer
    encrypting: bool
    icv_algorithm: bytes
    icv_len: int
    aes_key_size: int
    mac_key_size: int

    def guard_params(self, asso_id: str) -> GuardParams:
        """The parameters that all guards of one association share."""
        return GuardParams(self.mode, asso_id, self.icv_algorithm, self.icv_len, self.aes_key_size, self.mac_key_size)


def _fail(check: str, message: str, step: str) -> NoReturn:
    raise HandshakeError(message, check=check, step=step)


def ae_suite(algorithm: AlgorithmId) -> Suite:
    """Authenticated encryption with ``algorithm`` (AES-GCM)."""
    key_size = profile.GCM_KEY_SIZE[algorithm.oid]
    return Suite(MODE_AE, AeaOffer((algorithm,)), True, b"", algorithm.icv_len, key_size, 0)


def icv_suite(encr: AlgorithmId | None, icv: AlgorithmId) -> Suite:
    """Integrity with ``icv`` (HMAC or GMAC), and CBC encryption with ``encr`` unless it is None."""
    hmac = icv.oid == profile.HMAC_SHA256
    mac_key_size = profile.HMAC_KEY_SIZE if hmac else profile.GMAC_KEY_SIZE[icv.oid]
    chosen = NonAeaOffer(None if encr is None else (encr,), (icv,))
    if encr is None:
        return Suite(MODE_HMAC if hmac else MODE_GMAC, chosen, False, icv.der, icv.icv_len, 0, mac_key_size)
    mode = MODE_CBC_HMAC if hmac else MODE_CBC_GMAC
    return Suite(mode, chosen, True, icv.der, icv.icv_len, profile.CBC_KEY_SIZE[encr.oid], mac_key_size)


# --- client: the offer ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def make_offer(policy: Policy) -> AeaOffer | NonAeaOffer:
    """encr-mode of HandshakeReq: authenticated encryption where the policy has it, else a list of encryption
    algorithms (only if encryption is wanted) and a set of ICV algorithms."""
    if policy.encryption != "forbidden" and policy.ae != "forbidden":
        return AeaOffer(tuple(algorithm_id(oid, icv_len) for oid, icv_len in policy.ae_algorithms))
    icv = tuple(algorithm_id(oid, icv_len) for oid, icv_len in policy.icv_algorithms)
    if policy.encryption == "forbidden":
        return NonAeaOffer(None, icv)
    return NonAeaOffer(tuple(algorithm_id(oid) for oid in policy.encr_algorithms), icv)


def conf_params(config: Config, encrypting: bool) -> int:
    """confParams: ``applProtected`` = encryption asked for or selected, the rest describes the own link."""
    return (
        (APPL_PROTECTED if encrypting else 0)
        | (_TLS_PROTECTED if config.tls_protected else 0)
        | (_VPN if config.vpn else 0)
    )


# --- server: the selection ------------------------------------------------------------------------------------------


def select_group(offered: tuple[DhPublic, ...], policy: Policy) -> DhPublic:
    """The first group of the server's own order that the client offers; HandshakeError "group" if there is none."""
    for group in policy.accept_groups:
        for value in offered:
            if value.group == group:
                return value
    _fail("group", "no Diffie-Hellman group in common", "HandshakeReq.tbs.token1.dhKey")


def _first_common(
    own: tuple[tuple[str, int], ...], offered: tuple[AlgorithmId, ...], canonical: dict[str, str]
) -> AlgorithmId | None:
    """The offered entry, to be echoed, that comes first in the own order; entries are (OID, ICV length) pairs."""
    for wanted in own:
        for algorithm in offered:
            if (canonical.get(algorithm.oid, algorithm.oid), algorithm.icv_len) == wanted:
                return algorithm
    return None


def select_mode(token1: ClearToken1, policy: Policy) -> Suite:
    """Choose one of each; the first fault of the table "Server on HandshakeReq" that applies is raised.

    Errors:
        HandshakeError with the check of the fault.
    """
    step = "HandshakeReq.tbs.token1.encr-mode"
    offer = token1.encr_mode
    asked = bool(token1.conf_params & APPL_PROTECTED)
    forbidden = policy.encryption == "forbidden"
    if isinstance(offer, AeaOffer):
        if policy.ae == "forbidden":
            _fail("ae-not-allowed", "authenticated encryption is not allowed here", step)
        if not asked:
            _fail("ae-without-encryption", "authenticated encryption offered, but encryption not asked for", step)
        algorithm = _first_common(policy.ae_algorithms, offer.algorithms, {})
        if algorithm is None:
            _fail("ae-algorithm", "no authenticated encryption algorithm in common", step)
        if forbidden:
            _fail("encryption-not-required", "encryption asked for, but forbidden here", step)
        return ae_suite(algorithm)
    if policy.ae == "required":
        _fail("ae-required", "authenticated encryption is required", step)
    if offer.encr is not None and (not asked or forbidden):
        _fail("encryption-list", "encryption algorithms offered, but not asked for or not allowed", step)
    encr = None
    if offer.encr is not None:
        encr = _first_common(tuple((oid, 0) for oid in policy.encr_algorithms), offer.encr, {})
        if encr is None:
            _fail("encryption-algorithm", "no encryption algorithm in common", step)
    icv = _first_common(policy.icv_algorithms, offer.icv, _GMAC_CANONICAL)
    if icv is None:
        _fail("icv-algorithms", "no ICV algorithm in common", step)
    if asked and forbidden:
        _fail("encryption-not-required", "encryption asked for, but forbidden here", step)
    if encr is None and (asked or policy.encryption == "required"):
        _fail("encryption-required", "encryption is required", step)
    return icv_suite(encr, icv)


# --- client: the judgement ------------------------------------------------------------------------------------------


def judge_group(selected: tuple[DhPublic, ...], offered: tuple[int, ...]) -> DhPublic:
    """The server's one value of an offered group; HandshakeError "group" otherwise."""
    if len(selected) != 1 or selected[0].group not in offered:
        _fail("group", "Diffie-Hellman group not offered, or more than one", "HandshakeAcc.tbs.token1.dhKey")
    return selected[0]


def _judge_list(
    selected: tuple[AlgorithmId, ...], offered: tuple[AlgorithmId, ...], unknown: str, several: str, step: str
) -> AlgorithmId:
    if any(algorithm not in offered for algorithm in selected):
        _fail(unknown, "algorithm was not offered", step)
    if len(selected) != 1:
        _fail(several, "more than one algorithm selected", step)
    return selected[0]


def judge_mode(answer: AeaOffer | NonAeaOffer, offer: AeaOffer | NonAeaOffer) -> Suite:
    """Check the server's selection; the first fault of the table "Client on HandshakeAcc" that applies is raised.

    Errors:
        HandshakeError with the check of the fault.
    """
    step = "HandshakeAcc.tbs.token1.encr-mode"
    if isinstance(answer, AeaOffer):
        if not isinstance(offer, AeaOffer):
            _fail("ae-algorithm", "authenticated encryption was not offered", step)
        return ae_suite(_judge_list(answer.algorithms, offer.algorithms, "ae-algorithm", "single-ae", step))
    if isinstance(offer, AeaOffer):
        _fail("ae-not-used", "authenticated encryption was offered, but is not used", step)
    encr = None
    if answer.encr is not None and offer.encr is not None:
        encr = _judge_list(answer.encr, offer.encr, "encryption-algorithm", "single-encryption", step)
    icv = _judge_list(answer.icv, offer.icv, "icv-algorithms", "single-icv", step)
    if answer.encr is not None and offer.encr is None:
        _fail("encryption-not-required", "encryption was not asked for", step)
    if answer.encr is None and offer.encr is not None:
        _fail("encryption-required", "encryption was asked for, but is missing", step)
    return icv_suite(encr, icv)
