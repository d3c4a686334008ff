"""What an association asks of its adapter: PDUs to send, jobs to run, news for the application, events to log.

``Association.outputs()`` returns these in the order in which they have to be carried out. Nothing here acts. They are
values, to be read only; not frozen, because making a frozen one takes three times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fastsec.errors import FastsecError

if TYPE_CHECKING:
    from fastsec.events import SecurityEvent
    from fastsec.pki.path import VerifiedPeer
    from fastsec.secpdu.model import Carrier

Disposition = Literal["", "accepted", "rejected-permanent", "rejected-transient", "provider-abort"]


class Executor(Protocol):
    """Where a job can be made to run, as ``concurrent.futures.Executor`` has it."""

    def submit(self, work: Callable[[], None], /) -> object:
        """Run ``work`` soon, in another thread."""
        ...


class Job:
    """A piece of public-key work, to be run outside the event loop's thread.

    ``run()`` works on immutable inputs alone and touches no association, so any thread may call it. It never raises:
    what came out waits in ``result`` or ``error`` for ``Association.job_done(job, now)``, which the adapter calls in
    the loop's thread afterwards, exactly once, and also for an association that has ended meanwhile.

    Attributes:
        executor: where the job has to run (a smart card's own thread, say), or None for the adapter's choice.
        spare: nobody known waits for it (a reject to an unverified peer): refuse it where others wait.
        result: what the work returned.
        error: the exception it ended with, or None.
    """

    __slots__ = ("_work", "error", "executor", "result", "spare", "then")

    def __init__(
        self,
        work: Callable[[], Any],
        then: Callable[..., None],
        executor: Executor | None = None,
        *,
        spare: bool = False,
    ) -> None:
        self._work: Callable[[], Any] | None = work
        self.then: Callable[..., None] | None = then
        self.executor = executor
        self.spare = spare
        self.result: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        """Do the work once and keep its outcome."""
        work = self._work
        if work is None:
            return
        self._work = None
        try:
            self.result = work()
        except Exception as error:  # handed to the engine, which decides what it means
            if isinstance(error, FastsecError):
                error.__traceback__ = None  # would hold this job, which holds the error: work for the collector
            self.error = error

    def refuse(self, error: Exception) -> None:
        """Instead of ``run``: the work is not done, and this is why."""
        self._work = None
        self.error = error


@dataclass(slots=True)
class Send:
    """Put ``pdu`` on the wire.

    Attributes:
        carrier: which PDU of the environment carries it.
        pdu: the SecPDU, or None for an environment PDU without user data (a plain ABRT).
        disposition: result of an ASSOCIATE_RSP; of an ABORT ``provider-abort`` for a P-ABORT; else empty.
        proof: MMS-Authentication-value of an ASSOCIATE_REQ or accepting ASSOCIATE_RSP (A-profile), else None.
    """

    carrier: Carrier
    pdu: bytes | None
    disposition: Disposition = ""
    proof: bytes | None = None


@dataclass(slots=True)
class Run:
    """Run ``job`` (``job.run()`` in a worker thread), then call ``Association.job_done(job, now)``."""

    job: Job


@dataclass(slots=True)
class AssociateIndication:
    """Server: a verified peer asks for an association; answer with ``accept()`` or ``reject()``.

    Attributes:
        appl_data: the protected protocol's request (an MMS initiate-Request), empty if there was none.
        peer: the verified peer; None only in an adapter's own unsecured association.
    """

    appl_data: bytes
    peer: VerifiedPeer | None


@dataclass(slots=True)
class Established:
    """Data may be sent and received.

    Attributes:
        appl_data: client: the protected protocol's response; server: empty.
        peer: the verified peer; None only in an adapter's own unsecured association.
        confirmed: False until the peer's first transfer has verified; grant no roles before (62351-4 §6).
    """

    appl_data: bytes
    peer: VerifiedPeer | None
    confirmed: bool


@dataclass(slots=True)
class Confirmed:
    """The peer's first transfer has verified: it saw our handshake PDU unaltered."""

    peer: VerifiedPeer


@dataclass(slots=True)
class RolesChanged:
    """The peer's roles are not any more what they were: read ``roles`` again."""


@dataclass(slots=True)
class Received:
    """Verified and decrypted PDUs of the protected protocol, in order."""

    pdus: list[bytes]


@dataclass(slots=True)
class KeysChanged:
    """Read ``tx``, ``rx``, ``fast_tx`` and ``fast_rx`` again before anything else is sent or received."""


@dataclass(slots=True)
class ReleaseIndication:
    """The peer asks for release: send what is queued, then call ``release_accept()``."""


@dataclass(slots=True)
class Released:
    """Both sides have released the association; ``Ended(None)`` follows."""


@dataclass(slots=True)
class Ended:
    """The association is over, always the last output.

    Attributes:
        error: None after orderly release; ``PeerError`` if the peer broke a rule; ``Aborted`` or ``Rejected`` if the
            other side, the provider or this side's caller ended it; ``LimitReached`` if a limit did.
    """

    error: FastsecError | None


@dataclass(slots=True)
class Raised:
    """A security event for the sink."""

    event: SecurityEvent


Output = (
    Send
    | Run
    | AssociateIndication
    | Established
    | Confirmed
    | RolesChanged
    | Received
    | KeysChanged
    | ReleaseIndication
    | Released
    | Ended
    | Raised
)
