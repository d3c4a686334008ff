"""libiec61850 (PyPI pyiec61850-ng) as a plain MMS server in a process of its own: ``libiec_server.py --port N``.

GPL: used by these tests only, over a socket.
"""

from __future__ import annotations

import argparse
from typing import Any

import pyiec61850.pyiec61850 as lib

from fastsec.demo import line
from fastsec.demo.points import BY_NAME, DEVICE, DOMAIN, IED, POINTS, Point, Value

TYPES = {"float": lib.IEC61850_FLOAT32, "bool": lib.IEC61850_BOOLEAN, "int": lib.IEC61850_INT32}


def build() -> Any:
    """The points as a libiec61850 model."""
    model = lib.IedModel_create(IED)
    device = lib.LogicalDevice_create(DEVICE, model)
    lib.CDC_ENS_create("Mod", lib.toModelNode(lib.LogicalNode_create("LLN0", device)), 0)
    node = lib.LogicalNode_create("GGIO1", device)
    for point in POINTS:
        _node, name, *inner, leaf = point.path.split(".")
        constraint = getattr(lib, f"IEC61850_FC_{point.constraint}")
        if inner:
            # The binding cannot make a constructed attribute itself; the common data class MV brings mag.f.
            lib.CDC_MV_create(name, lib.toModelNode(node), 0, False)
        else:
            parent = lib.toModelNode(lib.DataObject_create(name, lib.toModelNode(node), 0))
            lib.DataAttribute_create(leaf, parent, TYPES[point.kind], constraint, 0, 0, 0)
    return model


class Device:
    """The running server and its model."""

    def __init__(self, port: int) -> None:
        self.model = build()
        self.server = lib.IedServer_create(self.model)
        lib.IedServer_setLocalIpAddress(self.server, "127.0.0.1")
        lib.IedServer_setWriteAccessPolicy(self.server, lib.IEC61850_FC_SP, lib.ACCESS_POLICY_ALLOW)
        lib.IedServer_start(self.server, port)
        if not lib.IedServer_isRunning(self.server):
            raise SystemExit(f"port {port} is not free")
        for point in POINTS:
            self.update(point, point.initial)

    def attribute(self, point: Point) -> Any:
        return lib.toDataAttribute(lib.IedModel_getModelNodeByObjectReference(self.model, f"{DOMAIN}/{point.path}"))

    def update(self, point: Point, value: Value) -> None:
        kinds = {"float": "Float", "bool": "Boolean", "int": "Int32"}
        getattr(lib, f"IedServer_update{kinds[point.kind]}AttributeValue")(self.server, self.attribute(point), value)

    def value(self, point: Point) -> Value:
        kinds = {"float": "Float", "bool": "Boolean", "int": "Int32"}
        found: Value = getattr(lib, f"IedServer_get{kinds[point.kind]}AttributeValue")(
            self.server, self.attribute(point)
        )
        return found

    def handle(self, command: line.Command) -> Any:
        if command["op"] == "set":
            self.update(BY_NAME[command["point"]], command["value"])
            return None
        if command["op"] == "written":
            # The binding has no usable write callback: report the writable points that differ from their start.
            values = [(point, self.value(point)) for point in POINTS if point.writable]
            return [(point.name, value) for point, value in values if value != point.initial]
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
