"""The rules of the A-profile: the value on the wire against octets made by hand, every check, times, names."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from aprofile_world import DAY, SIGNS, Authority, AWorld, Holder, characters, der, now_ms, rsa_key, seconds, value_of
from fastsec import limits
from fastsec._core.pk import PrivateKey
from fastsec.aprofile import (
    Allowed,
    AProfileMemory,
    load_a_profile_credential,
    make_a_profile_credential,
    make_value,
    subject_text,
    take_value,
)
from fastsec.errors import ConfigError, DecodeError, LimitReached, PeerError, ReplayError
from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import SoftwareSigner
from fastsec.pki.path import TrustStore
from fastsec.secpdu import authentication
from fastsec.secpdu.authentication import AuthenticationValue
from fastsec.secpdu.timestamp import time_key

WORLD = AWorld()
NOON = 1_790_000_000_000  # 2026-09-21T14:13:20Z


def take(value: bytes, **changes: Any) -> Any:
    config = WORLD.config(WORLD.centre, **changes)
    return take_value(value, config, config.trust, now_ms())


def refused(check: str, value: bytes, **changes: Any) -> PeerError:
    with pytest.raises(PeerError) as caught:
        take(value, **changes)
    assert caught.value.check == check, caught.value
    return caught.value


# --- the value --------------------------------------------------------------------------------------------------------
def test_octets_are_those_of_the_specification() -> None:
    """certificate-based [0] { [0] OCTET STRING, [1] GeneralizedTime, [2] OCTET STRING }, IMPLICIT."""
    by_hand = der(0xA0, der(0x80, b"C" * 700), der(0x81, b"20260921141320."), der(0x82, b"S" * 256))
    value = AuthenticationValue(b"C" * 700, "20260921141320.", b"S" * 256)
    assert authentication.encode(value) == by_hand
    assert authentication.decode(by_hand) == value


def test_known_octets() -> None:
    """A short value, written out."""
    octets = bytes.fromhex("a0 1b 80 02 30 00 81 0f 3230323630393231313431333230 2e 82 04 01020304".replace(" ", ""))
    assert authentication.decode(octets) == AuthenticationValue(b"\x30\x00", "20260921141320.", b"\x01\x02\x03\x04")
    assert authentication.encode(authentication.decode(octets)) == octets


def test_indefinite_lengths_are_read() -> None:
    octets = b"\xa0\x80" + der(0x80, b"c") + der(0x81, b"20260921141320Z") + der(0x82, b"s") + b"\0\0"
    assert authentication.decode(octets) == AuthenticationValue(b"c", "20260921141320Z", b"s")


TIME = der(0x81, b"20260921141320.")


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\xa0\x00",
        der(0xA1, der(0x80, b"c"), TIME, der(0x82, b"s")),
        der(0x30, der(0x80, b"c"), TIME, der(0x82, b"s")),
        der(0xA0, TIME, der(0x80, b"c"), der(0x82, b"s")),
        der(0xA0, der(0x80, b"c"), TIME),
        der(0xA0, der(0x80, b"c"), TIME, der(0x82, b"s"), der(0x83, b"x")),
        der(0xA0, der(0x80, b"c"), TIME, der(0x82, b"s")) + b"\x00",
        der(0xA0, der(0x80, b"c"), TIME, der(0x82, bytes(limits.OUR_SIGNATURE_MAX + 1))),
        der(0xA0, der(0x80, b"c"), der(0x81, b"2026092114132"), der(0x82, b"s")),
        der(0xA0, der(0x80, b"c"), der(0x81, b"20260931141320Z"), der(0x82, b"s")),
        der(0xA0, der(0x80, b"c"), der(0x81, b"20260921141320+0100"), der(0x82, b"s")),
        der(0xA0, der(0x80, b"c"), der(0x81, b"2026092114132\xb0Z"), der(0x82, b"s")),
        der(0xA0, der(0x80, b"c"), der(0x81, b"20260921141320.1234567890Z"), der(0x82, b"s")),
    ],
)
def test_malformed_values(octets: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        authentication.decode(octets)
    assert caught.value.check == "protocol-error"


def test_largest_certificate() -> None:
    value = AuthenticationValue(bytes(limits.SPEC_CERTIFICATE_MAX), "20260921141320Z", b"s")
    assert authentication.decode(authentication.encode(value)) == value
    larger = value._replace(certificate=bytes(limits.SPEC_CERTIFICATE_MAX + 1))
    with pytest.raises(DecodeError) as caught:
        authentication.decode(authentication.encode(larger))
    assert caught.value.check == "certificate"


@given(st.binary(max_size=60))
def test_any_octets(octets: bytes) -> None:
    try:
        value = authentication.decode(octets)
    except DecodeError:
        return
    assert authentication.decode(authentication.encode(value)) == value


def test_times() -> None:
    forms = {form: authentication.time_characters(NOON + 123, form) for form in authentication.TIME_FORMS}
    assert forms == {"field": "20260921141320.", "der": "20260921141320Z", "milliseconds": "20260921141320.123Z"}
    for text in ("20260921141320", "20260921141320.", "20260921141320Z", "20260921141320,Z", "20260921141320.000"):
        assert time_key(authentication.time_stamp(text)) == time_key("20260921141320Z")
    assert time_key(authentication.time_stamp("20260921141320.5")) == time_key("20260921141320.500Z")


# --- what is signed ---------------------------------------------------------------------------------------------------
def readings(text: str) -> list[bytes]:
    octets = text.encode()
    return [octets, b"\x81" + bytes((len(octets),)) + octets, b"\x18" + bytes((len(octets),)) + octets]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("form", ["%Y%m%d%H%M%S.", "%Y%m%d%H%M%SZ", "%Y%m%d%H%M%S"])
def test_every_reading_of_what_is_signed_is_accepted(number: int, form: str) -> None:
    text = characters(form=form)
    taken = take(value_of(WORLD.der, text, signed=readings(text)[number]))
    assert taken.peer.certificate.der == WORLD.der.certificate
    assert taken.peer.names == frozenset()
    assert taken.time == text[:14] + "Z"


@pytest.mark.parametrize("signed", authentication.SIGNED)
@pytest.mark.parametrize("form", authentication.TIME_FORMS)
def test_own_values_are_signed_as_configured(signed: Any, form: Any) -> None:
    """The signature is checked by another implementation, over what the setting says and nothing else."""
    config = WORLD.config(WORLD.der, signed=signed, time=form)
    text = authentication.time_characters(NOON, form)
    value = authentication.decode(make_value(config, text))
    assert (value.certificate, value.time) == (WORLD.der.certificate, text)
    wanted = readings(text)[authentication.SIGNED.index(signed)]
    assert value.signature == WORLD.der.sign(wanted)  # PKCS#1 v1.5 is deterministic


def test_something_else_signed() -> None:
    text = characters()
    refused("signature", value_of(WORLD.der, text, signed=text[:-1].encode()))
    refused("signature", value_of(WORLD.der, text, signed=b"\x04\x0f" + text.encode()))
    refused("signature", value_of(WORLD.der, text, signed=b""))


# --- the checks -------------------------------------------------------------------------------------------------------
def test_time_within_ten_minutes() -> None:
    for offset in (-limits.SPEC_CLOCK_SKEW + 5, limits.SPEC_CLOCK_SKEW - 5):
        take(value_of(WORLD.der, characters(offset)))
    for offset in (-limits.SPEC_CLOCK_SKEW - 2, limits.SPEC_CLOCK_SKEW + 2, -DAY / 1000):
        refused("time", value_of(WORLD.der, characters(offset)))


def test_certificate_of_another_authority() -> None:
    other = Authority("another authority", 101)
    refused("path", value_of(other.holder("der", 2), characters()))


def test_forged_certificate() -> None:
    """The right issuer's name, signed by another key."""
    other = Authority(number=101)
    refused("certificate-signature", value_of(Holder(_relabelled(other), rsa_key(2)), characters()))


