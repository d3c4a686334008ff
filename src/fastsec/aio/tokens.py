"""Modules of PKCS#11, their tokens and what is found in them: loaded and initialized once per process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastsec.errors import ConfigError, SignerError
from fastsec.pki.pkcs11 import Pkcs11Uri

if TYPE_CHECKING:
    from pkcs11 import Session, Token

OBJECTS_MAX: Final = 32
_OS_LOCKING: Final = 2  # CKF_OS_LOCKING_OK
_ALREADY: Final = 0x191  # CKR_CRYPTOKI_ALREADY_INITIALIZED
_CANT_LOCK: Final = 0x0A


class _InitializeArgs(ctypes.Structure):
    _fields_ = (
        ("create_mutex", ctypes.c_void_p), ("destroy_mutex", ctypes.c_void_p), ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p), ("flags", ctypes.c_ulong), ("reserved", ctypes.c_void_p),
    )  # fmt: skip


@dataclass(eq=False)
class Module:
    """A loaded module. It is never unloaded nor finalized: a thread may hang in it.

    Attributes:
        lib: python-pkcs11's access to it.
        threads: whether several threads may call it.
        lock: held during calls that find, open, log in and close, and during all if ``threads`` is False.
        logins: one session per token that has logged in, and how many keys are used under it.
    """

    path: str
    lib: Any
    threads: bool
    pid: int
    lock: threading.Lock
    logins: dict[tuple[str, bytes], Login]


@dataclass(eq=False)
class Login:
    session: Session
    users: int = 0


_modules: dict[str, Module] = {}
_modules_lock = threading.Lock()


def _forked() -> None:
    """Its lock may have been held by a thread that the child does not have."""
    global _modules_lock
    _modules_lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)


def load(path: str) -> Module:
    """The module, initialized in this process (PKCS#11 wants that done again after fork)."""
    try:
        from pkcs11._pkcs11 import lib
        from pkcs11.exceptions import PKCS11Error
    except ImportError:
        raise ConfigError('keys in tokens need python-pkcs11: pip install "fastsec[pkcs11]"') from None
    with _modules_lock:
        module = _modules.get(path)
        if module is not None and module.pid == os.getpid():
            return module
        try:
            initialize = _initializer(path)
        except (OSError, AttributeError, ValueError):
            raise ConfigError(f"{path} cannot be loaded, or is no PKCS#11 module") from None
        # python-pkcs11 initializes without asking for locks, which forbids a second thread (PKCS#11 v2.40, 5.4).
        result = initialize(ctypes.byref(_InitializeArgs(flags=_OS_LOCKING)))
        threads = result == 0
        if result == _CANT_LOCK:
            result = initialize(None)
        if result == _ALREADY and module is not None:  # a module that keeps its state over fork
            result, threads = 0, module.threads
        if result not in (0, _ALREADY):
            raise SignerError(f"{path} cannot be initialized: CKR 0x{result:x}")
        try:
            # __new__ loads the module; __init__ would initialize it once more
            made = module.lib if module is not None else lib.__new__(lib, path)  # type: ignore[call-arg]
        except PKCS11Error as error:
            raise ConfigError(f"{path} is no usable PKCS#11 module: {code_of(error)}") from None
        module = _modules[path] = Module(path, made, threads, os.getpid(), threading.Lock(), {})
        return module


def _initializer(path: str) -> Any:
    """C_Initialize of a module. ``CDLL`` also keeps it mapped, whatever python-pkcs11 does at the end."""
    get_list = ctypes.CDLL(path).C_GetFunctionList
    get_list.restype = ctypes.c_ulong
    found = ctypes.c_void_p()
    if get_list(ctypes.byref(found)) != 0 or not found.value:
        raise ValueError
    entries = (ctypes.c_void_p * 2).from_address(found.value)  # the version, padded; then C_Initialize
    return ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(entries[1] or 0)


def code_of(error: Exception) -> str:
    """What a module answered: the name of python-pkcs11 for it, or the number if it has none."""
    found = re.search(r"\b(?:0x)?([0-9a-fA-F]+)$", str(error)) if type(error).__name__ == "PKCS11Error" else None
    return f"0x{found[1].lower()}" if found is not None else type(error).__name__


def quietly_close(session: Session) -> None:
    """Close it, and log out if it has logged in."""
    from pkcs11.exceptions import PKCS11Error

    with contextlib.suppress(PKCS11Error):  # the token has closed it already
        session.close()


def find_token(module: Module, uri: Pkcs11Uri) -> Token:
    from pkcs11 import TokenFlag
    from pkcs11.exceptions import TokenNotPresent, TokenNotRecognised

    found: list[Token] = []
    there: list[str] = []
    for slot in module.lib.get_slots(token_present=True):
        try:
            token = slot.get_token()
        except (TokenNotPresent, TokenNotRecognised):
            continue
        if not token.flags & TokenFlag.TOKEN_INITIALIZED:
            continue
        there.append(f'"{token.label}"')
        if (
            (uri.slot is None or slot.slot_id == uri.slot)
            and (uri.token is None or token.label == uri.token)
            and (uri.serial is None or bytes(token.serial) == uri.serial.encode())
            and (uri.manufacturer is None or token.manufacturer_id == uri.manufacturer)
            and (uri.model is None or token.model == uri.model)
        ):
            found.append(token)
    if len(found) == 1:
        return found[0]
    listed = ", ".join(there[:8]) or "none"
    if not found:
        raise ConfigError(f"no token fits the PKCS#11 URI; present: {listed}")
    raise ConfigError(f"{len(found)} tokens fit the PKCS#11 URI; name one by token= or serial=; present: {listed}")


def objects(session: Session, kind: Any, label: str | None, identifier: bytes | None) -> list[Any]:
    from pkcs11 import Attribute

    wanted: dict[Any, Any] = {Attribute.CLASS: kind}
    if label is not None:
        wanted[Attribute.LABEL] = label
    if identifier is not None:
        wanted[Attribute.ID] = identifier
    found = []
    search = session.get_objects(wanted)
    for one in search:
        found.append(one)
        if len(found) == OBJECTS_MAX:
            break
    search.close()  # type: ignore[attr-defined]  # a generator, which has the session's search open
    return found


def read(one: Any, attribute: Any) -> Any:
    from pkcs11.exceptions import PKCS11Error

    try:
        return one[attribute]
    except (PKCS11Error, KeyError, IndexError, NotImplementedError):
        return None


def name_of(key: Any) -> str:
    from pkcs11 import Attribute

    label = read(key, Attribute.LABEL) or ""
    identifier = "".join(f"%{octet:02x}" for octet in read(key, Attribute.ID) or b"")
    return f'"{label}" (id={identifier})'


def how_many(what: str, found: list[Any], uri: Pkcs11Uri) -> str:
    if not found:
        return f"no {what} in the token fits object= and id= of the PKCS#11 URI"
    names = ", ".join(name_of(key) for key in found[:8])
    return f"{len(found)} {what}s fit the PKCS#11 URI; choose by object= or id=: {names}"
