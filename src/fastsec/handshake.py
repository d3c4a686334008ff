"""The handshake, step by step: what each PDU is made of and what is checked when it is taken (62351-4 §5, §6).

::

    client                                            server
    1  make_request      key pairs, token1, sign
    2  send HandshakeReq ---------------------------->
                                                      3  take_request      signature, path, address, time; negotiation
                                                      4  replay, numbers; the application decides
                                                      5  make_acceptance   key pair, Z, token1, sign, keys
                         <---------------------------- 6 send HandshakeAcc, open
    7  take_acceptance   the same checks, Z, keys
    8  replay, numbers, open

Steps 1, 3, 5 and 7 are the functions below. Each runs as one job in a worker thread on the immutable values that it is
given, with all public-key work of its side in it. What needs the state shared by all associations (steps 4 and 8) the
engine does between; since those checks stand before the negotiation in the specification's order, a fault that a job
finds in the negotiation is returned as ``later`` and raised only when they have passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastsec import limits
from fastsec._core.crypto import Secret, equal
from fastsec._core.pk import Ephemeral, check_public
from fastsec.attribute import settle as settle_peer
from fastsec.attribute import take_roles
from fastsec.config import Config, Policy
from fastsec.control import STEP, check_signature, check_time, signature_algorithm
from fastsec.errors import HandshakeError, PeerError
from fastsec.keys import derive, hash_acceptance, hash_request
from fastsec.negotiation import (
    HMAC_SHA256,
    V1,
    Suite,
    conf_params,
    judge_group,
    judge_mode,
    make_offer,
    select_group,
    select_mode,
)
from fastsec.secpdu.der import assemble, encode_handshake_tbs
from fastsec.secpdu.fields import SecPduKind
from fastsec.secpdu.model import AeaOffer, AlgorithmId, ClearToken1, DhPublic, Handshake, NonAeaOffer
from fastsec.secpdu.timestamp import time_key, time_text

if TYPE_CHECKING:
    from fastsec.pki.identity import OsiName
    from fastsec.pki.path import VerifiedPeer


# --- both sides -----------------------------------------------------------------------------------------------------


def _sign(
    config: Config, kind: SecPduKind, token: ClearToken1, algorithm: AlgorithmId, appl_data: bytes
) -> tuple[bytes, bytes]:
    """(tbs, whole PDU) of a handshake PDU."""
    tbs = encode_handshake_tbs(token, appl_data or None)
    return tbs, assemble(kind, config.pp, tbs, algorithm, config.credential.signer.sign(tbs))


def _sign_fitting(
    config: Config, kind: SecPduKind, token: ClearToken1, algorithm: AlgorithmId, appl_data: bytes, maximum: int
) -> tuple[bytes, bytes]:
    """As ``_sign``; where the environment has no room, certPath is left out first (62351-4 §9)."""
    tbs, pdu = _sign(config, kind, token, algorithm, appl_data)
    if len(pdu) > maximum and token.cert_path:
        tbs, pdu = _sign(config, kind, token._replace(cert_path=()), algorithm, appl_data)
    return tbs, pdu


def _own_roles(config: Config, utc_ms: int) -> bytes | None:
    """attCert of the own token; one that is not valid now is left out, since with it there would be no association."""
    token = config.credential.attribute_certificate
    if token is None or not token.not_before_ms <= utc_ms < token.not_after_ms + 1000:
        return None
    return token.der


def _identify(
    pdu: Handshake, config: Config, wanted: OsiName | None, responding: OsiName | None, utc_ms: int
) -> tuple[VerifiedPeer, OsiName]:
    """The checks that HandshakeReq and HandshakeAcc have in common, in order, up to the time; (peer, its address).

    Arguments:
        wanted: the address that the certificate must carry; None if the environment gave none.
        responding: of HandshakeAcc: the address that the environment's answer came from; must be equal.
    """
    v1 = pdu.kind is SecPduKind.HANDSHAKE_ACC
    token = pdu.token1
    step = STEP[pdu.kind]
    certificate = check_signature(pdu, token)
    if not pdu.speaks(config.pp):
        raise HandshakeError("another protected protocol", check="pp", step=f"{step}.pp")
    peer = config.trust.validate(token.pk_cert, token.cert_path, utc_ms, certificate=certificate, may_ask=True)
    if wanted is None or wanted.oid not in peer.names or (v1 and responding != wanted):
        step += ".tbs.token1.pkCert"
        raise HandshakeError("the certificate does not belong to the address", check="address", step=step)
    own = config.credential
    if equal(token.pk_cert, own.certificate) or own.name.oid in peer.names:
        step += ".tbs.token1.pkCert"
        raise HandshakeError("our own certificate or identity came back", check="address", step=step)
    if not v1 and config.peers and wanted not in config.peers:
        raise HandshakeError("this peer is not let in", check="address", step=f"{step}.tbs.token1.pkCert")
    if (token.version != V1) if v1 else not token.version & V1:
        raise HandshakeError("version is not v1", check="version", step=f"{step}.tbs.token1.version")
    check_time(token.time, utc_ms, pdu.kind)
    return peer, wanted


# --- step 1, client ---------------------------------------------------------------------------------------------------


class MadeRequest(NamedTuple):
    """The client's HandshakeReq and what the client keeps until the answer.

    Attributes:
        pdu: the SecPDU.
        keys: one fresh key pair per offered group.
        h1: running hash over the request.
        offer: encr-mode as offered.
        time: time of the token.
    """

    pdu: bytes
    keys: tuple[Ephemeral, ...]
    h1: bytes
    offer: AeaOffer | NonAeaOffer
    time: str

    def wipe(self) -> None:
        """Forget the private keys."""
        for key in self.keys:
            key.wipe()


def make_request(
    config: Config, policy: Policy, number: int, utc_ms: int, appl_data: bytes, maximum: int
) -> MadeRequest:
    """Step 1: key pairs, token1, signature.

    Arguments:
        number: the own association number.
        utc_ms: time of the token.
        appl_data: the protected protocol's request, one TLV; empty for none.
        maximum: octets the environment has room for.
    """
    keys = tuple(Ephemeral.generate(group) for group in policy.groups)
    offer = make_offer(policy)
    encrypting = isinstance(offer, AeaOffer) or offer.encr is not None
    algorithm = signature_algorithm(config.credential)
    time = time_text(utc_ms)
    token = ClearToken1(
        algorithm,
        config.credential.certificate,
        config.credential.cert_path,
        V1,
        str(number),
        tuple(DhPublic(key.group, key.public) for key in keys),
        HMAC_SHA256,
        time,
        offer,
        conf_params(config, encrypting),
        _own_roles(config, utc_ms),
    )
    try:
        tbs, pdu = _sign_fitting(config, SecPduKind.HANDSHAKE_REQ, token, algorithm, appl_data, maximum)
    except BaseException:
        for key in keys:
            key.wipe()  # the traceback keeps them
        raise
    return MadeRequest(pdu, keys, hash_request(tbs), offer, time)


# --- step 3, server -------------------------------------------------------------------------------------------------


class TakenRequest(NamedTuple):
    """A HandshakeReq whose signature, path, address and time are good.

    Attributes:
        peer: the verified client.
        name: the identity it goes by: its calling address.
        number: its association number n.
        time: time of its token.
        appl_data: the protected protocol's request, empty if absent.
        h1: running hash over the request.
        suite, value: what was selected; None if ``later`` says why not.
        later: the fault in a check that comes after replay and numbers.
    """

    peer: VerifiedPeer
    name: OsiName
    number: str
    time: str
    appl_data: bytes
    h1: bytes
    suite: Suite | None
    value: DhPublic | None
    later: PeerError | None

    def wipe(self) -> None:
        """There is nothing to forget; the client's ``TakenAcceptance`` has keys."""


