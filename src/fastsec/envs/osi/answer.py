"""What a responder notes of a request until it has answered it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastsec.envs.osi import acse
from fastsec.errors import LocalError

if TYPE_CHECKING:
    from fastsec.envs.osi.params import OsiParams


@dataclass(slots=True)
class Answer:
    """Responding selectors, result list, application context, session version, whether a password was checked, and
    the form of the authentication-value that came (A-profile)."""

    ssel: bytes | None
    psel: bytes | None
    context_name: str
    version: int
    results: tuple[int, ...] = ()
    authenticated: bool = False
    proof: acse.Proof | None = None

    def accepting_fields(self, params: OsiParams, proof: bytes | None) -> bytes:
        """The fields of the accepting AARE.

        Arguments:
            proof: own MMS-Authentication-value; it is carried as the one that came was.
        Errors:
            LocalError: there is none with the A-profile, or one without.
        """
        if (proof is not None) is not params.a_profile:
            raise LocalError("the A-profile, and nothing else, answers with an MMS-Authentication-value")
        if not self.authenticated and self.context_name == params.context_name:
            fields = params.aare_fields
        else:
            title, outcome = params.local.title, acse.OUTCOME_ACCEPTED
            fields = acse.aare_fields(self.context_name, title, outcome, authenticated=self.authenticated)
        if proof is not None:
            fields += acse.proof_fields(0x88, (self.proof or acse.Proof(b""))._replace(value=proof))
        return fields
