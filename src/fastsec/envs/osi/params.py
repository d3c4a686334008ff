"""Addresses and settings of one OSI connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from fastsec import limits, profile
from fastsec._core.cursor import encode_oid
from fastsec.envs.osi import acse, cotp, presentation, session
from fastsec.envs.osi.names import AeTitle
from fastsec.errors import ConfigError, LocalError


@dataclass(frozen=True, kw_only=True)
class OsiAddress:
    """Selectors and name of one side; the selectors' defaults are those of IEC 61850 tools everywhere.

    Attributes:
        tsel: T-selector, at most 32 octets, or None to send none.
        ssel: S-selector, at most 16 octets, or None.
        psel: P-selector, at most 16 octets, or None.
        title: the name.
    """

    tsel: bytes | None = b"\x00\x01"
    ssel: bytes | None = b"\x00\x01"
    psel: bytes | None = b"\x00\x00\x00\x01"
    ap_title: str | bytes | None = None
    ae_qualifier: int | bytes | None = None
    ap_invocation_id: int | None = None
    ae_invocation_id: int | None = None

    def __post_init__(self) -> None:
        for name, selector, most in (
            ("tsel", self.tsel, limits.OUR_TSEL_MAX),
            ("ssel", self.ssel, limits.OUR_SELECTOR_MAX),
            ("psel", self.psel, limits.OUR_SELECTOR_MAX),
        ):
            if selector is not None and len(selector) > most:
                raise ConfigError(f"{name} of {len(selector)} octets; at most {most}")
        if isinstance(self.ap_title, str):
            try:
                encode_oid(self.ap_title)
            except LocalError:
                raise ConfigError(f"AP-title {self.ap_title!r} is not an OBJECT IDENTIFIER") from None

    @cached_property
    def title(self) -> AeTitle:
        """AP-title, AE-qualifier and invocation identifiers."""
        return AeTitle(self.ap_title, self.ae_qualifier, self.ap_invocation_id, self.ae_invocation_id)


PLAIN_CONTEXTS = (profile.OID_MMS_AC, profile.OID_MMS_AC_FIELD)


@dataclass(frozen=True, kw_only=True)
class OsiParams:
    """Settings of one connection.

    Attributes:
        security: native end-to-end security (application context e2eMmsAC, SecPDUs); False for plain IEC 61850-8-1.
        local, remote: addresses. An initiator calls ``remote``; a responder needs no ``remote``.
        password: ACSE password (mechanism 2.2.3.1): an initiator sends it, a responder asks for it. Plain only.
        application_context: what an initiator sends instead of e2eMmsAC or basic-AC, dotted. A plain responder takes
            it too, beside basic-AC and 1.0.9506.1.1.
        a_profile: the A-security-profile of 2007: certificate-based ACSE authentication of both sides, in the
            application context basic-AC and no other. Without ``security``.
        a_profile_carrier: what an initiator's authentication-value is carried in, ``external`` or ``other``; a
            responder answers as it was asked. Both are accepted.
        max_tpdu_size: largest TPDU to agree on, in octets, 128..65408. Above 8192 the preferred-size parameter of
            X.224 is used, which peers from before 1995 may not know.
        check_selectors: a responder refuses other called selectors than its own; an own one of None lets all in.
        check_called: a responder refuses a called AP-title or AE-qualifier that is present and not its own; an own
            one of None lets all in. None: with security only.
    """

    security: bool
    local: OsiAddress = field(default_factory=OsiAddress)
    remote: OsiAddress = field(default_factory=OsiAddress)
    password: bytes | None = field(default=None, repr=False)
    application_context: str | None = None
    a_profile: bool = False
    a_profile_carrier: acse.Carrier = profile.A_PROFILE_CARRIER
    max_tpdu_size: int | None = None
    check_selectors: bool = False
    check_called: bool | None = None

    def __post_init__(self) -> None:
        if self.security:
            if self.password is not None:
                raise ConfigError("an ACSE password cannot go with end-to-end security (62351-4)")
            if self.application_context not in (None, profile.OID_E2E_MMS_AC):
                raise ConfigError("end-to-end security fixes the application context (62351-4)")
            if not isinstance(self.local.ap_title, str) or not isinstance(self.local.ae_qualifier, int):
                raise ConfigError("end-to-end security needs a local AP-title (OID) and AE-qualifier (integer)")
        if self.a_profile:
            if self.security or self.password is not None:
                raise ConfigError("the A-profile cannot go with end-to-end security or an ACSE password")
            if self.application_context not in (None, profile.OID_MMS_AC):
                raise ConfigError("the A-profile fixes the application context: basic-AC, 1.0.9506.2.3")
        if self.a_profile_carrier not in ("external", "other"):
            raise ConfigError('a_profile_carrier must be "external" or "other"')
        if self.max_tpdu_size is not None and not 128 <= self.max_tpdu_size <= limits.OUR_TPDU_SIZE_PREFERRED:
            raise ConfigError(f"max_tpdu_size must be 128..{limits.OUR_TPDU_SIZE_PREFERRED} octets")

    @cached_property
    def context_name(self) -> str:
        """The application context an initiator asks for and a rejecting responder answers with."""
        if self.security:
            return profile.OID_E2E_MMS_AC
        return self.application_context or profile.OID_MMS_AC

    @cached_property
    def contexts_taken(self) -> tuple[str, ...]:
        """The application contexts a responder takes and an initiator lets itself be answered with."""
        if self.security:
            return (profile.OID_E2E_MMS_AC,)
        if self.a_profile:
            return (profile.OID_MMS_AC,)
        own = (self.application_context,) if self.application_context else ()
        return own + PLAIN_CONTEXTS

    @cached_property
    def contexts_offered(self) -> tuple[tuple[int, str], ...]:
        """The presentation contexts an initiator offers."""
        plain = ((profile.CONTEXT_ACSE, profile.OID_ACSE_AS), (profile.CONTEXT_MMS, profile.OID_MMS_AS))
        if self.a_profile:
            return (*plain, (profile.CONTEXT_MMS_AUTHENTICATION, profile.OID_MMS_AUTHENTICATION_AS))
        return (*plain, (profile.CONTEXT_E2E, profile.OID_E2E_SECURITY_AS)) if self.security else plain

    def proof(self, value: bytes | None) -> acse.Proof | None:
        """How an initiator carries its MMS-Authentication-value; LocalError if it has none with the A-profile, or one
        without."""
        if (value is not None) is not self.a_profile:
            raise LocalError("the A-profile, and nothing else, asks with an MMS-Authentication-value")
        if value is None:
            return None
        external = self.a_profile_carrier == "external"
        return acse.Proof(value, self.a_profile_carrier, profile.CONTEXT_MMS_AUTHENTICATION if external else None)

    @cached_property
    def tpdu_size(self) -> int:
        """Largest TPDU to agree on, in octets."""
        if self.max_tpdu_size is not None:
            return self.max_tpdu_size
        return limits.OUR_TPDU_SIZE_PREFERRED if self.security else limits.OUR_TPDU_SIZE_CLASSIC

    @cached_property
    def titles_checked(self) -> bool:
        """Whether a responder compares the called AP-title and AE-qualifier with its own."""
        return self.security if self.check_called is None else self.check_called

    # What is the same in every request of an initiator or acceptance of a responder, encoded once.

    @cached_property
    def aare_fields(self) -> bytes:
        """An accepting AARE before its user-information, for ``context_name`` and without authentication."""
        return acse.aare_fields(self.context_name, self.local.title, acse.OUTCOME_ACCEPTED)

    @cached_property
    def aarq_fields(self) -> bytes:
        """The AARQ before its user-information."""
        return acse.aarq_fields(self.context_name, self.remote.title, self.local.title, self.password)

    @cached_property
    def cp_header(self) -> bytes:
        """The CP before its user data."""
        return presentation.connect_header(self.local.psel, self.remote.psel, self.contexts_offered)

    @cached_property
    def connect_request(self) -> cotp.Connect:
        """The CR."""
        size = self.tpdu_size
        # A size above 8192 can be said only in F0; C0 stands beside it for peers that do not know F0 (X.224 13.3.4).
        classic = 1 << (min(size, limits.OUR_TPDU_SIZE_CLASSIC).bit_length() - 1)
        preferred = size // 128 * 128 if size > limits.OUR_TPDU_SIZE_CLASSIC else None
        calling, called = self.local.tsel, self.remote.tsel
        return cotp.Connect(cotp.CODE_CR, 0, cotp.REFERENCE, calling, called, classic, preferred)

    @cached_property
    def cn_header(self) -> bytes:
        """The CN before its user data."""
        return session.connect_header(self.local.ssel, self.remote.ssel)
