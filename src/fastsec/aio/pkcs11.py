"""A signer whose key is in a token: PKCS#11 by python-pkcs11 (extra ``pkcs11``).

All calls of the module are made in worker threads, without the interpreter lock, and one session serves one of them at
a time. The PIN is read where it stands whenever the token asks for it, handed over in a buffer that is wiped, and not
kept. A token never gets a second PIN from one load of the configuration, and never one that could be its last try.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastsec import limits, profile
from fastsec._core.crypto import sha256
from fastsec.aio.signers import SignerThreads
from fastsec.aio.tokens import Login, Module, code_of, find_token, how_many, load, name_of, objects, quietly_close, read
from fastsec.errors import ConfigError, SignerError
from fastsec.pki.credential import Credential, load_chain, make_credential
from fastsec.pki.pkcs11 import SHA256_DIGEST_INFO, PinSource, Pkcs11Uri, der_signature, wipe

if TYPE_CHECKING:
    from pkcs11 import Session, Token

BACK_OFF: Final = 0.5  # after a token could not be opened, doubled each time
BACK_OFF_MAX: Final = 30.0
NEVER: Final = ("0x63", "0x68")  # CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_FUNCTION_NOT_PERMITTED: another session is no help
CURVES: Final = {
    bytes.fromhex("06082a8648ce3d030107"): "secp256r1",
    bytes.fromhex("06092b2403030208010107"): "brainpoolP256r1",
}


class _Pin:
    """Stands for the str that python-pkcs11 encodes, so that there is no copy of the PIN that cannot be wiped."""

    def __init__(self, source: PinSource) -> None:
        self.octets = source.read()

    def encode(self, encoding: str) -> bytearray:
        return self.octets


_keyrings: weakref.WeakSet[_Keyring] = weakref.WeakSet()


def _forked() -> None:
    """Locks may have been held by threads that the child does not have."""
    for keyring in list(_keyrings):
        keyring.lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)


# --- one key ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Opened:
    """A session, with the key found in it. One thread uses it at a time."""

    session: Session
    key: Any
    generation: int


class _Keyring:
    """The sessions in which one key is used: opened when needed, anew when the token was away.

    Attributes:
        kind: of the key.
        mechanism: ways of signing that the token has for it, best first.
    """

    def __init__(self, uri: Pkcs11Uri, pin: PinSource | None) -> None:
        self.uri, self.pin = uri, pin
        self.kind = ""
        self.mechanisms: list[tuple[Any, bool]] = []
        self.always = False  # the token wants the PIN for each signature
        self.lock = threading.Lock()
        self.module: Module | None = None
        self.free: list[_Opened] = []
        self.generation = 0
        self.login: tuple[Module, tuple[str, bytes]] | None = None
        self.refused = ""  # why no PIN will be tried again
        self.delay = BACK_OFF
        self.again_at = 0.0
        self.closed = False
        _keyrings.add(self)

    # --- signing ---

    def sign(self, data: bytes) -> bytes:
        """A signature, DER for ECDSA. A session that was lost is opened anew once. SignerError if there is none."""
        from pkcs11.exceptions import DataLenRange, FunctionNotSupported, MechanismInvalid, PKCS11Error

        for last in (False, True):
            opened = self._take()
            try:
                raw = self._sign_with(opened, data)
            except PKCS11Error as error:
                if isinstance(error, (DataLenRange, FunctionNotSupported, MechanismInvalid)) or code_of(error) in NEVER:
                    self._close_session(opened.session)  # an operation may be left in it
                    last = True
                else:
                    self._lost(opened)
                if last:
                    raise SignerError(f"the token did not sign: {code_of(error)}") from None
                continue
            except ConfigError as error:  # about the PIN
                self._put(opened)
                raise SignerError(str(error)) from None
            except BaseException:
                self._put(opened)
                raise
            self._put(opened)
            if self.kind == "rsa":
                return raw
            try:
                return der_signature(raw)
            except ConfigError as error:
                raise SignerError(str(error)) from None
        raise AssertionError  # the loop returns or raises

    def _sign_with(self, opened: _Opened, data: bytes) -> bytes:
        from pkcs11 import exceptions

        unable = (exceptions.MechanismInvalid, exceptions.DataLenRange, exceptions.FunctionNotSupported)
        for number, (mechanism, hashes) in enumerate(self.mechanisms):
            octets = data
            if not hashes:
                octets = sha256(data) if self.kind != "rsa" else SHA256_DIGEST_INFO + sha256(data)
            pin = _Pin(self._pin_source()) if self.always else None
            try:
                return self._call(opened, octets, mechanism, pin)
            except unable:
                if number + 1 == len(self.mechanisms):
                    raise
            except _pin_errors() as error:
                raise self._pin_refused(error) from None
            finally:
                if pin is not None:
                    wipe(pin.octets)
        raise AssertionError

    def _call(self, opened: _Opened, octets: bytes, mechanism: Any, pin: _Pin | None) -> bytes:
        module = self.module
        if module is None or module.threads:
            return bytes(opened.key.sign(octets, mechanism=mechanism, pin=pin))
        with module.lock:
            return bytes(opened.key.sign(octets, mechanism=mechanism, pin=pin))

    # --- sessions ---

    def _take(self) -> _Opened:
        with self.lock:
            if self.closed:
                raise SignerError("the signer has been closed")
            if self.module is not None and self.module.pid != os.getpid():
                self._forget()  # forked: the sessions are the parent's
            if self.free:
                return self.free.pop()
            if self.refused:
                raise SignerError(self.refused)
            wait = self.again_at - time.monotonic()
            if wait > 0:
                raise SignerError(f"the token cannot be used; tried again in {wait:.1f} s")
            try:
                opened = self._open()
            except BaseException as error:
                self._dropped_login()
                self.again_at = time.monotonic() + self.delay
                self.delay = min(2 * self.delay, BACK_OFF_MAX)
                if isinstance(error, ConfigError):
                    raise SignerError(str(error)) from None
                raise
            self.delay, self.again_at = BACK_OFF, 0.0
            return opened

    def _put(self, opened: _Opened) -> None:
        with self.lock:
            if not self.closed and opened.generation == self.generation:
                self.free.append(opened)
                return
        self._close_session(opened.session)

    def _lost(self, opened: _Opened) -> None:
        """The token was away or has lost its mind: no session of before is used again."""
        with self.lock:
            if opened.generation != self.generation:
                others: list[_Opened] = []
            else:
                others = self.free
                self._forget()
        for one in (opened, *others):
            self._close_session(one.session)

    def _forget(self) -> None:
        self.generation += 1
        self.free = []
        self._dropped_login()

    def _dropped_login(self) -> None:
        """The login is gone, or perhaps gone: whoever needs it logs in anew."""
        login, self.login = self.login, None
        if login is None:
            return
        module, name = login
        if module.pid != os.getpid():
            return
        with module.lock:
            known = module.logins.pop(name, None)
            if known is not None:
                quietly_close(known.session)

    def _close_session(self, session: Session) -> None:
        module = self.module
        if module is not None and module.pid == os.getpid():
            with module.lock:
                quietly_close(session)

    def close(self) -> None:
        """Give the sessions back, and the login if nobody else uses it. May take as long as the token does."""
        with self.lock:
            self.closed = True
            free, self.free = self.free, []
            login, self.login = self.login, None
        for opened in free:
            self._close_session(opened.session)
        if login is not None and login[0].pid == os.getpid():
            module, name = login
            with module.lock:
                known = module.logins.get(name)
                if known is not None:
                    known.users -= 1
                    if known.users <= 0:
                        del module.logins[name]
                        quietly_close(known.session)

    def _open(self) -> _Opened:
        from pkcs11.exceptions import PKCS11Error

        module = load(self.uri.module)
        self.module = module
        with module.lock:
            try:
                token = find_token(module, self.uri)
                self._log_in(module, token)
                session = token.open()
                try:
                    key = self._find_key(token, session)
                except BaseException:
                    quietly_close(session)
                    raise
            except PKCS11Error as error:
                raise SignerError(f"the token cannot be used: {code_of(error)}") from None
        return _Opened(session, key, self.generation)

    # --- PIN ---

    def _pin_source(self) -> PinSource:
        if self.pin is None:
            raise ConfigError("the token wants a PIN: give pin_file or pin_env")
        return self.pin

    def _log_in(self, module: Module, token: Token) -> None:
        """Log in once per process and token; all sessions of the process share it."""
        from pkcs11 import TokenFlag
        from pkcs11.exceptions import UserAlreadyLoggedIn

        name = (str(token.label), bytes(token.serial))
        known = module.logins.get(name)
        if known is None:
            if not token.flags & TokenFlag.LOGIN_REQUIRED and self.pin is None:
                return
            if token.flags & TokenFlag.USER_PIN_LOCKED:
                raise self._refuse("the token's PIN is locked; unlock it with the security officer's PIN")
            if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
                raise self._refuse(
                    "the token allows one PIN more before it locks; that one is left to you: log in by hand once "
                    "(pkcs11-tool --login --list-objects), then try again"
                )
            pin = _Pin(self._pin_source())
            try:
                session = token.open(user_pin=pin)  # stands for a str
            except UserAlreadyLoggedIn:  # by other code of this process
                return
            except _pin_errors() as error:
                raise self._pin_refused(error) from None
            finally:
                wipe(pin.octets)
            known = module.logins[name] = Login(session)
        if self.login is None:
            known.users += 1
            self.login = (module, name)

    def _pin_refused(self, error: BaseException) -> ConfigError:
        what = {
            "PinLocked": "its PIN is locked; unlock it with the security officer's PIN",
            "PinExpired": "its PIN has expired; set a new one",
            "UserPinNotInitialized": "no PIN has been set for it",
        }.get(type(error).__name__, "the PIN is wrong")
        source = self.pin
        where = "" if source is None else f" ({source.file or source.variable})"
        return self._refuse(f"the token does not let us in: {what}{where}; no PIN is tried again before a reload")

    def _refuse(self, why: str) -> ConfigError:
        self.refused = why
        return ConfigError(why)

    # --- the key ---

    def _find_key(self, token: Token, session: Session) -> Any:
        from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

        found = objects(session, ObjectClass.PRIVATE_KEY, self.uri.label, self.uri.id)
        if len(found) != 1:
            raise ConfigError(how_many("private key", found, self.uri))
        key = found[0]
        has = token.slot.get_mechanisms()
        if read(key, Attribute.SIGN) is False:
            raise ConfigError(f"the private key {name_of(key)} may not sign (CKA_SIGN)")
        kind = read(key, Attribute.KEY_TYPE)
        if kind == KeyType.RSA:
            wanted = [(Mechanism.SHA256_RSA_PKCS, True), (Mechanism.RSA_PKCS, False)]
            self.kind = "rsa"
            modulus = read(key, Attribute.MODULUS)
            bits = int.from_bytes(modulus, "big").bit_length() if modulus else limits.SPEC_RSA_BITS_MIN
            if not limits.SPEC_RSA_BITS_MIN <= bits <= limits.OUR_RSA_BITS_MAX:
                raise ConfigError(f"the RSA key {name_of(key)} has {bits} bits; 2048 to 4096 are possible")
        elif kind == KeyType.EC:
            wanted = [(Mechanism.ECDSA_SHA256, True), (Mechanism.ECDSA, False)]
            curve = read(key, Attribute.EC_PARAMS)
            if curve is None:  # some tokens keep it with the public key only
                public = objects(session, ObjectClass.PUBLIC_KEY, None, read(key, Attribute.ID))
                curve = read(public[0], Attribute.EC_PARAMS) if public else None
            self.kind = CURVES.get(bytes(curve or b""), "")
            if not self.kind:
                raise ConfigError(f"the EC key {name_of(key)} is on another curve than P-256 and brainpoolP256r1")
        else:
            raise ConfigError(f"the private key {name_of(key)} is neither RSA nor EC")
        self.mechanisms = [(mechanism, hashes) for mechanism, hashes in wanted if mechanism in has]
        if not self.mechanisms:
            raise ConfigError("the token has no mechanism to sign with this key")
        self.always = bool(read(key, Attribute.ALWAYS_AUTHENTICATE))
        return key

    def certificate(self) -> bytes:
        """DER of the one certificate with the key's CKA_ID."""
        from pkcs11 import Attribute, ObjectClass
        from pkcs11.exceptions import PKCS11Error

        opened = self._take()
        try:
            identifier = read(opened.key, Attribute.ID)
            if not identifier:
                raise ConfigError("the key has no CKA_ID by which its certificate could be found; give a file")
            found = objects(opened.session, ObjectClass.CERTIFICATE, None, identifier)
            if len(found) != 1:
                raise ConfigError(f"{len(found)} certificates in the token have the key's id; give a file")
            return bytes(found[0][Attribute.VALUE])
        except PKCS11Error as error:
            raise ConfigError(f"the certificate cannot be read from the token: {code_of(error)}") from None
        finally:
            self._put(opened)


