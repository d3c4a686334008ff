"""Every error that fastsec raises, by who is at fault: the caller, the peer, or a limit.

A peer's mistake never raises out of the receive path of an association: it becomes an abort on the wire, one
security event and an ``Ended`` output. A caller's mistake raises at once. No error text carries a key, a plaintext
or the text of an inner exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastsec.events import SecurityEvent


class FastsecError(Exception):
    """Base of all errors of this package."""


class LocalError(FastsecError):
    """The caller used fastsec wrongly; the text says how to do it right."""


class StateError(LocalError):
    """The call is not possible in the present state of the association."""


class ConfigError(LocalError):
    """A configuration value is missing or unusable.

    Arguments:
        message: what is wrong and the remedy.
        line: line of the configuration file, counted from 1, or None.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.line = line


class PeerError(FastsecError):
    """The peer broke a rule.

    Arguments:
        message: what was wrong, without secrets.
        check: name of the check that failed, a key of ``fastsec.faults``; it selects event and diagnostic.
        step: where it was found, e.g. ``"HandshakeReq.tbs.token1.time"``.
        code: the wire diagnostic that goes with it, or None for the alarm class.
        also: events that say more than the one of ``check``, of the domains of certificates and roles (62351-9,
            62351-8); raised before it.
    """

    def __init__(
        self,
        message: str,
        *,
        check: str = "protocol-error",
        step: str = "",
        code: int | None = None,
        also: tuple[SecurityEvent, ...] = (),
    ) -> None:
        super().__init__(message)
        self.check = check
        self.step = step
        self.code = code
        self.also = also


class DecodeError(PeerError):
    """Octets from the peer do not follow their syntax, or exceed a limit of the syntax."""


class HandshakeError(PeerError):
    """A check of the handshake or of a control PDU failed."""


class IntegrityError(PeerError):
    """A signature, an ICV or an authenticated decryption did not verify."""


class ReplayError(PeerError):
    """A PDU was seen before, or is out of sequence or time."""


class Aborted(FastsecError):
    """The association has ended otherwise than by release.

    Arguments:
        side: ``"local"``, ``"peer"``, ``"provider"`` (transport or environment).
        code: the wire diagnostic, or None for an alarm or where there is none.
        reason: a phrase for the log.
    """

    def __init__(self, side: str, code: int | None, reason: str) -> None:
        super().__init__(f"association aborted by {side}: {reason}")
        self.side = side
        self.code = code
        self.reason = reason


class Rejected(Aborted):
    """The association was refused; ``appl_data`` is the protected protocol's own answer, if it sent one."""

    def __init__(
        self, side: str, code: int | None, reason: str, appl_data: bytes | None = None, transient: bool = False
    ) -> None:
        super().__init__(side, code, reason)
        self.appl_data = appl_data
        self.transient = transient


class LimitReached(FastsecError):
    """A named number of ``fastsec.limits`` was reached."""

    def __init__(self, limit: str, message: str = "") -> None:
        super().__init__(f"{limit} reached{': ' + message if message else ''}")
        self.limit = limit


class SignerError(FastsecError):
    """The own signer did not sign: its token is away, refuses the PIN or has no time. Our own failure, no peer's."""