def _relabelled(other: Authority) -> bytes:
    certificate = other.holder("der", 2).certificate
    assert other.name == WORLD.authority.name
    return certificate.replace(
        builder.key_identifier(builder.spki(other.key.public_key())),
        builder.key_identifier(builder.spki(WORLD.authority.key.public_key())),
    )


def test_expired_and_early() -> None:
    past = WORLD.authority.holder("der", 2, not_before_ms=now_ms() - 2 * DAY, not_after_ms=now_ms() - DAY)
    refused("certificate", value_of(past, characters()))
    future = WORLD.authority.holder("der", 2, not_before_ms=now_ms() + DAY, not_after_ms=now_ms() + 2 * DAY)
    refused("certificate", value_of(future, characters()))


def test_revoked() -> None:
    revoked = WORLD.authority.holder("der", 2, serial=4711)
    trust = TrustStore([WORLD.authority.certificate], [WORLD.authority.crl(4711)])
    refused("revoked", value_of(revoked, characters()), trust=trust)
    take(value_of(WORLD.der, characters()), trust=trust)


def test_forms_of_certificate() -> None:
    def of(*extensions: builder.Extension) -> bytes:
        return value_of(WORLD.authority.holder("der", 2, extensions), characters())

    take(of())  # no key usage at all
    take(of(builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_ENCIPHERMENT)))
    refused("certificate", of(builder.key_usage(oids.KU_KEY_ENCIPHERMENT)))
    refused("certificate", of(builder.basic_constraints(True), *SIGNS))
    client = builder.Extension(oids.EXTENDED_KEY_USAGE, builder.extended_key_usage(oids.CLIENT_AUTH).value, True)
    take(of(*SIGNS, client))
    mail = builder.Extension(oids.EXTENDED_KEY_USAGE, builder.extended_key_usage("1.3.6.1.5.5.7.3.4").value, True)
    refused("certificate", of(*SIGNS, mail))
    refused("certificate", of(*SIGNS, builder.Extension("1.2.3.4", b"\x05\x00", True)))