def take_request(
    pdu: Handshake, config: Config, calling: OsiName | None, refuse_before: str | None, utc_ms: int
) -> TakenRequest:
    """Step 3: all checks of HandshakeReq but replay and numbers, in order, and the server's selection.

    Arguments:
        calling: the client's address in the environment, None if missing.
        refuse_before: time key of the own start when no replay memory survived it.
    Errors:
        PeerError with the name of the first check that failed.
    """
    token = pdu.token1
    peer, calling = _identify(pdu, config, calling, None, utc_ms)
    if refuse_before is not None and time_key(token.time) < refuse_before:
        raise HandshakeError("time before our start", check="time", step="HandshakeReq.tbs.token1.time")
    suite = value = later = None
    try:
        if ":" in token.asso_id:
            raise HandshakeError("not the client's number alone", step="HandshakeReq.tbs.token1.assoID")
        policy = config.policy_for(calling)
        value = select_group(token.dh_key, policy)
        check_public(value.group, value.public)
        if token.hmac != HMAC_SHA256:
            raise HandshakeError("hmac not supported", check="hmac", step="HandshakeReq.tbs.token1.hmac")
        suite = select_mode(token, policy)
        peer = take_roles(peer, token.att_cert, token.cert_path, config.roles, config.trust, utc_ms, may_ask=True)
    except PeerError as fault:
        later = fault
    return TakenRequest(
        peer, calling, token.asso_id, token.time, pdu.appl_data or b"", hash_request(pdu.tbs), suite, value, later
    )


# --- steps 3 and 7, where somebody has to be asked ------------------------------------------------------------------


def settle(taken: TakenRequest | TakenAcceptance, config: Config, utc_ms: int) -> TakenRequest | TakenAcceptance:
    """``taken`` after the questions about its peer's revocation were asked; a job of its own, which a slow responder
    holds up and nobody else. So a revocation that only a responder knows is found after address, version and time.

    Errors:
        HandshakeError "revoked"; "certificate" or "path" where the policy refuses who cannot be looked up.
    """
    try:
        return taken._replace(peer=settle_peer(taken.peer, config.roles, config.trust, utc_ms))
    except BaseException:
        taken.wipe()
        raise


# --- step 5, server -------------------------------------------------------------------------------------------------


