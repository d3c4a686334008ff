"""The callback door: what an application is told about its associations."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from fastsec.aio.connection import Connection
    from fastsec.errors import FastsecError
    from fastsec.events import SecurityEvent


@dataclass(frozen=True, slots=True)
class Reject:
    """The answer of a server that does not want an association.

    Attributes:
        appl_data: the protected protocol's own answer (an MMS initiate-Error), or None.
        transient: the client may try again later.
    """

    appl_data: bytes | None = None
    transient: bool = False


class AssociationHandler:
    """Subclass it and override what you need. Callbacks run in the event loop: they must not block.

    One object may serve many associations; each callback gets the one it is about. An exception in a callback is
    reported to the loop's exception handler and ends that association, no other.
    """

    __slots__: ClassVar[tuple[str, ...]] = ()

    def initiate(self, assoc: Connection) -> bytes | Awaitable[bytes]:
        """Association role client: the protected protocol's request (an MMS initiate-Request) for the handshake.

        Asked for when the transport stands; by default what the caller of ``connect`` or ``serve`` gave.
        """
        return assoc.own_initiate

    def association_requested(self, assoc: Connection, appl_data: bytes) -> bytes | Reject | Awaitable[bytes | Reject]:
        """Association role server: a verified peer (``assoc.peer``) asks for an association.

        Arguments:
            appl_data: the protected protocol's request, empty if there was none.

        Result: the protected protocol's response, or ``Reject``, or an awaitable of one of them, which has 30 s. By
        default what the caller of ``connect`` or ``serve`` gave, or if nothing, a permanent reject.
        """
        return assoc.own_initiate or Reject()

    def associated(self, assoc: Connection) -> None:
        """Data may be sent. ``assoc.initiate_response`` (client) has the peer's answer; see ``assoc.confirmed``."""

    def pdus_received(self, assoc: Connection, pdus: list[bytes]) -> None:
        """Verified PDUs of the protected protocol, in order; once per read."""

    def confirmed(self, assoc: Connection) -> None:
        """The peer has proved that it saw our handshake unaltered: now ``assoc.roles`` holds (62351-4 §6)."""

    def roles_changed(self, assoc: Connection) -> None:
        """``assoc.roles`` has changed: a role token has expired or was revoked. The association goes on."""

    def resumed(self, assoc: Connection) -> None:
        """``assoc.can_write`` is true again after it was false."""

    def release_requested(self, assoc: Connection) -> Awaitable[None] | None:
        """The peer wants to release. Send what is left; the release is answered when this returns.

        Result: None, or an awaitable to wait for before the answer.
        """
        return None

    def released(self, assoc: Connection) -> None:
        """Both sides have released the association; ``ended(assoc, None)`` follows."""

    def ended(self, assoc: Connection, error: FastsecError | None) -> None:
        """The association is over, or never came about. The last callback.

        Arguments:
            error: None after orderly release; ``Rejected``, ``Aborted``, a ``PeerError`` or ``LimitReached``.
        """

    def event_received(self, assoc: Connection, event: SecurityEvent) -> None:
        """A security event of this association; the sink of the configuration has it too."""
