"""Key agreement, signatures and the key schedule."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509 import InvalidVersion, load_der_x509_certificate

from .secpdu import ECDSA_SHA256, RSA_SHA256
from .tlv import Fault, bad

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

P_14 = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
CURVES: dict[int, ec.EllipticCurve] = {23: ec.SECP256R1(), 28: ec.BrainpoolP256R1()}


class DhKey:
    """A key pair of group 14, 23 or 28; ``secret`` fixes the private value."""

    def __init__(self, group: int, secret: int | None = None) -> None:
        self.group = group
        if group == 14:
            self._secret = secret or secrets.randbits(512)
            self.public = pow(2, self._secret, P_14).to_bytes(256, "big")
        else:
            curve = CURVES[group]
            self._key = ec.derive_private_key(secret, curve) if secret else ec.generate_private_key(curve)
            form = serialization.PublicFormat.UncompressedPoint
            self.public = self._key.public_key().public_bytes(serialization.Encoding.X962, form)

    def shared(self, public: bytes) -> bytes:
        """Z with the peer's public value."""
        if self.group == 14:
            value = int.from_bytes(public, "big")
            if len(public) != 256 or not 2 <= value <= P_14 - 2:
                raise bad("public value")
            z = pow(value, self._secret, P_14)
            if z in (0, 1, P_14 - 1):
                raise bad("Z")
            return z.to_bytes(256, "big")
        if len(public) != 65 or public[0] != 4:
            raise bad("public value")
        try:
            peer = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[self.group], public)
        except ValueError:
            raise bad("point") from None
        return self._key.exchange(ec.ECDH(), peer)


def sign(key: Private, data: bytes, deterministic: bool = False) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=deterministic))


def algorithm_of(key: Private) -> str:
    return RSA_SHA256 if isinstance(key, rsa.RSAPrivateKey) else ECDSA_SHA256


def verify(certificate: bytes, oid: str, data: bytes, signature: bytes) -> None:
    """Fault signature unless it is one over data with the key of the certificate."""
    try:
        key = load_der_x509_certificate(certificate).public_key()
    except (ValueError, TypeError, InvalidVersion, UnsupportedAlgorithm):
        raise Fault("certificate") from None
    try:
        if isinstance(key, rsa.RSAPublicKey) and oid == RSA_SHA256:
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey) and oid == ECDSA_SHA256:
            if signature != utils.encode_dss_signature(*utils.decode_dss_signature(signature)):
                raise Fault("signature")
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        else:
            raise Fault("signature")
    except (InvalidSignature, ValueError):
        raise Fault("signature") from None


def h1(tbs_req: bytes) -> bytes:
    return hashlib.sha256(tbs_req + bytes(32)).digest()


def h2(tbs_acc: bytes, previous: bytes) -> bytes:
    return hashlib.sha256(tbs_acc + previous).digest()


def hkdf(z: bytes, salt: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256 and no info."""
    prk = hmac.digest(salt, z, "sha256")
    okm = block = b""
    counter = 1
    while len(okm) < length:
        block = hmac.digest(prk, block + bytes([counter]), "sha256")
        okm += block
        counter += 1
    return okm[:length]


def cut(z: bytes, salt: bytes, ik_size: int, ek_size: int) -> dict[str, bytes]:
    """IK_client, IK_server, EK_client, EK_server; empty where the size is 0."""
    okm = hkdf(z, salt, 2 * (ik_size + ek_size))
    names = {"IK_client": ik_size, "IK_server": ik_size, "EK_client": ek_size, "EK_server": ek_size}
    keys: dict[str, bytes] = {}
    for name, size in names.items():
        keys[name], okm = okm[:size], okm[size:]
    return keys
