"""fastsec: end-to-end security for MMS (IEC 62351-4 native mode).

The names below are the whole public face; each is loaded when first used, so that ``import fastsec`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fastsec.aio.client import connect, connect_handler
    from fastsec.aio.connection import Connection
    from fastsec.aio.events import LoggingSink
    from fastsec.aio.handler import AssociationHandler, Reject
    from fastsec.aio.loop import run
    from fastsec.aio.pkcs11 import load_pkcs11_credential
    from fastsec.aio.revocation import RevocationService
    from fastsec.aio.server import Server, serve
    from fastsec.aio.signers import SignerThreads
    from fastsec.aio.stream import AssociationStream, streams
    from fastsec.aio.tls import TLSConfig
    from fastsec.aio.tls_profile import TLSRules
    from fastsec.aprofile import AProfileConfig, load_a_profile_credential
    from fastsec.config import Config, Policy
    from fastsec.errors import (
        Aborted,
        ConfigError,
        FastsecError,
        LimitReached,
        LocalError,
        PeerError,
        Rejected,
        StateError,
    )
    from fastsec.events import SecurityEvent
    from fastsec.pki.credential import Credential, load_credential, load_trust
    from fastsec.pki.identity import OsiName
    from fastsec.pki.path import TrustStore
    from fastsec.pki.revocation import RevocationPolicy
    from fastsec.pki.roles import RoleGrant, RoleTrust

__version__: Final = "0.1.0"

__all__ = [
    "AProfileConfig",
    "Aborted",
    "AssociationHandler",
    "AssociationStream",
    "Config",
    "ConfigError",
    "Connection",
    "Credential",
    "FastsecError",
    "LimitReached",
    "LocalError",
    "LoggingSink",
    "OsiName",
    "PeerError",
    "Policy",
    "Reject",
    "Rejected",
    "RevocationPolicy",
    "RevocationService",
    "RoleGrant",
    "RoleTrust",
    "SecurityEvent",
    "Server",
    "SignerThreads",
    "StateError",
    "TLSConfig",
    "TLSRules",
    "TrustStore",
    "connect",
    "connect_handler",
    "load_a_profile_credential",
    "load_credential",
    "load_pkcs11_credential",
    "load_trust",
    "run",
    "serve",
    "streams",
]

_HOME: Final = {
    "fastsec.aio.client": ("connect", "connect_handler"),
    "fastsec.aio.connection": ("Connection",),
    "fastsec.aio.events": ("LoggingSink",),
    "fastsec.aio.handler": ("AssociationHandler", "Reject"),
    "fastsec.aio.loop": ("run",),
    "fastsec.aio.pkcs11": ("load_pkcs11_credential",),
    "fastsec.aio.revocation": ("RevocationService",),
    "fastsec.aio.server": ("Server", "serve"),
    "fastsec.aio.signers": ("SignerThreads",),
    "fastsec.aio.stream": ("AssociationStream", "streams"),
    "fastsec.aio.tls": ("TLSConfig",),
    "fastsec.aio.tls_profile": ("TLSRules",),
    "fastsec.aprofile": ("AProfileConfig", "load_a_profile_credential"),
    "fastsec.config": ("Config", "Policy"),
    "fastsec.errors": (
        "Aborted",
        "ConfigError",
        "FastsecError",
        "LimitReached",
        "LocalError",
        "PeerError",
        "Rejected",
        "StateError",
    ),
    "fastsec.events": ("SecurityEvent",),
    "fastsec.pki.credential": ("Credential", "load_credential", "load_trust"),
    "fastsec.pki.identity": ("OsiName",),
    "fastsec.pki.path": ("TrustStore",),
    "fastsec.pki.revocation": ("RevocationPolicy",),
    "fastsec.pki.roles": ("RoleGrant", "RoleTrust"),
}
_MODULE_OF: Final = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'fastsec' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