def test_keys_that_are_not_rsa_of_enough_bits() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    on_a_curve = Holder(WORLD.authority.issue(builder.text_name(cn="der"), curve), curve)
    text = characters()
    refused("certificate", der(0xA0, der(0x80, on_a_curve.certificate), der(0x81, text.encode()), der(0x82, b"s")))
    short = rsa_key(50, 1024)
    small = Holder(WORLD.authority.issue(builder.text_name(cn="der"), short), short)
    refused("certificate", value_of(small, text))
    with pytest.raises(ConfigError, match="RSA"):
        make_a_profile_credential(on_a_curve.certificate, SoftwareSigner(PrivateKey.from_pem(on_a_curve.pem)))


def test_our_own_value_comes_back() -> None:
    refused("address", make_value(WORLD.config(WORLD.centre), characters()))
    renewed = WORLD.authority.holder("centre", 1)  # another certificate of the same key
    assert renewed.certificate != WORLD.centre.certificate
    refused("address", value_of(renewed, characters()))


def test_who_is_let_in() -> None:
    mine = value_of(WORLD.der, characters())
    fingerprint = hashlib.sha256(WORLD.der.certificate).hexdigest()
    other = hashlib.sha256(WORLD.centre.certificate).hexdigest()
    take(mine, peers=(f"sha256:{fingerprint}",))
    take(mine, peers=("sha256:" + ":".join(fingerprint.upper()[i : i + 2] for i in range(0, 64, 2)),))
    take(mine, peers=("subject:O=Utility,CN=der", f"sha256:{other}"))
    refused("address", mine, peers=(f"sha256:{other}",))
    refused("address", mine, peers=("subject:O=Utility,CN=der2", "subject:CN=der"))


@pytest.mark.parametrize(
    "peers", [(), "any", ("any", "subject:CN=x"), ("der",), ("sha256:ab",), ("subject:",), ("1.1.1.999.2:12",)]
)
def test_entries_that_say_nothing(peers: Any) -> None:
    with pytest.raises(ConfigError):
        Allowed(peers)


