"""How much room the CONNECT SPDU leaves for a SecPDU (62351-4 §9: at most 10 240 octets of CONNECT user data)."""

from __future__ import annotations

from typing import NamedTuple

from fastsec import limits, profile
from fastsec.envs.osi import acse, presentation
from fastsec.envs.osi.params import OsiParams
from fastsec.errors import LimitReached


class ConnectSize(NamedTuple):
    """Sizes in octets of the parts of CONNECT user data.

    Attributes:
        total: CP with all it holds; the limit is about this.
        user_data: the SecPDU, or the MMS initiate-Request.
        addresses: selectors, contexts, AP-titles, AE-qualifiers and all headers.
        room: largest ``user_data`` that fits.
    """

    total: int
    user_data: int
    addresses: int
    room: int

    @property
    def fits(self) -> bool:
        """Whether the limit is kept."""
        return self.user_data <= self.room


def encode_request(params: OsiParams, user_data: bytes, proof: acse.Proof | None = None) -> bytes:
    """The CP with the AARQ of ``params`` that carries ``user_data``, and ``proof`` as its authentication-value."""
    context = profile.CONTEXT_E2E if params.security else profile.CONTEXT_MMS
    fields = params.aarq_fields
    if proof is not None:
        fields += acse.proof_fields(0x8A, proof)
    apdu = acse.encode_aarq(fields, context, user_data)
    return presentation.encode_connect(params.cp_header, profile.CONTEXT_ACSE, apdu)


def estimate_connect_size(params: OsiParams, user_data_len: int) -> ConnectSize:
    """Exact sizes of a request with ``user_data_len`` octets of user data. Nothing is sent."""
    total = len(encode_request(params, bytes(user_data_len)))
    return ConnectSize(total, user_data_len, total - user_data_len, connect_room(params))


def connect_room(params: OsiParams) -> int:
    """The largest user data, in octets, that a request of ``params`` can carry."""
    most = limits.SPEC_CONNECT_USER_DATA_MAX
    # Near the limit all length octets have the same count, so the headers are as long as for user data of that size.
    return 2 * most - len(encode_request(params, bytes(most)))


def checked_request(params: OsiParams, user_data: bytes, proof: acse.Proof | None = None) -> bytes:
    """As ``encode_request``.

    Errors:
        LimitReached: the request would exceed the limit; the text says which part is how big.
    """
    request = encode_request(params, user_data, proof)
    if len(request) > limits.SPEC_CONNECT_USER_DATA_MAX:
        if proof is not None:
            raise LimitReached(
                "SPEC_CONNECT_USER_DATA_MAX",
                f"CONNECT user data would be {len(request)} octets, {limits.SPEC_CONNECT_USER_DATA_MAX} are allowed:"
                f" the authentication-value has {len(proof.value)}, the MMS initiate-Request {len(user_data)}",
            )
        size = estimate_connect_size(params, len(user_data))
        part = "the SecPDU in the AARQ" if params.security else "the MMS initiate-Request"
        advice = "; leave out certPath or use smaller certificates" if params.security else ""
        most = limits.SPEC_CONNECT_USER_DATA_MAX
        raise LimitReached(
            "SPEC_CONNECT_USER_DATA_MAX",
            f"CONNECT user data would be {size.total} octets, {most} are allowed: {part} has {size.user_data} octets"
            f" where {size.room} fit beside addresses and contexts ({size.addresses}){advice}",
        )
    return request
