"""libiec61850 (PyPI pyiec61850-ng) as a device with something to control: ``controlled_server.py --port N``.

``GGIO1.SPCSO1``: a switch, controlled directly; ``GGIO1.SPCSO2``: to be selected before; ``GGIO1.SetA1``: a set-point;
``LLN0$ds``: a data set. GPL: used by these tests only, over a socket.
"""

from __future__ import annotations

import argparse
from typing import Any

import pyiec61850.pyiec61850 as lib

from fastsec.demo import line
from fastsec.demo.points import DEVICE, DOMAIN, IED

SWITCHES = {"SPCSO1": lib.CDC_CTL_MODEL_DIRECT_NORMAL, "SPCSO2": lib.CDC_CTL_MODEL_SBO_NORMAL}


class Device:
    """The running server and its model."""

    def __init__(self, port: int) -> None:
        self.model = lib.IedModel_create(IED)
        device = lib.LogicalDevice_create(DEVICE, self.model)
        zero = lib.LogicalNode_create("LLN0", device)
        lib.CDC_ENS_create("Mod", lib.toModelNode(zero), 0)
        node = lib.toModelNode(lib.LogicalNode_create("GGIO1", device))
        for name, model in SWITCHES.items():
            lib.CDC_SPC_create(name, node, 0, model)
        lib.CDC_SPS_create("Ind1", node, 0)
        lib.CDC_ASG_create("SetA1", node, 0, False)
        events = lib.DataSet_create("ds", zero)
        lib.DataSetEntry_create(events, "GGIO1$ST$Ind1$stVal", -1, None)
        self.server = lib.IedServer_create(self.model)
        lib.IedServer_setLocalIpAddress(self.server, "127.0.0.1")
        for constraint in (lib.IEC61850_FC_SP, lib.IEC61850_FC_CF):
            lib.IedServer_setWriteAccessPolicy(self.server, constraint, lib.ACCESS_POLICY_ALLOW)
        lib.IedServer_start(self.server, port)
        if not lib.IedServer_isRunning(self.server):
            raise SystemExit(f"port {port} is not free")
        for name, model in SWITCHES.items():
            kind = 1 if model == lib.CDC_CTL_MODEL_DIRECT_NORMAL else 2
            self.update(f"GGIO1.{name}.ctlModel", kind)
        self.update("GGIO1.Ind1.stVal", True)

    def attribute(self, path: str) -> Any:
        found = lib.IedModel_getModelNodeByObjectReference(self.model, f"{DOMAIN}/{path}")
        return lib.toDataAttribute(found)

    def update(self, path: str, value: Any) -> None:
        kind = "Boolean" if isinstance(value, bool) else "Int32"
        getattr(lib, f"IedServer_update{kind}AttributeValue")(self.server, self.attribute(path), value)

    def handle(self, command: line.Command) -> Any:
        if command["op"] == "bool":
            return lib.IedServer_getBooleanAttributeValue(self.server, self.attribute(command["path"]))
        if command["op"] == "float":
            return lib.IedServer_getFloatAttributeValue(self.server, self.attribute(command["path"]))
        if command["op"] == "connections":
            return lib.IedServer_getNumberOfOpenConnections(self.server)
        raise ValueError("unknown command")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    served = Device(arguments.port)
    line.ready(port=arguments.port, package="pyiec61850-ng")
    line.serve_blocking(served.handle)
    lib.IedServer_stop(served.server)
