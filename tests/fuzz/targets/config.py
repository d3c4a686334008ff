"""What an operator writes, and files of our own that may be damaged: configuration, names, replay memory. MMS PDUs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from envs.osi.support import INITIATE, INITIATE_RESPONSE
from fastsec.errors import ConfigError
from fastsec.gateway import settings
from fastsec.gateway.model import Settings, SettingsError
from fastsec.mms import pdu
from fastsec.pki.identity import OsiName
from fuzz.kit import Target

ROOT: Final = Path(__file__).resolve().parents[3]


def configuration(data: bytes) -> None:
    """The gateway's file: settings, or problems each with a line that exists. No file is opened on the way."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return
    try:
        found = settings.parse(text, HERE, environ={"STATE_DIRECTORY": "/nowhere/state"})
    except SettingsError as error:
        lines = text.count("\n") + text.count("\r") + 1
        assert error.problems
        for problem in error.problems:
            assert problem.message
            assert problem.line is None or 1 <= problem.line <= lines + 1, problem
        return
    assert isinstance(found, Settings)


class NoFile(type(Path())):  # type: ignore[misc]  # the class of paths on this system
    """A path whose files are made up: what the input names is not to be opened, it might be a device."""

    def read_bytes(self) -> bytes:
        """A password, or no such file."""
        return _password(self)


HERE: Final = NoFile("/nowhere/gateway.toml")


def _password(path: Path) -> bytes:
    if len(str(path)) % 2:
        raise FileNotFoundError(2, "No such file or directory")
    return b"a password\r\nand more"


def _documented() -> Iterable[str]:
    """The TOML blocks of the manual."""
    for name in ("docs/gateway.md", "docs/tutorial.md", "README.md"):
        parts = (ROOT / name).read_text(encoding="utf-8").split("```")
        yield from (part[5:] for part in parts[1::2] if part.startswith("toml\n"))


_ROUTE: Final = """
[identity]
certificate = "own.pem"
key = "own.key"
name = "1.1.1.999.1:11"
[trust]
anchors = ["root.pem"]
crls = ["crl.pem"]
binding = "either"
[policy]
rekey_interval = "1 h"
[policy.peer]
[[route]]
name = "one"
role = "server"
dial = "near"
listen = "127.0.0.1:3782"
connect = "[::1]:102"
peers = ["1.1.1.999.2:12"]
tls = {}
[route.near.local]
tsel = "0001"
ap_title = "1.3.9999.13"
ae_qualifier = 12
[[route]]
role = "client"
peer = "1.1.1.999.2:12"
listen = "127.0.0.1:102"
connect = "10.0.0.1:3782"
"""


def _configuration_seeds() -> Iterable[bytes]:
    for text in (*_documented(), _ROUTE):
        yield text.encode()[:4000]


def names(data: bytes) -> None:
    """OSI names: from configuration, from a certificate, from a peer's address fields."""
    text = data.decode("latin-1")
    for make in (OsiName.parse, OsiName.from_oid):
        with contextlib.suppress(ConfigError):
            name = make(text)
            assert OsiName.parse(str(name)) == name
            assert OsiName.from_oid(name.oid).oid == name.oid
    head, _, tail = text.partition(":")
    number = int.from_bytes(tail[:9].encode("latin-1"), "big", signed=True)
    found: Any = OsiName.of(head, number)
    assert found is None or OsiName.parse(str(found)) == found


def mms(data: bytes) -> None:
    """The few things the gateway asks an MMS PDU."""
    kind = pdu.kind_of(data)
    assert kind is None or kind == data[0]
    number = pdu.invoke_id(data)
    answer = pdu.reject_for(data)
    assert pdu.is_one_pdu(answer)
    assert len(answer) <= 20
    assert number is None or -(2**63) <= number < 2**63
    if pdu.is_one_pdu(data):
        assert kind is not None
    assert not (pdu.is_initiate_request(data) and pdu.is_initiate_response(data))
    if len(data) < 16:
        assert pdu.is_one_pdu(pdu.initiate_error(data.decode("latin-1")))


def _mms_seeds() -> Iterable[bytes]:
    yield from (INITIATE, INITIATE_RESPONSE, b"\x8b\x00", b"\x8c\x00", pdu.initiate_error("no"))
    yield from (
        bytes.fromhex("a003020101"),
        bytes.fromhex("a2058001018200"),
        pdu.reject(pdu.RejectReason.INVALID_PDU, 7),
    )
    yield from (bytes.fromhex("850101"), bytes.fromhex("a70580010ca000"), bytes.fromhex("a4038501018001ff"))


def load() -> dict[str, Target]:
    """The targets of this module."""
    return {
        "config": Target(configuration, 2048, _configuration_seeds),
        "osi_name": Target(names, 80, lambda: [b"1.1.1.999.2:12", b"1.3.9999.13.12"]),
        "mms": Target(mms, 128, _mms_seeds, 0),
    }
