"""The PyPI package hat-drivers as a plain MMS server in a process of its own: ``hat_server.py [--port N]``."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from hat.drivers import mms, net

from fastsec.demo import line
from fastsec.demo.points import BY_ITEM, BY_NAME, DOMAIN, POINTS, Value

KINDS = {"float": mms.FloatingPointData, "bool": mms.BooleanData, "int": mms.IntegerData}


class Device:
    """The points and what clients wrote to them."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {point.item: point.initial for point in POINTS}
        self.written: list[tuple[str, Value]] = []
        self.connections = 0

    def read(self, variable: Any) -> Any:
        if variable.name.domain_id != DOMAIN or variable.name.item_id not in self.values:
            return mms.DataAccessError.OBJECT_NON_EXISTENT
        return KINDS[BY_ITEM[variable.name.item_id].kind](self.values[variable.name.item_id])

    def write(self, variable: Any, data: Any) -> Any:
        point = BY_ITEM.get(variable.name.item_id)
        if point is None:
            return mms.DataAccessError.OBJECT_NON_EXISTENT
        if not point.writable:
            return mms.DataAccessError.OBJECT_ACCESS_DENIED
        self.values[point.item] = data.value
        self.written.append((point.name, data.value))
        return None

    async def request(self, _connection: Any, request: Any) -> Any:
        if isinstance(request, mms.ReadRequest):
            return mms.ReadResponse([self.read(variable) for variable in request.value])
        if isinstance(request, mms.WriteRequest):
            pairs = zip(request.specification, request.data, strict=True)
            return mms.WriteResponse([self.write(variable, data) for variable, data in pairs])
        if isinstance(request, mms.IdentifyRequest):
            return mms.IdentifyResponse("hat", "hat-drivers", "1", None)
        if isinstance(request, mms.GetNameListRequest):
            domains = request.object_class == mms.ObjectClass.DOMAIN
            return mms.GetNameListResponse([DOMAIN] if domains else list(self.values), False)
        return mms.VmdStateError.OTHER

    async def connected(self, connection: Any) -> None:
        self.connections += 1
        connection.async_group.spawn(self._gone, connection)

    async def _gone(self, connection: Any) -> None:
        try:
            await connection.wait_closing()
        finally:
            self.connections -= 1

    async def handle(self, command: line.Command) -> Any:
        if command["op"] == "set":
            self.values[BY_NAME[command["point"]].item] = command["value"]
            return None
        return {"written": self.written, "connections": self.connections}[command["op"]]


async def run(port: int) -> None:
    device = Device()
    server = await mms.listen(device.connected, net.TcpAddress("127.0.0.1", port), device.request)
    line.ready(port=server.info.addresses[0].port, package="hat-drivers")
    await line.serve(device.handle)
    await server.async_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(run(parser.parse_args().port))
