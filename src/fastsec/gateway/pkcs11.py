"""``key = "pkcs11:…"`` in ``[identity]``: the end-to-end key in a token, its PIN, and reloading in a thread."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastsec import limits
from fastsec.aio.pkcs11 import load_pkcs11_credential
from fastsec.aio.signers import SignerThreads
from fastsec.errors import ConfigError
from fastsec.gateway import tables
from fastsec.gateway.tables import Table, Wrong
from fastsec.pki.credential import load_credential
from fastsec.pki.pkcs11 import SCHEME, PinSource, Pkcs11Uri

if TYPE_CHECKING:
    from fastsec.gateway.model import IdentitySettings
    from fastsec.pki.credential import Credential

ANSWER: Final = 30.0  # seconds that a token has to answer at a reload


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """What goes with a key in a token.

    Attributes:
        pin: where the PIN is; None: in the URI, or the token wants none.
        threads: signatures at a time.
    """

    pin: PinSource | None = None
    threads: int = 1


# --- reading the configuration file -----------------------------------------------------------------------------------


def key_or_file(file: Callable[[Any], Path]) -> Callable[[Any], Path | Pkcs11Uri]:
    """A reader of a key's place: a file, or a PKCS#11 URI."""

    def read(value: Any) -> Path | Pkcs11Uri:
        if not isinstance(value, str) or not value.startswith(SCHEME):
            return file(value)
        try:
            return Pkcs11Uri.parse(value)
        except ConfigError as error:
            raise Wrong(str(error)) from None

    return read


def file_only(file: Callable[[Any], Path]) -> Callable[[Any], Path]:
    """A reader of file names for TLS keys, which Python's ssl can only use from files."""

    def read(value: Any) -> Path:
        if isinstance(value, str) and value.startswith(SCHEME):
            raise Wrong("a TLS key has to be a file: Python's ssl cannot use keys in tokens; [identity] can")
        return file(value)

    return read


def variable(value: Any) -> str:
    """The name of an environment variable."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise Wrong('write the name of an environment variable, e.g. "FASTSEC_PIN"')
    return value


def read_token(table: Table, key: Path | Pkcs11Uri | None, file: Callable[[Any], Path]) -> TokenSettings | None:
    """``pin_file``, ``pin_env`` and ``key_threads``; None where the key is a file."""
    pin_file = table.get("pin_file", file, None)
    pin_env = table.get("pin_env", variable, None)
    threads = table.get("key_threads", tables.integer(1, limits.OUR_SIGNER_THREADS_MAX), 1)
    given = [name for name in ("pin_file", "pin_env", "key_threads") if name in table]
    if not isinstance(key, Pkcs11Uri):
        if (pin_file is not None or pin_env is not None or threads != 1) and key is not None:
            table.error(given[0], 'this belongs to a key in a token, key = "pkcs11:..."; the key here is a file')
        return None
    if "password" in table or "password_file" in table:
        table.error("key", "key: a password is of files; a token has a PIN: pin_file or pin_env")
    if sum((pin_file is not None, pin_env is not None, key.pin is not None)) > 1:
        table.error(given[0], "the PIN is named twice; write one of pin_file, pin_env and pin-source in the URI")
    pin = PinSource(pin_file, pin_env) if pin_file is not None or pin_env is not None else key.pin
    return TokenSettings(pin, threads)


# --- opening ----------------------------------------------------------------------------------------------------------


def load(own: IdentitySettings) -> Credential:
    """The credential of ``[identity]``, from files or with the key in a token; ConfigError says why not."""
    key = own.key
    if not isinstance(key, Pkcs11Uri):
        if own.certificate is None:
            raise ConfigError("certificate: name the file")  # settings have seen to that
        return load_credential(own.certificate, key, own.password)
    token = own.token or TokenSettings()
    pin = token.pin if key.pin is None else None
    return load_pkcs11_credential(
        own.certificate,
        key,
        pin_file=pin.file if pin is not None else None,
        pin_env=pin.variable if pin is not None else None,
        threads=token.threads,
    )


def in_token(own: IdentitySettings | None) -> bool:
    """Whether loading asks a token, which may take its time."""
    return own is not None and isinstance(own.key, Pkcs11Uri)


async def prepare(own: IdentitySettings) -> Callable[[], Credential]:
    """Open the token in a thread, so that no association waits for it.

    Result: gives the credential, or raises the ConfigError that opening it ended with.
    """
    threads = SignerThreads(name="fastsec_load")  # nothing waits for these, should the token hang
    future = asyncio.wrap_future(threads.submit(load, own))
    threads.shutdown()
    try:
        credential = await asyncio.wait_for(future, ANSWER)
    except TimeoutError:
        problem = ConfigError(f"the token has not answered within {ANSWER:g} s")
    except ConfigError as error:
        problem = error
    else:
        return lambda: credential

    def fail() -> Credential:
        raise problem

    return fail