def _pin_errors() -> tuple[type[BaseException], ...]:
    from pkcs11 import exceptions

    return (
        exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange, exceptions.PinLocked,
        exceptions.PinExpired, exceptions.UserPinNotInitialized,
    )  # fmt: skip


class Pkcs11Signer:
    """Signs with a key that stays in its token. Made, it has found the key; ConfigError says why not.

    Arguments:
        uri: the key (RFC 7512), as text or parsed.
        pin: where the PIN is; instead of the URI's pin-source.
        threads: signatures at a time. Many tokens do one after the other anyway: 1 by default.

    Attributes:
        executor: threads of its own, where the associations' signatures are made.
    """

    def __init__(self, uri: str | Pkcs11Uri, pin: PinSource | None = None, *, threads: int = 1) -> None:
        self.uri: Final = Pkcs11Uri.parse(uri) if isinstance(uri, str) else uri
        if pin is not None and self.uri.pin is not None:
            raise ConfigError("the PIN is named twice: in pin-source of the URI, and besides")
        self._keyring = keyring = _Keyring(self.uri, pin or self.uri.pin)
        self.executor: Final = SignerThreads(threads, name="fastsec_token", at_end=keyring.close)
        try:
            keyring._put(keyring._take())
        except SignerError as error:
            raise ConfigError(str(error)) from None
        if threads > 1 and keyring.module is not None and not keyring.module.threads:
            raise ConfigError("this PKCS#11 module does not allow several threads; leave it at one")

    @property
    def algorithm(self) -> str:
        """By the kind of key: with RSA or with ECDSA, over SHA-256."""
        return profile.SHA256_RSA if self._keyring.kind == "rsa" else profile.ECDSA_SHA256

    @property
    def kind(self) -> str:
        """``rsa``, ``secp256r1`` or ``brainpoolP256r1``."""
        return self._keyring.kind

    def sign(self, data: bytes) -> bytes:
        """Sign; blocks as long as the token does. SignerError if it does not sign."""
        return self._keyring.sign(data)

    def certificate(self) -> bytes:
        """DER of the certificate that the token has for this key (same CKA_ID)."""
        return self._keyring.certificate()

    def close(self) -> None:
        """Take no more; the sessions are closed in a thread. Happens by itself when the signer is forgotten."""
        self.executor.shutdown()

    def __repr__(self) -> str:
        return f"Pkcs11Signer({self.kind} in {self.uri.token or self.uri.serial or 'a token'})"