def test_intermediate_authority() -> None:
    """A peer sends its own certificate alone; what is between it and the anchor is configured."""
    below = Authority("intermediate", 102)
    middle = WORLD.authority.issue(
        below.name, below.key, (builder.basic_constraints(True), builder.key_usage(oids.KU_KEY_CERT_SIGN))
    )
    value = value_of(below.holder("der", 2), characters())
    refused("path", value)
    taken = take(value, intermediates=(middle,))
    assert [issuer.der for issuer in taken.peer.chain] == [middle, WORLD.authority.certificate]


def test_every_bit_counts() -> None:
    """Flip each bit of a value: refused, whatever it is, but for bits that say the same."""
    text = characters()
    value = value_of(WORLD.der, text)
    good = take(value)
    config = WORLD.config(WORLD.centre)
    same = 0
    for position in range(0, len(value) * 8, 3):
        octets = bytearray(value)
        octets[position // 8] ^= 1 << position % 8
        try:
            taken = take_value(bytes(octets), config, config.trust, now_ms())
        except PeerError:
            continue
        same += 1
        assert taken.time == good.time, position
        assert taken.peer.certificate.der == WORLD.der.certificate
    assert same == 0


def test_every_truncation() -> None:
    value = value_of(WORLD.der, characters())
    config = WORLD.config(WORLD.centre)
    for size in range(len(value)):
        with pytest.raises(PeerError):
            take_value(value[:size], config, config.trust, now_ms())


# --- memory -----------------------------------------------------------------------------------------------------------
def memory() -> AProfileMemory:
    """Of somebody who has been here for an hour."""
    return AProfileMemory(now_ms() - 3_600_000)


def test_the_same_time_twice() -> None:
    kept, text = memory(), characters(-3)
    kept.remember(take(value_of(WORLD.der, text)), now_ms())
    for again in (
        value_of(WORLD.der, text),
        value_of(WORLD.der, text, signed=readings(text)[1]),  # another signature
        value_of(WORLD.der, text[:14] + "Z"),  # the same time, written otherwise
        value_of(WORLD.authority.holder("renewed", 2), text),  # another certificate of the same key
    ):
        with pytest.raises(ReplayError) as caught:
            kept.remember(take(again), now_ms())
        assert caught.value.check == "replay"
    kept.remember(take(value_of(WORLD.der, characters(-2))), now_ms())
    kept.remember(take(value_of(WORLD.authority.holder("another", 3), text)), now_ms())  # another peer's own time


def test_times_are_remembered_for_ten_minutes() -> None:
    kept = memory()
    taken = take(value_of(WORLD.der, characters(-5)))
    kept.remember(taken, now_ms())
    with pytest.raises(ReplayError):
        kept.remember(taken, now_ms() + (limits.OUR_REPLAY_WINDOW - 10) * 1000)
    kept.remember(taken, now_ms() + (limits.OUR_REPLAY_WINDOW + 1) * 1000)  # by then the time itself is too old


def test_times_before_the_start() -> None:
    kept = AProfileMemory(now_ms())
    with pytest.raises(ReplayError, match="before our start"):
        kept.remember(take(value_of(WORLD.der, characters(-5))), now_ms())
    kept.remember(take(value_of(WORLD.der, characters(5))), now_ms())


def test_a_full_memory_refuses_that_peer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_REPLAY_PER_PEER", 2)
    kept = memory()
    *texts, last = seconds(3)
    for text in texts:
        kept.remember(take(value_of(WORLD.der, text)), now_ms())
    with pytest.raises(ReplayError) as caught:
        kept.remember(take(value_of(WORLD.der, last)), now_ms())
    assert caught.value.check == "full"
    kept.remember(take(value_of(WORLD.authority.holder("another", 3), characters(-3))), now_ms())


def test_own_times_never_repeat() -> None:
    kept = AProfileMemory(NOON)
    texts = [kept.request_time(NOON + 100, "field") for _ in range(5)]
    assert texts == [f"2026092114132{digit}." for digit in range(5)]
    assert kept.request_time(NOON + 1000, "milliseconds") == "20260921141324.001Z"
    assert kept.request_time(NOON + 60_000, "der") == "20260921141420Z"
    assert kept.request_time(NOON, "der") == "20260921141421Z"  # the clock was set back a little


def test_responses_are_told_apart_per_peer() -> None:
    kept = AProfileMemory(NOON)
    assert [kept.response_time(peer, NOON, "der") for peer in "abab"] == [
        "20260921141320Z", "20260921141320Z", "20260921141321Z", "20260921141321Z"
    ]  # fmt: skip


def test_requests_and_responses_are_told_apart() -> None:
    """A peer may be client and server."""
    kept = AProfileMemory(NOON)
    assert [kept.request_time(NOON, "der"), kept.response_time("a", NOON, "der"), kept.request_time(NOON, "der")] == [
        "20260921141320Z", "20260921141321Z", "20260921141322Z"
    ]  # fmt: skip
    assert kept.response_time("b", NOON, "der") == "20260921141323Z"


def test_times_run_ahead_so_far_and_no_farther() -> None:
    kept = AProfileMemory(NOON)
    for _ in range(limits.OUR_A_PROFILE_TIME_AHEAD + 1):
        kept.request_time(NOON, "field")
    with pytest.raises(LimitReached, match="milliseconds"):
        kept.request_time(NOON, "field")
    kept.request_time(NOON + 2000, "field")


def test_a_clock_that_was_far_ahead_is_forgotten() -> None:
    kept = AProfileMemory(NOON)
    kept.request_time(NOON + 3_600_000, "der")
    assert kept.request_time(NOON, "der") == "20260921141320Z"


def test_the_peers_answered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_A_PROFILE_PEERS_MAX", 3)
    kept = AProfileMemory(NOON)
    for number in range(10):
        kept.response_time(str(number), NOON, "der")
    assert len(kept._answered) == 3


# --- names and files --------------------------------------------------------------------------------------------------
def test_subjects_as_text() -> None:
    assert subject_text(Certificate(WORLD.der.certificate).subject) == "O=Utility,CN=der"
    assert subject_text(builder.text_name(o='a,b+c="d\\', cn="#1")) == 'O=a\\,b\\+c\\=\\"d\\\\,CN=\\#1'
    assert subject_text(builder.text_name(cn=" x")) == "CN=#0c022078"
    assert subject_text(builder.text_name(cn="a\nb")) == "CN=#0c03610a62"
    assert subject_text(builder.text_name()) == ""
    assert subject_text(WORLD.authority.name) == "O=Utility,CN=test authority"
    whole = x509.Name([
        x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE"),
        x509.NameAttribute(x509.NameOID.PSEUDONYM, "p"),
    ]).public_bytes()  # fmt: skip
    assert subject_text(whole) == "C=DE,2.5.4.65=p"


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_no_two_subjects_have_one_text(o: str, cn: str, o2: str, cn2: str) -> None:
    one, two = builder.text_name(o=o, cn=cn), builder.text_name(o=o2, cn=cn2)
    assert (subject_text(one) == subject_text(two)) == (one == two)


def test_credentials_from_files(tmp_path: Any) -> None:
    (tmp_path / "a.der").write_bytes(WORLD.der.certificate)
    (tmp_path / "a.key").write_bytes(WORLD.der.pem)
    loaded = load_a_profile_credential(tmp_path / "a.der", tmp_path / "a.key")
    assert loaded.certificate == WORLD.der.certificate
    (tmp_path / "b.key").write_bytes(WORLD.centre.pem)
    with pytest.raises(ConfigError, match="does not belong"):
        load_a_profile_credential(tmp_path / "a.der", tmp_path / "b.key")
    (tmp_path / "root.der").write_bytes(WORLD.authority.certificate)
    with pytest.raises(ConfigError, match="not usable"):
        load_a_profile_credential(tmp_path / "root.der", tmp_path / "a.key")


@pytest.mark.parametrize("change", [{"signed": "time"}, {"time": "text"}, {"carrier": "bitstring"}, {"peers": ()}])
def test_settings_that_do_not_exist(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        WORLD.config(WORLD.der, **change)
