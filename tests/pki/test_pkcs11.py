"""RFC 7512 URIs, where the PIN is, and what goes to a token and comes from it; no token is needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from fastsec.errors import ConfigError
from fastsec.pki.pkcs11 import PIN_MAX, PinSource, Pkcs11Uri, der_signature

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
QUERY = f"?module-path={MODULE}"
SECRET = "83461"


def test_all_that_is_known() -> None:
    text = (
        "pkcs11:token=The%20plant;serial=0a1b;manufacturer=M%C3%BCller;model=v2;slot-id=17;object=e2e%3b1;"
        f"id=%01%ff%00;type=private?module-path={MODULE}&pin-source=file:/etc/fastsec/pin"
    )
    assert Pkcs11Uri.parse(text) == Pkcs11Uri(
        module=MODULE, token="The plant", serial="0a1b", manufacturer="Müller", model="v2", slot=17, label="e2e;1",
        id=b"\x01\xff\x00", pin=PinSource(file=Path("/etc/fastsec/pin")),
    )  # fmt: skip
    assert str(Pkcs11Uri.parse(text)) == text


@pytest.mark.parametrize("source", ["file:/a/pin", "file:///a/pin", "/a/pin"])
def test_ways_to_write_pin_source(source: str) -> None:
    assert Pkcs11Uri.parse(f"pkcs11:{QUERY}&pin-source={source}").pin == PinSource(file=Path("/a/pin"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/etc/key.pem", "not a PKCS#11 URI"),
        ("PKCS11:token=a" + QUERY, "not a PKCS#11 URI"),
        ("pkcs11:token=a", "names no module"),
        ("pkcs11:token=a?module-path=softhsm2.so", "full path"),
        (f"pkcs11:token=a{QUERY}&pin-value={SECRET}", "a PIN does not belong into a URI"),
        (f"pkcs11:token=a;pin-value={SECRET}{QUERY}", "a PIN does not belong into a URI"),
        ("pkcs11:token=a?module-name=softhsm2", "write module-path"),
        (f"pkcs11:token=a;token=b{QUERY}", "token twice"),
        (f"pkcs11:token=a{QUERY}&module-path={MODULE}", "module-path twice"),
        (f"pkcs11:library-version=3{QUERY}", '"library-version" where only these are known: token, serial'),
        (f"pkcs11:token=a{QUERY}&x-vendor=1", '"x-vendor" where only these are known: module-path, pin-source'),
        (f"pkcs11:token=a;{SECRET}{QUERY}", "something else where"),
        (f"pkcs11:token=a;;id=%01{QUERY}", "something else where"),
        (f"pkcs11:token=a b{QUERY}", "must be written as %XX"),
        (f"pkcs11:token=a%2{QUERY}", "must be written as %XX"),
        (f"pkcs11:token=%zz{QUERY}", "must be written as %XX"),
        (f"pkcs11:token=a/b{QUERY}", "must be written as %XX"),
        (f"pkcs11:token=Müller{QUERY}", "must be written as %XX"),
        (f"pkcs11:token=%ff{QUERY}", "not UTF-8"),
        (f"pkcs11:token={QUERY}", "empty"),
        (f"pkcs11:token=a%00{QUERY}", "zero octet"),
        (f"pkcs11:id={QUERY}", "id: is empty"),
        (f"pkcs11:slot-id=0x1{QUERY}", "slot-id"),
        (f"pkcs11:type=cert{QUERY}", "private key"),
        (f"pkcs11:token=a{QUERY}&pin-source=%7cget-pin", "pin-source=file:"),
        (f"pkcs11:token=a{QUERY}&pin-source=file:pin", "full path"),
        (f"pkcs11:token=a{QUERY}&pin-source=file://host/pin", "full path"),
        (f"pkcs11:token=a{QUERY}?", "unknown"),
        (f"pkcs11:token={'a' * 5000}{QUERY}", "more than 4096"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    if words == "unknown":  # a question mark may stand in a query
        assert Pkcs11Uri.parse(text).module == f"{MODULE}?"
        return
    with pytest.raises(ConfigError) as caught:
        Pkcs11Uri.parse(text)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f"pkcs11:{text}", f"pkcs11:{text}{QUERY}", f"pkcs11:{QUERY}&{text}"):
        try:
            uri = Pkcs11Uri.parse(candidate)
        except ConfigError:
            continue
        assert uri.module.startswith("/")


@given(st.binary(min_size=1, max_size=40))
def test_any_id_can_be_written(octets: bytes) -> None:
    escaped = "".join(f"%{octet:02x}" for octet in octets)
    assert Pkcs11Uri.parse(f"pkcs11:id={escaped}{QUERY}").id == octets


# --- PIN --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "pin"),
    [(b"1234", b"1234"), (b"1234\n", b"1234"), (b"12 34\r\nmore\n", b"12 34"), (b"x" * PIN_MAX, b"x" * PIN_MAX)],
)
def test_the_first_line_of_a_file_is_the_pin(tmp_path: Path, octets: bytes, pin: bytes) -> None:
    file = tmp_path / "pin"
    file.write_bytes(octets)
    assert PinSource(file=file).read() == pin


@pytest.mark.parametrize("octets", [b"", b"\n1234", b"x" * (PIN_MAX + 1), b"x" * 5000])
def test_a_file_without_a_usable_pin(tmp_path: Path, octets: bytes) -> None:
    file = tmp_path / "pin"
    file.write_bytes(octets)
    with pytest.raises(ConfigError, match="holds no PIN"):
        PinSource(file=file).read()


def test_a_pin_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        PinSource(file=tmp_path / "none").read()
    monkeypatch.delenv("FASTSEC_PIN", raising=False)
    with pytest.raises(ConfigError, match="FASTSEC_PIN for the PIN is not set"):
        PinSource(variable="FASTSEC_PIN").read()
    monkeypatch.setenv("FASTSEC_PIN", "")
    with pytest.raises(ConfigError, match="holds no PIN"):
        PinSource(variable="FASTSEC_PIN").read()
    monkeypatch.setenv("FASTSEC_PIN", "1234")
    assert PinSource(variable="FASTSEC_PIN").read() == b"1234"


@pytest.mark.parametrize(("mode", "doubted"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_may_read_is_doubted(tmp_path: Path, mode: int, doubted: bool) -> None:
    file = tmp_path / "pin"
    file.write_text("1234")
    os.chmod(file, mode)
    assert bool(PinSource(file=file).doubt()) == doubted
    assert not PinSource(variable="X").doubt()


# --- signatures -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1))
def test_der_of_r_and_s(r: int, s: int) -> None:
    assert der_signature(r.to_bytes(32, "big") + s.to_bytes(32, "big")) == encode_dss_signature(r, s)


@pytest.mark.parametrize("size", [0, 1, 63, 65, 96])
def test_a_signature_of_another_length(size: int) -> None:
    with pytest.raises(ConfigError, match=f"of {size} octets instead of 64"):
        der_signature(bytes(size))