class MadeAcceptance(NamedTuple):
    """The server's HandshakeAcc and its keys.

    Attributes:
        pdu: the SecPDU.
        key: the server's key pair, kept for key updates.
        h2: running hash over the handshake.
        okm: the keys.
        time: time of the token.
    """

    pdu: bytes
    key: Ephemeral
    h2: bytes
    okm: Secret
    time: str

    def wipe(self) -> None:
        """Forget all keys."""
        self.key.wipe()
        self.okm.wipe()


def make_acceptance(
    config: Config, taken: TakenRequest, asso_id: str, utc_ms: int, appl_data: bytes, maximum: int
) -> MadeAcceptance:
    """Step 5: key pair, Z, token1, signature, keys.

    Arguments:
        asso_id: ``n:m``.
        utc_ms: time of the token.
        appl_data: the protected protocol's response, one TLV; empty for none.
        maximum: octets the environment has room for.
    Errors:
        HandshakeError "protocol-error" if the client's public value gives a forbidden Z.
    """
    suite, value = taken.suite, taken.value
    if suite is None or value is None:
        raise ValueError("step 4 has to raise TakenRequest.later")
    key = Ephemeral.generate(value.group)
    z = key.derive(value.public)
    algorithm = signature_algorithm(config.credential)
    time = time_text(utc_ms)
    token = ClearToken1(
        algorithm,
        config.credential.certificate,
        config.credential.cert_path,
        V1,
        asso_id,
        (DhPublic(key.group, key.public),),
        HMAC_SHA256,
        time,
        suite.encr_mode,
        conf_params(config, suite.encrypting),
        _own_roles(config, utc_ms),
    )
    try:
        tbs, pdu = _sign_fitting(config, SecPduKind.HANDSHAKE_ACC, token, algorithm, appl_data, maximum)
    except BaseException:
        key.wipe()
        z.wipe()
        raise
    h2 = hash_acceptance(tbs, taken.h1)
    return MadeAcceptance(pdu, key, h2, derive(suite.guard_params(asso_id), z, h2), time)


# --- step 7, client -------------------------------------------------------------------------------------------------


class TakenAcceptance(NamedTuple):
    """A HandshakeAcc whose signature, path, address and time are good.

    Attributes:
        peer: the verified server.
        asso_id: as it stands in the token, not yet judged.
        time: time of its token.
        appl_data: the protected protocol's response, empty if absent.
        suite, value, h2, okm: the agreement and the keys; None if ``later`` says why not.
        later: the fault in a check that comes after replay and numbers.
    """

    peer: VerifiedPeer
    asso_id: str
    time: str
    appl_data: bytes
    suite: Suite | None
    value: DhPublic | None
    h2: bytes
    okm: Secret | None
    later: PeerError | None

    def wipe(self) -> None:
        """Forget the keys."""
        if self.okm is not None:
            self.okm.wipe()


def take_acceptance(
    pdu: Handshake, made: MadeRequest, config: Config, called: OsiName, responding: OsiName | None, utc_ms: int
) -> TakenAcceptance:
    """Step 7: all checks of HandshakeAcc but replay and numbers, in order, and the keys; the key pairs are wiped.

    Arguments:
        called: the address that was called.
        responding: the address in the answer, which must be there and equal.
    Errors:
        PeerError with the name of the first check that failed.
    """
    token = pdu.token1
    suite = value = okm = later = None
    h2 = b""
    try:
        peer, _ = _identify(pdu, config, called, responding, utc_ms)
        try:
            value = judge_group(token.dh_key, tuple(key.group for key in made.keys))
            check_public(value.group, value.public)
            if token.hmac != HMAC_SHA256:
                raise HandshakeError("hmac changed", check="hmac", step="HandshakeAcc.tbs.token1.hmac")
            suite = judge_mode(token.encr_mode, made.offer)
            peer = take_roles(peer, token.att_cert, token.cert_path, config.roles, config.trust, utc_ms, may_ask=True)
            own = next(key for key in made.keys if key.group == value.group)
            h2 = hash_acceptance(pdu.tbs, made.h1)
            okm = derive(suite.guard_params(token.asso_id), own.derive(value.public), h2)
        except PeerError as fault:
            later = fault
    finally:
        made.wipe()
    return TakenAcceptance(peer, token.asso_id, token.time, pdu.appl_data or b"", suite, value, h2, okm, later)


def room(connect_user_data: int = limits.SPEC_CONNECT_USER_DATA_MAX) -> int:
    """Octets a handshake SecPDU may have where CONNECT user data is limited (OSI)."""
    return connect_user_data - limits.OUR_CONNECT_OVERHEAD


def offers_encryption_list(offer: AeaOffer | NonAeaOffer) -> bool:
    """Whether a request offered a list of encryption algorithms; selects the event for a reject with diagnostic 6."""
    return isinstance(offer, NonAeaOffer) and offer.encr is not None


__all__ = [
    "MadeAcceptance",
    "MadeRequest",
    "TakenAcceptance",
    "TakenRequest",
    "make_acceptance",
    "make_request",
    "offers_encryption_list",
    "room",
    "settle",
    "take_acceptance",
    "take_request",
]
