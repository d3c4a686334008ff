"""The OSI environment: transport class 0, session, presentation and ACSE for MMS (IEC 61850-8-1, 62351-4 §9).

``OsiEndpoint`` is one side of one connection; ``OsiParams`` its addresses and settings. Framing and the data phase live
in ``fastsec._core.osidata``.
"""

from fastsec.envs.osi.endpoint import OsiEndpoint
from fastsec.envs.osi.indications import (
    AbortInd,
    AssociateCnf,
    AssociateInd,
    DataInd,
    EnvFault,
    Indication,
    ProviderAbort,
    ReleaseCnf,
    ReleaseInd,
    TransportConnected,
)
from fastsec.envs.osi.names import AeTitle
from fastsec.envs.osi.params import OsiAddress, OsiParams
from fastsec.envs.osi.size import ConnectSize, connect_room, estimate_connect_size

__all__ = [
    "AbortInd",
    "AeTitle",
    "AssociateCnf",
    "AssociateInd",
    "ConnectSize",
    "DataInd",
    "EnvFault",
    "Indication",
    "OsiAddress",
    "OsiEndpoint",
    "OsiParams",
    "ProviderAbort",
    "ReleaseCnf",
    "ReleaseInd",
    "TransportConnected",
    "connect_room",
    "estimate_connect_size",
]
