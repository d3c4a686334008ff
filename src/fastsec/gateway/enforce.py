"""The access policy of a route, enforced between the secured side and the plain server.

Only routes with ``access`` have these handlers; on all others a list of PDUs goes through as before. A request that is
denied is answered here and never reaches the server, so nothing of the server's is outstanding for it; the association
goes on. What may be done is asked anew for every PDU, because roles may be withdrawn while the association is open.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fastsec import limits
from fastsec.access import rights
from fastsec.access.judge import Judges
from fastsec.errors import FastsecError, StateError
from fastsec.events import named
from fastsec.gateway.bridge import SECURED, End
from fastsec.gateway.far import DialledEnd

if TYPE_CHECKING:
    from fastsec.access.judge import Denial, Judge
    from fastsec.access.policy import AccessPolicy
    from fastsec.aio.connection import Connection
    from fastsec.events import EventSink
    from fastsec.gateway.logs import Log
    from fastsec.pki.roles import RoleGrant

MINUTE: Final = 60.0


class Allowance:
    """How many records may be written: so many per minute, all at once or one by one.

    Arguments:
        most: per minute.
    """

    __slots__ = ("_at", "_left", "_most")

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._left = float(most)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """One more record; False if there have been enough."""
        self._left = min(self._most, self._left + (now - self._at) * self._most / MINUTE)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Enforcer:
    """What the associations of one route share.

    Arguments:
        policy: of the route.
        sink: gets the security events.

    Attributes:
        denied: requests so far.
    """

    __slots__ = ("allowance", "denied", "judges", "sink")

    def __init__(self, policy: AccessPolicy, sink: EventSink) -> None:
        self.judges = Judges(policy)
        self.sink = sink
        self.allowance = Allowance(limits.OUR_ACCESS_TOLD_ROUTE)
        self.denied = 0


class Guard:
    """Judges what one association asks for, answers what is denied, and keeps the log of it short.

    Arguments:
        shared: of the route.

    Attributes:
        denied: requests so far.
    """

    __slots__ = ("_allowance", "_judge", "_later", "_log", "_roles", "_shared", "_silent", "denied")

    def __init__(self, shared: Enforcer) -> None:
        self._shared = shared
        self._judge: Judge | None = None
        self._roles: tuple[RoleGrant, ...] | None = None  # those of _judge, to be recognized without a comparison
        self._allowance = Allowance(limits.OUR_ACCESS_TOLD)
        self._log: Log | None = None
        self._later: asyncio.TimerHandle | None = None
        self._silent = 0
        self.denied = 0

    def meet(self, assoc: Connection, log: Log) -> Judge:
        """The peer's roles are known, or are others than before: tell, and take the judge for them."""
        roles, before = assoc.roles, self._judge
        judge = self._judge = self._shared.judges.of(roles)
        self._roles, self._log = roles, log
        if before is None:
            self._tell("LOGIN_SUCCESS", log, assoc)
            if not judge.held.anything:
                log.warning("the peer has no role that gives it any right here; its requests are denied")
        elif before.roles != roles:
            log.info("the peer's roles are others than before", roles=in_words(roles))
        return judge

    def passed(self, end: End, assoc: Connection, pdus: list[bytes]) -> list[bytes]:
        """Those of ``pdus`` that may go on; the others are answered."""
        judge = self._judge
        if judge is None or self._roles is not assoc.roles:
            judge = self.meet(assoc, end.bridge.log)
        refusal = judge.refusal
        refusals = [refusal(pdu) for pdu in pdus]
        if not any(refusals):
            return pdus
        answers: list[bytes] = []
        for refused in refusals:
            if refused is not None:
                denial, answer = refused
                if answer is not None:
                    answers.append(answer)
                self._deny(denial, assoc, end.bridge.log)
        if answers:
            self._answer(end, assoc, answers)
        return [pdu for pdu, refused in zip(pdus, refusals, strict=True) if refused is None]

    def _answer(self, end: End, assoc: Connection, answers: list[bytes]) -> None:
        try:
            assoc.write_many(answers)
        except StateError:
            return  # it has just ended
        except FastsecError as error:
            end.bridge.log.error(f"denied requests could not be answered: {error}; the association is ended")
            assoc.abort(reason="a denied request could not be answered")
            return
        if not assoc.can_write:
            end.clog(assoc)

    # --- telling ---------------------------------------------------------------------------------------------------
    def _deny(self, denial: Denial, assoc: Connection, log: Log) -> None:
        self.denied += 1
        self._shared.denied += 1
        now = asyncio.get_running_loop().time()
        if self._allowance.take(now) and self._shared.allowance.take(now):
            self._tell_silent()
            facts = {
                "service": denial.service,
                "object": denial.object,
                "needs": rights.names(denial.missing),
                "reason": denial.reason,
            }
            self._tell("REQUEST_INVALID", log, assoc, **{name: value for name, value in facts.items() if value})
            return
        self._silent += 1
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(MINUTE, self._tell_silent)

    def _tell_silent(self) -> None:
        """How many denials have not been written one by one."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        count, self._silent = self._silent, 0
        if count and self._log is not None:
            self._log.warning("more requests of this association were denied, not told one by one", count=count)

    def _tell(self, mnemonic: str, log: Log, assoc: Connection, **facts: str) -> None:
        peer = str(log.fields.get("peer") or assoc.peer_address)
        roles = self._judge.roles if self._judge is not None else ()
        event = named(mnemonic, peer=peer, **facts, Role=in_words(roles))
        try:
            self._shared.sink(event)
        except Exception as error:
            asyncio.get_running_loop().call_exception_handler({"message": "event sink", "exception": error})

    def over(self, assoc: Connection, log: Log) -> None:
        """The association has ended."""
        self._tell_silent()
        if self._judge is not None:
            self._tell("ACCESS_LOGOUT", log, assoc)
            self._judge = None


def in_words(roles: tuple[RoleGrant, ...]) -> str:
    """The roles as IEC 62351-14 writes them, ``roleID:revision:roleDefinition``."""
    return ", ".join(dict.fromkeys(f"{role.role}:{role.revision}:{role.definition}" for role in roles)) or "none"


class Guarding(End):
    """A secured end whose requests are judged. The classes below add the slot ``guard``."""

    __slots__ = ()

    guard: Guard

    def pdus_received(self, assoc: Connection, pdus: list[bytes]) -> None:
        """Judge, then write to the server what may go on."""
        if self.other is not None:  # else they wait, and come again
            pdus = self.guard.passed(self, assoc, pdus)
        if pdus:
            super().pdus_received(assoc, pdus)

    def confirmed(self, assoc: Connection) -> None:
        """From now on the peer has its roles."""
        super().confirmed(assoc)
        self.guard.meet(assoc, self.bridge.log)

    def roles_changed(self, assoc: Connection) -> None:
        """Other roles than before, from now on."""
        super().roles_changed(assoc)
        self.guard.meet(assoc, self.bridge.log)

    def ended(self, assoc: Connection, error: FastsecError | None) -> None:
        """Tell what has not been told."""
        if self._bridge is not None:
            self.guard.over(assoc, self._bridge.log)
        super().ended(assoc, error)

    def tally(self) -> dict[str, int]:
        """What the last line of the association counts."""
        return {**super().tally(), "denied": self.guard.denied}


class GuardedEnd(Guarding):
    """Of an association that comes in."""

    __slots__ = ("guard",)

    def __init__(self, shared: Enforcer) -> None:
        super().__init__(SECURED)
        self.guard = Guard(shared)


class GuardedDialledEnd(Guarding, DialledEnd):
    """Of a connection that was dialled and waits to be asked for an association."""

    __slots__ = ("guard",)

    def __init__(self, shared: Enforcer) -> None:
        DialledEnd.__init__(self)
        self.guard = Guard(shared)
