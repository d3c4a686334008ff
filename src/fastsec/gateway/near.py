"""The near side: plain MMS, as unmodified clients and servers speak it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastsec import profile
from fastsec.aio.handler import Reject
from fastsec.envs.osi import OsiAddress, OsiParams
from fastsec.gateway.bridge import PLAIN, End
from fastsec.mms import pdu as mms

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from fastsec.aio.connection import Connection
    from fastsec.gateway import model


_ANY = OsiAddress(tsel=None, ssel=None, psel=None)  # of a listener: whatever is called is taken


def parameters(route: model.Route) -> OsiParams:
    """The OSI parameters towards the plain peer of ``route``.

    As server (the gateway calls the plain server): ``near.local`` calls ``near.remote``. As client (plain clients call
    the gateway): a called selector or title that is configured has to be met, what is not configured is not checked.
    """
    near = route.osi
    context = near.application_context
    local = near.local
    selectors = local.tsel is not None or local.ssel is not None or local.psel is not None
    return OsiParams(
        security=False,
        local=address(local, _ANY if route.role == "client" else OsiAddress()),
        remote=address(near.remote, OsiAddress()),
        password=near.password,
        application_context=None if context == profile.OID_MMS_AC else context,
        check_selectors=route.role == "client" and selectors,
        check_called=route.role == "client" and local.ap_title is not None,
    )


def address(own: model.OsiAddress, usual: OsiAddress) -> OsiAddress:
    """What is configured, completed by what is usual."""
    return OsiAddress(
        tsel=_selector(own.tsel, usual.tsel),
        ssel=_selector(own.ssel, usual.ssel),
        psel=_selector(own.psel, usual.psel),
        ap_title=own.ap_title,
        ae_qualifier=own.ae_qualifier,
    )


def _selector(own: bytes | None, usual: bytes | None) -> bytes | None:
    """The configured selector; the usual one where none is; none at all where it is configured empty."""
    if own is None:
        return usual
    return own or None


class Caller(End):
    """A plain client that calls, under the name that ``near.remote`` demands if it demands one."""

    __slots__ = ("_wanted",)

    def __init__(self, route: model.Route) -> None:
        super().__init__(PLAIN)
        self._wanted = route.osi.remote

    def association_requested(self, assoc: Connection, appl_data: bytes) -> Reject | Awaitable[bytes | Reject]:
        """Refuse a caller under another name, else open the other side."""
        wanted, request = self._wanted, assoc.request
        if request is not None and (
            (wanted.ap_title is not None and request.calling.ap_title != wanted.ap_title)
            or (wanted.ae_qualifier is not None and request.calling.ae_qualifier != wanted.ae_qualifier)
        ):
            self.bridge.log.warning(
                "the plain client calls under another name than near.remote demands; refused",
                source=assoc.peer_address,
                calling=f"{request.calling.ap_title!r}:{request.calling.ae_qualifier!r}",
            )
            return Reject(mms.initiate_error("calling AP-title or AE-qualifier not admitted"))
        return super().association_requested(assoc, appl_data)
