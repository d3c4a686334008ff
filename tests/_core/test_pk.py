"""Public-key work against ``cryptography`` as oracle, and everything that must be refused."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsec._core.cursor import encode_oid, tlv
from fastsec._core.pk import Ephemeral, PrivateKey, PublicKey, check_der
from fastsec.errors import ConfigError, DecodeError, HandshakeError, IntegrityError, LocalError

ECDSA = {"sha256": "1.2.840.10045.4.3.2", "sha384": "1.2.840.10045.4.3.3", "sha512": "1.2.840.10045.4.3.4"}
RSA = {"sha256": "1.2.840.113549.1.1.11", "sha384": "1.2.840.113549.1.1.12", "sha512": "1.2.840.113549.1.1.13"}
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
CURVES: dict[str, ec.EllipticCurve] = {
    "secp256r1": ec.SECP256R1(),
    "brainpoolP256r1": ec.BrainpoolP256R1(),
    "secp384r1": ec.SECP384R1(),
    "secp521r1": ec.SECP521R1(),
    "brainpoolP384r1": ec.BrainpoolP384R1(),
    "brainpoolP512r1": ec.BrainpoolP512R1(),
}
EC_KEYS = {name: ec.generate_private_key(curve) for name, curve in CURVES.items()}
RSA_KEY = rsa.generate_private_key(65537, 2048)
P256_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def spki(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(key: object, password: bytes | None = None, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, form, encryption)  # type: ignore[attr-defined]  # any private key


def rsa_spki(n: int, e: int) -> bytes:
    def integer(value: int) -> bytes:
        return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))

    algorithm = tlv(0x30, tlv(0x06, encode_oid("1.2.840.113549.1.1.1")) + b"\x05\x00")
    return tlv(0x30, algorithm + tlv(0x03, b"\x00" + tlv(0x30, integer(n) + integer(e))))


def point(x: int, y: int) -> bytes:
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


# --- verifying ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("digest", ECDSA)
@pytest.mark.parametrize("curve", CURVES)
def test_ecdsa_of_the_oracle_verifies(curve: str, digest: str) -> None:
    key = EC_KEYS[curve]
    public = PublicKey.from_spki(spki(key), ca=True)
    assert public.kind == curve
    assert public.bits == key.curve.key_size
    signature = key.sign(b"data", ec.ECDSA(HASHES[digest]))
    public.verify(ECDSA[digest], b"data", signature)
    with pytest.raises(IntegrityError) as caught:
        public.verify(ECDSA[digest], b"datb", signature)
    assert caught.value.check == "signature"


@pytest.mark.parametrize("digest", RSA)
def test_rsa_of_the_oracle_verifies(digest: str) -> None:
    public = PublicKey.from_spki(spki(RSA_KEY))
    assert (public.kind, public.bits) == ("rsa", 2048)
    signature = RSA_KEY.sign(b"data", padding.PKCS1v15(), HASHES[digest])
    public.verify(RSA[digest], b"data", signature)
    for wrong in (signature[:-1], b"\x00" + signature, signature + b"\x00", b"", signature[::-1]):
        with pytest.raises(IntegrityError):
            public.verify(RSA[digest], b"data", wrong)
    other = next(oid for name, oid in RSA.items() if name != digest)
    with pytest.raises(IntegrityError):
        public.verify(other, b"data", signature)


def test_pss_is_not_pkcs1() -> None:
    signature = RSA_KEY.sign(b"data", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    with pytest.raises(IntegrityError):
        PublicKey.from_spki(spki(RSA_KEY)).verify(RSA["sha256"], b"data", signature)


@pytest.mark.parametrize("oid", [*RSA.values(), "1.2.840.113549.1.1.10", "1.2.840.10045.4.1", "", "x"])
def test_ec_key_refuses_other_algorithms(oid: str) -> None:
    signature = EC_KEYS["secp256r1"].sign(b"data", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(IntegrityError) as caught:
        PublicKey.from_spki(spki(EC_KEYS["secp256r1"])).verify(oid, b"data", signature)
    assert caught.value.check == "signature"


def test_rsa_key_refuses_ecdsa() -> None:
    signature = RSA_KEY.sign(b"data", padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(IntegrityError):
        PublicKey.from_spki(spki(RSA_KEY)).verify(ECDSA["sha256"], b"data", signature)


def test_ecdsa_signature_is_strict_der() -> None:
    key = EC_KEYS["secp256r1"]
    public = PublicKey.from_spki(spki(key))
    good = key.sign(b"data", ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(good)
    public.verify(ECDSA["sha256"], b"data", good)
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    padded = tlv(0x30, tlv(0x02, b"\x00" * 2 + r.to_bytes(32, "big")) + tlv(0x02, b"\x00" * 2 + s.to_bytes(32, "big")))
    long_form = b"\x30\x81" + good[1:]
    for wrong in (raw, padded, long_form, good + b"\x00", good[:-1], b"", b"\x30\x00", encode_dss_signature(0, 0)):
        with pytest.raises(IntegrityError):
            public.verify(ECDSA["sha256"], b"data", wrong)
    for wrong_s in (0, P256_ORDER, s + P256_ORDER):
        with pytest.raises(IntegrityError):
            public.verify(ECDSA["sha256"], b"data", encode_dss_signature(r, wrong_s))


def test_every_bit_flip_of_a_signature_is_noticed() -> None:
    key = EC_KEYS["secp256r1"]
    public = PublicKey.from_spki(spki(key))
    good = key.sign(b"data", ec.ECDSA(hashes.SHA256()))
    for bit in range(8 * len(good)):
        wrong = bytearray(good)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            public.verify(ECDSA["sha256"], b"data", bytes(wrong))
    public.verify(ECDSA["sha256"], b"data", good)


def test_keys_share_contexts_without_mixing_up() -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(4)]
    publics = [PublicKey.from_spki(spki(key)) for key in keys]
    signatures = [key.sign(b"data", ec.ECDSA(hashes.SHA256())) for key in keys]
    for i, public in enumerate(publics):
        for j, signature in enumerate(signatures):
            if i == j:
                public.verify(ECDSA["sha256"], b"data", signature)
            else:
                with pytest.raises(IntegrityError):
                    public.verify(ECDSA["sha256"], b"data", signature)


# --- public keys ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("curve", ["secp384r1", "secp521r1", "brainpoolP384r1", "brainpoolP512r1"])
def test_wide_curves_are_for_authorities(curve: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        PublicKey.from_spki(spki(EC_KEYS[curve]))
    assert caught.value.check == "certificate"
    assert PublicKey.from_spki(spki(EC_KEYS[curve]), ca=True).kind == curve


def test_other_curves_are_refused() -> None:
    for curve in (ec.SECP256K1(), ec.SECP224R1()):
        with pytest.raises(HandshakeError):
            PublicKey.from_spki(spki(ec.generate_private_key(curve)), ca=True)


def test_explicit_curve_parameters_are_refused() -> None:
    order = P256_ORDER
    a, b = P256_P - 3, 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    base = EC_KEYS["secp256r1"].public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def integer(value: int) -> bytes:
        return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))

    field = tlv(0x30, tlv(0x06, encode_oid("1.2.840.10045.1.1")) + integer(P256_P))
    curve = tlv(0x30, tlv(0x04, a.to_bytes(32, "big")) + tlv(0x04, b.to_bytes(32, "big")))
    explicit = tlv(0x30, integer(1) + field + curve + tlv(0x04, base) + integer(order) + integer(1))
    algorithm = tlv(0x30, tlv(0x06, encode_oid("1.2.840.10045.2.1")) + explicit)
    with pytest.raises(HandshakeError) as caught:
        PublicKey.from_spki(tlv(0x30, algorithm + tlv(0x03, b"\x00" + base)), ca=True)
    assert caught.value.check == "certificate"


def test_points_must_be_uncompressed_and_on_the_curve() -> None:
    good = spki(EC_KEYS["secp256r1"])
    numbers = EC_KEYS["secp256r1"].public_key().public_numbers()
    prefix = good[:-65]
    assert PublicKey.from_spki(prefix + point(numbers.x, numbers.y)).octets == point(numbers.x, numbers.y)
    hybrid = bytes([6 + (numbers.y & 1)]) + point(numbers.x, numbers.y)[1:]
    off = [
        point(numbers.x, numbers.y ^ 1),
        point(0, 0),
        point(P256_P, numbers.y),
        point(numbers.x + P256_P if numbers.x + P256_P < 2**256 else P256_P + 1, numbers.y),
        bytes(65),
        hybrid,
    ]
    for wrong in off:
        with pytest.raises(HandshakeError):
            PublicKey.from_spki(prefix + wrong)
    compressed = EC_KEYS["secp256r1"].public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    with pytest.raises(HandshakeError):
        PublicKey.from_spki(tlv(0x30, good[2:23] + tlv(0x03, b"\x00" + compressed)))


def test_rsa_sizes_and_exponents() -> None:
    n = RSA_KEY.public_key().public_numbers().n
    assert PublicKey.from_spki(rsa_spki(n, 3)).bits == 2048
    assert PublicKey.from_spki(rsa_spki(n, 2**32 - 1)).bits == 2048
    assert PublicKey.from_spki(rsa_spki(2**4095 + 1, 65537)).bits == 4096
    for modulus, exponent in (
        (n, 1),
        (n, 65536),
        (n, 2),
        (n, 0),
        (n, 2**32 + 1),
        (n - 1, 65537),
        (n >> 1 | 1, 65537),
        (2**1023 + 1, 65537),
        (2**4096 + 1, 65537),
        (0, 65537),
    ):
        with pytest.raises(HandshakeError) as caught:
            PublicKey.from_spki(rsa_spki(modulus, exponent))
        assert caught.value.check == "certificate"


def test_rsa_key_is_strict_der() -> None:
    good = spki(RSA_KEY)
    assert PublicKey.from_spki(good).octets in good
    assert good == rsa_spki(RSA_KEY.public_key().public_numbers().n, 65537)
    modulus = RSA_KEY.public_key().public_numbers().n.to_bytes(256, "big")
    algorithm = good[4:19]
    exponent = b"\x02\x03\x01\x00\x01"

    def build(key: bytes, unused: bytes = b"\x00", head: bytes = algorithm) -> bytes:
        return tlv(0x30, head + tlv(0x03, unused + key))

    assert build(tlv(0x30, tlv(0x02, b"\x00" + modulus) + exponent)) == good
    no_null = tlv(0x30, tlv(0x06, encode_oid("1.2.840.113549.1.1.1")))
    pss = tlv(0x30, tlv(0x06, encode_oid("1.2.840.113549.1.1.10")))
    for wrong in (
        build(tlv(0x30, tlv(0x02, modulus) + exponent)),  # negative
        build(tlv(0x30, tlv(0x02, b"\x00\x00" + modulus) + exponent)),
        build(tlv(0x30, tlv(0x02, b"\x00" + modulus) + b"\x02\x04\x00\x01\x00\x01")),
        build(tlv(0x30, tlv(0x02, b"\x00" + modulus) + exponent + b"\x05\x00")),
        build(tlv(0x30, tlv(0x02, b"\x00" + modulus) + exponent) + b"\x00"),
        build(tlv(0x30, tlv(0x02, b"\x00" + modulus) + exponent), unused=b"\x01"),
        build(tlv(0x30, tlv(0x02, b"\x00" + modulus) + exponent), head=no_null),
        build(tlv(0x30, tlv(0x02, b"\x00" + modulus) + exponent), head=pss),
        build(b""),
        build(tlv(0x30, b"")),
        tlv(0x30, algorithm),
        good + b"\x00",
        b"",
    ):
        with pytest.raises(HandshakeError):
            PublicKey.from_spki(wrong)
    for size in range(len(good)):
        with pytest.raises(HandshakeError):
            PublicKey.from_spki(good[:size])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([spki(RSA_KEY), spki(EC_KEYS["secp256r1"])]), st.integers(0, 400), st.integers(1, 255))
def test_a_changed_key_is_a_key_or_refused(der: bytes, position: int, change: int) -> None:
    changed = bytearray(der)
    changed[position % len(der)] ^= change
    try:
        public = PublicKey.from_spki(bytes(changed))
    except HandshakeError:
        return
    oracle = load_der_public_key(bytes(changed))
    assert oracle.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == bytes(changed)
    assert public.bits == oracle.key_size  # type: ignore[union-attr]  # RSA and EC keys have it


def test_equal_keys() -> None:
    one, again = (PublicKey.from_spki(spki(EC_KEYS["secp256r1"])) for _ in range(2))
    other = PublicKey.from_spki(spki(EC_KEYS["brainpoolP256r1"]))
    assert one == again
    assert hash(one) == hash(again)
    assert one != other
    assert one != "key"
    with pytest.raises(LocalError):
        PublicKey()


# --- private keys and signing ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("curve", ["secp256r1", "brainpoolP256r1"])
def test_ecdsa_of_ours_verifies_at_the_oracle(curve: str) -> None:
    key = EC_KEYS[curve]
    ours = PrivateKey.from_pem(pem(key))
    assert ours.kind == curve
    assert ours.public_spki() == spki(key)
    signature = ours.sign(ECDSA["sha256"], b"data")
    key.public_key().verify(signature, b"data", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, b"datb", ec.ECDSA(hashes.SHA256()))
    ours.public_key.verify(ECDSA["sha256"], b"data", signature)


@pytest.mark.parametrize("digest", RSA)
@pytest.mark.parametrize("bits", [2048, 3072])
def test_rsa_of_ours_verifies_at_the_oracle(bits: int, digest: str) -> None:
    key = RSA_KEY if bits == 2048 else rsa.generate_private_key(3, bits)
    ours = PrivateKey.from_pem(pem(key))
    signature = ours.sign(RSA[digest], b"data")
    assert len(signature) == bits // 8
    key.public_key().verify(signature, b"data", padding.PKCS1v15(), HASHES[digest])


def test_one_key_signs_with_several_hashes_in_turn() -> None:
    ours = PrivateKey.from_pem(pem(RSA_KEY))
    for digest in ("sha256", "sha512", "sha256", "sha384"):
        signature = ours.sign(RSA[digest], b"data")
        RSA_KEY.public_key().verify(signature, b"data", padding.PKCS1v15(), HASHES[digest])


def test_signing_with_a_foreign_algorithm_is_the_callers_fault() -> None:
    for key, oid in ((RSA_KEY, ECDSA["sha256"]), (EC_KEYS["secp256r1"], RSA["sha256"]), (RSA_KEY, "1.2.3")):
        with pytest.raises(LocalError):
            PrivateKey.from_pem(pem(key)).sign(oid, b"data")


def test_private_key_forms() -> None:
    for key in (RSA_KEY, EC_KEYS["secp256r1"]):
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        traditional = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        for ours in (
            PrivateKey.from_pem(pem(key)),
            PrivateKey.from_pem(pem(key, b"secret"), b"secret"),
            PrivateKey.from_pem(pem(key, None, PrivateFormat.TraditionalOpenSSL)),
            PrivateKey.from_pem(pem(key, b"secret", PrivateFormat.TraditionalOpenSSL), b"secret"),
            PrivateKey.from_der(der),
            PrivateKey.from_der(traditional),
        ):
            assert ours.public_spki() == spki(key)
        with pytest.raises(ConfigError):
            PrivateKey.from_der(der + b"\x00")
        with pytest.raises(ConfigError):
            PrivateKey.from_der(der[:-1])


@pytest.mark.parametrize("password", [None, b"", b"wrong", b"x" * 5000])
def test_encrypted_key_without_its_password(password: bytes | None) -> None:
    with pytest.raises(ConfigError) as caught:
        PrivateKey.from_pem(pem(EC_KEYS["secp256r1"], b"secret"), password)
    assert "secret" not in str(caught.value)


def test_unusable_private_keys() -> None:
    for key in (
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 1024),
        ed25519.Ed25519PrivateKey.generate(),
        dsa.generate_private_key(1024),
    ):
        with pytest.raises(ConfigError):
            PrivateKey.from_pem(pem(key))
    for octets in (b"", b"x", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", b"x" * 70_000):
        with pytest.raises(ConfigError):
            PrivateKey.from_pem(octets)
    with pytest.raises(LocalError):
        PrivateKey()


def test_private_key_with_a_foreign_public_half() -> None:
    one, other = EC_KEYS["secp256r1"], ec.generate_private_key(ec.SECP256R1())
    der = one.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    theirs = other.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    own = one.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert own in der
    with pytest.raises(ConfigError):
        PrivateKey.from_der(der.replace(own, theirs))


def test_private_key_stays_where_it_is() -> None:
    ours = PrivateKey.from_pem(pem(EC_KEYS["secp256r1"]))
    scalar = EC_KEYS["secp256r1"].private_numbers().private_value
    assert f"{scalar:x}" not in repr(ours)
    for action in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(LocalError):
            action(ours)


def test_threads_share_one_key() -> None:
    ours = PrivateKey.from_pem(pem(EC_KEYS["secp256r1"]))
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait()
        for i in range(50):
            data = b"%d %d" % (number, i)
            ours.public_key.verify(ECDSA["sha256"], data, ours.sign(ECDSA["sha256"], data))
            pair, peer = Ephemeral.generate(23), Ephemeral.generate(23)
            assert pair.derive(peer.public).reveal() == peer.derive(pair.public).reveal()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for number in range(4)]:
            done.result()


# --- DER ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "der", ["0500", "3000", "30030201 05", "3081 80" + "0500" * 64, "9f2a0105", "04820100" + "00" * 256]
)
def test_der(der: str) -> None:
    check_der(bytes.fromhex(der))


@pytest.mark.parametrize(
    "der",
    [
        "",
        "05",
        "050000",
        "058100",
        "30800000",
        "308103020105",
        "3004028101 05",
        "30820003020105",
        "0481 01 00",
        "3005020105",
        "a0030481 00",
        "30" * 40,
    ],
)
def test_not_der(der: str) -> None:
    with pytest.raises(DecodeError):
        check_der(bytes.fromhex(der))


def test_der_nesting_is_limited() -> None:
    octets = b"\x05\x00"
    for _ in range(16):
        octets = tlv(0x30, octets)
    check_der(octets)
    with pytest.raises(DecodeError):
        check_der(tlv(0x30, octets))
