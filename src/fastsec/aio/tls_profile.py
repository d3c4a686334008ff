"""The T-security profile (IEC 62351-3 as 62351-4 uses it) as data: cipher suites, and the rules of a hop.

The status columns are those of 62351-4:2018+A1, Table 3/10 (native mode) and Table 8 (compatibility mode), and what is
known of 62351-3:2023 (Ed. 2): m mandatory, r recommended, o optional, empty: not named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from fastsec.errors import ConfigError

DAY: Final = 24 * 3600.0
REHANDSHAKE: Final = "fastsec-rehandshake/1"  # ALPN (RFC 7301): this side can begin anew on the same connection

Trust = Literal["authority", "pinned"]
AtLimit = Literal["end", "keep"]
Version = Literal["1.2", "1.3"]


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite.

    Attributes:
        code: IANA number.
        name: IANA name.
        openssl: OpenSSL's name, empty where OpenSSL does not have it.
        native: status in 62351-4 Table 3/10.
        compatible: status in 62351-4 Table 8.
        ed2: status in 62351-3:2023, as far as it is public.
        usual: one of those that are on without being named.
        note: why not, or what to know.
    """

    code: int
    name: str
    openssl: str
    native: str = ""
    compatible: str = ""
    ed2: str = ""
    usual: bool = False
    note: str = ""

    @property
    def version(self) -> Version:
        """The TLS version it belongs to."""
        return "1.3" if self.code >> 8 == 0x13 else "1.2"

    @property
    def chosen(self) -> bool:
        """Whether ``TLSRules.suites`` can name it: TLS 1.2, and in OpenSSL."""
        return bool(self.openssl) and self.version == "1.2"


_GONE: Final = "static Diffie-Hellman: not in OpenSSL since 1.1.0"
_FIXED: Final = "Python cannot choose TLS 1.3 suites; on by OpenSSL's default"

