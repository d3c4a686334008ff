"""What an endpoint is, whom it trusts and what it insists on. Plain data; loading files is a door's work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fastsec import limits, profile
from fastsec.errors import ConfigError
from fastsec.pki.attribute import attribute_authority
from fastsec.pki.roles import RoleTrust

if TYPE_CHECKING:
    from fastsec.events import SecurityEvent
    from fastsec.pki.credential import Credential
    from fastsec.pki.identity import OsiName
    from fastsec.pki.path import TrustStore

Demand = Literal["required", "allowed", "forbidden"]
_DEMANDS = ("required", "allowed", "forbidden")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is offered, accepted and insisted on. Nothing falls back to something weaker (62351-4, negotiation).

    Attributes:
        encryption: ``required``, ``allowed`` (a server takes what the client asks for; a client asks for it and then
            insists, 62351-4 negotiation) or ``forbidden``.
        ae: authenticated encryption: ``required``, ``allowed`` (a client offers it when encrypting) or ``forbidden``
            (encrypting means CBC plus ICV). Without effect where encryption is forbidden.
        groups: Diffie-Hellman groups a client offers, in its order of preference (14, 23, 28).
        accept_groups: groups a server takes, in its order of preference.
        ae_algorithms: (OID, ICV length in octets) in order of preference.
        encr_algorithms: CBC OIDs in order of preference.
        icv_algorithms: (OID, ICV length in octets) for the modes with a separate ICV, in order of preference.
        rekey_interval: seconds between key updates, 900..86400.
        rekey_messages: also update keys after so many messages in one direction, or None.
        strict_peer: never send this peer a NULL transfer; updates wait for traffic.
        max_association_lifetime: seconds after which the association is ended so that a new handshake renews the
            server's Diffie-Hellman value too, or None.
    """

    encryption: Demand = "required"
    ae: Demand = "allowed"
    groups: tuple[int, ...] = (profile.Group.SECP256R1,)
    accept_groups: tuple[int, ...] = (
        profile.Group.SECP256R1,
        profile.Group.BRAINPOOL_P256R1,
        profile.Group.MODP_2048,
    )
    ae_algorithms: tuple[tuple[str, int], ...] = (
        (profile.AES128_GCM, 16),
        (profile.AES256_GCM, 16),
        (profile.AES128_GCM, 12),
        (profile.AES256_GCM, 12),
    )
    encr_algorithms: tuple[str, ...] = (profile.AES128_CBC, profile.AES256_CBC)
    icv_algorithms: tuple[tuple[str, int], ...] = (
        (profile.HMAC_SHA256, profile.HMAC_ICV_LEN),
        (profile.AES128_GCM, 16),
        (profile.AES256_GCM, 16),
        (profile.AES128_GCM, 12),
        (profile.AES256_GCM, 12),
    )
    rekey_interval: int = 3600
    rekey_messages: int | None = None
    strict_peer: bool = False
    max_association_lifetime: int | None = None

    def __post_init__(self) -> None:
        for name in ("encryption", "ae"):
            if getattr(self, name) not in _DEMANDS:
                raise ConfigError(f"policy {name} must be one of {', '.join(_DEMANDS)}")
        if self.encryption == "forbidden" and self.ae == "required":
            raise ConfigError("policy: ae = required needs encryption = required or allowed")
        known = {int(group) for group in profile.Group}
        for name in ("groups", "accept_groups"):
            groups: tuple[int, ...] = getattr(self, name)
            if not groups or not set(groups) <= known or len(set(groups)) != len(groups):
                raise ConfigError(f"policy {name}: name each of the groups 14, 23, 28 at most once, and at least one")
        if not limits.SPEC_REKEY_INTERVAL_MIN <= self.rekey_interval <= limits.SPEC_REKEY_INTERVAL_MAX:
            raise ConfigError("policy rekey interval must be 15 min .. 24 h (62351-4)")
        if self.rekey_messages is not None and self.rekey_messages < 1:
            raise ConfigError("policy rekey_messages must be at least 1")
        if self.max_association_lifetime is not None and self.max_association_lifetime < 60:
            raise ConfigError("policy max_association_lifetime must be at least 60 s")
        self._check_algorithms()

    def _check_algorithms(self) -> None:
        for oid, icv_len in self.ae_algorithms:
            if oid not in profile.GCM_KEY_SIZE or icv_len not in profile.ICV_LEN_RANGE:
                raise ConfigError("policy ae_algorithms: AES-GCM OIDs with an ICV of 12..16 octets")
        for oid in self.encr_algorithms:
            if oid not in profile.CBC_KEY_SIZE:
                raise ConfigError("policy encr_algorithms: AES-CBC OIDs only")
        for oid, icv_len in self.icv_algorithms:
            hmac = oid == profile.HMAC_SHA256 and icv_len == profile.HMAC_ICV_LEN
            if not hmac and (oid not in profile.GMAC_KEY_SIZE or icv_len not in profile.ICV_LEN_RANGE):
                raise ConfigError("policy icv_algorithms: hmacWithSHA256 with 32, or AES-GCM with 12..16 octets")
        for name in ("ae_algorithms", "encr_algorithms", "icv_algorithms"):
            algorithms = getattr(self, name)
            if not 1 <= len(algorithms) <= limits.OUR_LIST_MAX or len(set(algorithms)) != len(algorithms):
                raise ConfigError(f"policy {name}: 1..{limits.OUR_LIST_MAX} different entries")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One local endpoint.

    Attributes:
        credential: own certificate, path, signer and name.
        trust: anchors, CRLs and the rule that binds a certificate to an address.
        policy: see ``Policy``.
        peers: identities a server lets in; empty means every identity the anchors vouch for. A client names the
            called identity per association instead.
        policies: deviating policies per peer.
        pp: the protected protocol, exactly as both sides name it.
        sink: receives each security event; None drops them (the adapter's default sink logs them).
        replay_file: name of the files that keep the replay memory over a restart (``.0``, ``.1`` and ``.lock`` are
            added), or None: then requests with a time before the start are refused (62351-4, flood rules).
        worker: (i, N): this is process i of N that run under one identity on one machine, i from 0 to N - 1; they
            split the association numbers and share ``replay_file``. See docs/workers.md.
        tls_protected, vpn: what this side says of its own link in confParams; logged by the peer only.
        roles: whose roles are believed, and where they hold.
        key_log: gets one line per association, direction and key, with the KEY IN CLEAR, for ``fastsec inspect
            --keys``: whoever has these lines reads and forges everything. For development only; nothing else turns
            it on. Must not raise. ``fastsec.aio.keylog.KeyLogFile`` writes them to a file.
    """

    credential: Credential
    trust: TrustStore
    policy: Policy = field(default_factory=Policy)
    peers: tuple[OsiName, ...] = ()
    policies: tuple[tuple[OsiName, Policy], ...] = ()
    pp: str = profile.PP_MMS_OSI
    sink: Callable[[SecurityEvent], None] | None = None
    replay_file: str | None = None
    worker: tuple[int, int] = (0, 1)
    tls_protected: bool = False
    vpn: bool = False
    roles: RoleTrust = field(default_factory=RoleTrust)
    key_log: Callable[[str], None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        index, count = self.worker
        if not 0 <= index < count <= limits.OUR_ASSO_NUMBERS:
            raise ConfigError(
                f"worker = ({index}, {count}): process i of N is worker = (i, N) with i from 0 to N - 1, "
                f"N at most {limits.OUR_ASSO_NUMBERS}"
            )
        if count > 1 and self.replay_file is None:
            raise ConfigError("worker: processes under one identity need a replay_file, the same for all of them")
        for der in self.roles.authorities:
            attribute_authority(der)

    def policy_for(self, peer: OsiName | None) -> Policy:
        """The policy towards ``peer``; the general one where there is no own one."""
        for name, policy in self.policies:
            if name == peer:
                return policy
        return self.policy