def load_pkcs11_credential(
    certificate: str | os.PathLike[str] | None,
    uri: str | Pkcs11Uri,
    *,
    pin_file: str | os.PathLike[str] | None = None,
    pin_env: str | None = None,
    threads: int = 1,
) -> Credential:
    """A credential whose private key is in a token. Blocks as long as the token does: call it before the event loop.

    Arguments:
        certificate: PEM file as for ``load_credential``; None takes the certificate from the token (CKA_ID of the key).
        uri: the key, ``pkcs11:token=…;object=…?module-path=…`` (RFC 7512; docs/hardware-keys.md).
        pin_file: file whose first line is the PIN.
        pin_env: environment variable that is the PIN.
        threads: signatures at a time.
    Raises: ConfigError for what cannot be read, found or used, without the PIN in its text.
    """
    if pin_file is not None and pin_env is not None:
        raise ConfigError("write either pin_file or pin_env, not both")
    pin = PinSource(_path(pin_file), pin_env) if pin_file is not None or pin_env is not None else None
    signer = Pkcs11Signer(uri, pin, threads=threads)
    try:
        chain = load_chain(certificate) if certificate is not None else (signer.certificate(),)
        return make_credential(chain[0], chain[1:], signer)
    except SignerError as error:
        raise ConfigError(str(error)) from None


def _path(path: str | os.PathLike[str] | None) -> Any:
    from pathlib import Path

    return None if path is None else Path(path)