# TLS 1.2 in the usual order of preference: ECDSA before RSA, AES-128 before AES-256 (62351-4 makes it mandatory).
SUITES: Final = (
    Suite(0x1302, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", ed2="m", usual=True, note=_FIXED),
    Suite(0x1303, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256", ed2="o", usual=True, note=_FIXED),
    Suite(0x1301, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", ed2="m", usual=True, note=_FIXED),
    Suite(0x1304, "TLS_AES_128_CCM_SHA256", "", ed2="m", note="off in OpenSSL's default, which Python cannot change"),
    Suite(0x1305, "TLS_AES_128_CCM_8_SHA256", "", ed2="o", note="off in OpenSSL's default; an ICV of 8 octets"),
    Suite(0xC02B, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", native="m", usual=True),
    Suite(0xC02F, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", native="m", usual=True,
          note="the table's number and name disagree; both ECDHE suites are on"),
    Suite(0xC02C, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", native="r", usual=True),
    Suite(0xC030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384", native="r", usual=True),
    Suite(0x009E, "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", "DHE-RSA-AES128-GCM-SHA256", native="m", usual=True,
          note="with the group ffdhe3072 (RFC 7919)"),
    Suite(0x003C, "TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256", native="m",
          note="no forward secrecy, RSA key transport: only where it is named"),
    Suite(0x00A0, "TLS_DH_RSA_WITH_AES_128_GCM_SHA256", "", native="m", note=_GONE),
    Suite(0x003F, "TLS_DH_RSA_WITH_AES_128_CBC_SHA256", "", native="r", note=_GONE),
    Suite(0x00A1, "TLS_DH_RSA_WITH_AES_256_GCM_SHA384", "", native="r", note=_GONE),
    Suite(0x0036, "TLS_DH_DSS_WITH_AES_256_CBC_SHA", "", compatible="m", note=f"{_GONE}; DSS and SHA-1"),
)  # fmt: skip
BY_NAME: Final = {suite.name: suite for suite in SUITES}
BY_OPENSSL: Final = {suite.openssl: suite for suite in SUITES if suite.openssl}
USUAL: Final = tuple(suite.name for suite in SUITES if suite.usual and suite.chosen)

# What nobody who offers it may mean: no encryption, nobody authenticated, export keys (event 1.9).
UNFIT: Final = {
    0x0000: "TLS_NULL_WITH_NULL_NULL",
    0x0001: "TLS_RSA_WITH_NULL_MD5",
    0x0002: "TLS_RSA_WITH_NULL_SHA",
    0x003B: "TLS_RSA_WITH_NULL_SHA256",
    0xC001: "TLS_ECDH_ECDSA_WITH_NULL_SHA",
    0xC006: "TLS_ECDHE_ECDSA_WITH_NULL_SHA",
    0xC00B: "TLS_ECDH_RSA_WITH_NULL_SHA",
    0xC010: "TLS_ECDHE_RSA_WITH_NULL_SHA",
    0xC015: "TLS_ECDH_anon_WITH_NULL_SHA",
    0x0003: "TLS_RSA_EXPORT_WITH_RC4_40_MD5",
    0x0018: "TLS_DH_anon_WITH_RC4_128_MD5",
    0x0034: "TLS_DH_anon_WITH_AES_128_CBC_SHA",
    0x006C: "TLS_DH_anon_WITH_AES_128_CBC_SHA256",
    0x00A6: "TLS_DH_anon_WITH_AES_128_GCM_SHA256",
    0xC018: "TLS_ECDH_anon_WITH_AES_128_CBC_SHA",
}

VERSIONS: Final = {
    0x0002: "SSL 2.0", 0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSRules:
    """What a hop insists on. Nothing falls back to something weaker.

    Attributes:
        versions: allowed; ``("1.2", "1.3")`` or one of them.
        suites: of TLS 1.2, IANA names, best first. The server's order decides.
        trust: ``authority``: whom an anchor vouches for; ``pinned``: only the certificates in ``pinned``.
        pinned: SHA-256 fingerprints (32 octets) or certificates (DER). With certificates alone no anchor is needed.
        rsa_bits_min: 1024 (each use is a warning), or 2048 and more.
        ec_bits_min: of elliptic-curve keys.
        strict_usage: refuse certificates without keyUsage and extendedKeyUsage; unsuitable ones always are.
        resumption: seconds after the full handshake during which a session may be resumed; 0: never.
        renewal: seconds after which the hop is authenticated anew, with fresh keys.
        limit: seconds after which a peer that cannot do that is done with; see ``at_limit``.
        at_limit: ``end`` the connection in an orderly way then, or ``keep`` it; an event either way.
        recheck: seconds between looks at the certificate of an open connection's peer.
        rehandshake: offer and accept fastsec's way to begin anew on the same connection.
    """

    versions: tuple[Version, ...] = ("1.2", "1.3")
    suites: tuple[str, ...] = USUAL
    trust: Trust = "authority"
    pinned: tuple[bytes, ...] = ()
    rsa_bits_min: int = 2048
    ec_bits_min: int = 256
    strict_usage: bool = False
    resumption: float = 2 * 3600.0
    renewal: float = 12 * 3600.0
    limit: float = DAY
    at_limit: AtLimit = "end"
    recheck: float = 3600.0
    rehandshake: bool = True

    def __post_init__(self) -> None:
        if not self.versions or not set(self.versions) <= {"1.2", "1.3"}:
            raise ConfigError('TLS versions: name "1.2", "1.3" or both')
        for name in self.suites:
            suite = BY_NAME.get(name)
            if suite is None or not suite.chosen:
                why = suite.note if suite is not None and suite.note else "not a suite of the profile"
                raise ConfigError(f"TLS suite {name}: {why}; known: {', '.join(s.name for s in SUITES if s.chosen)}")
        if not self.suites or len(set(self.suites)) != len(self.suites):
            raise ConfigError("TLS suites: name at least one, each once")
        if self.trust not in ("authority", "pinned"):
            raise ConfigError("TLS trust is authority or pinned")
        if (self.trust == "pinned") != bool(self.pinned):
            raise ConfigError("TLS trust = pinned needs the pinned certificates, and they need it")
        if self.at_limit not in ("end", "keep"):
            raise ConfigError("TLS at_limit is end or keep")
        if self.rsa_bits_min != 1024 and self.rsa_bits_min < 2048:
            raise ConfigError("TLS rsa_bits_min: 1024 with a warning for each use, or 2048 and more")
        if self.ec_bits_min < 256:
            raise ConfigError("TLS ec_bits_min: at least 256")
        if not 0 < self.renewal <= self.limit <= DAY:
            raise ConfigError("TLS: 0 < renewal <= limit <= 24 h (62351-3)")
        if not 0 <= self.resumption <= self.renewal:
            raise ConfigError("TLS: resumption is not longer than renewal (62351-3)")
        if not 0 < self.recheck <= DAY:
            raise ConfigError("TLS: 0 < recheck <= 24 h (62351-3)")

    @property
    def ciphers(self) -> str:
        """OpenSSL's cipher string, with its security level (2: keys of 112 bits and more, no SHA-1)."""
        names = [BY_NAME[name].openssl for name in self.suites]
        return ":".join([*names, f"@SECLEVEL={1 if self.rsa_bits_min < 2048 else 2}"])
