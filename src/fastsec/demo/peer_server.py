"""A real MMS server that knows nothing of fastsec: the PyPI package ``iec61850`` in a process of its own.

``python -m fastsec.demo.peer_server [--port N]``; commands ``set`` (point, value) and ``written`` over stdin.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import iec61850

from fastsec.demo import line
from fastsec.demo.points import BY_NAME, DEVICE, IED, POINTS, Point, Value

_TYPES = {"float": "Float32", "bool": "Boolean", "int": "Int32"}
_TAGS = {"float": "float32", "bool": "bool", "int": "int"}


def model() -> dict[str, Any]:
    """The device model of ``POINTS`` in the package's own dict form."""
    objects: dict[str, dict[str, Any]] = {}
    for point in POINTS:
        _node, name, *inner, leaf = point.path.split(".")
        attribute = {
            "name": leaf,
            "fc": point.constraint,
            "type": _TYPES[point.kind],
            "value": {"type": _TAGS[point.kind], "value": point.initial},
        }
        if inner:
            # The child repeats the functional constraint, or the package does not find it on the wire.
            group = {"name": inner[0], "fc": point.constraint, "children": [attribute]}
            objects[name] = {"name": name, "constructed_das": [group]}
        else:
            objects[name] = {"name": name, "das": [attribute]}
    mode = {"name": "stVal", "fc": "ST", "type": "Enumerated", "value": {"type": "int", "value": 1}}
    nodes = [
        {"lln0": True, "dos": [{"name": "Mod", "das": [mode]}]},
        {"class": "GGIO", "inst": "1", "dos": list(objects.values())},
    ]
    return {"ied_name": IED, "lds": [{"inst": DEVICE, "lns": nodes}]}


async def run(port: int) -> None:
    """Serve until stdin is closed."""
    server = iec61850.IedServer.from_model_spec(model())
    server.bind(f"127.0.0.1:{port}")
    server.max_connections = 64
    server.vendor, server.model_name, server.revision = "an independent implementation", IED, "1"
    written: list[tuple[str, Value]] = []

    def on_write(point: Point) -> Any:
        def take(_address: str, value: Value) -> bool:
            written.append((point.name, value))
            return True  # the server stores it and answers later reads with it

        return take

    for point in POINTS:
        if point.writable:
            server.on_write(f"{DEVICE}/{point.path}", on_write(point))
    updates = {"float": server.update_float32, "bool": server.update_bool, "int": server.update_int32}

    async def handle(command: line.Command) -> Any:
        if command["op"] == "set":
            point = BY_NAME[command["point"]]
            updates[point.kind](f"{DEVICE}/{point.path}", command["value"])
            return None
        if command["op"] == "written":
            return written
        if command["op"] == "connections":
            return server.connection_count
        raise ValueError("unknown command")

    async with server:
        line.ready(port=int(server.bound_addr.rsplit(":", 1)[1]), package="iec61850")
        await line.serve(handle)


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(run(parser.parse_args().port))


if __name__ == "__main__":
    main()
