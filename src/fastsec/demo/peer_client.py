"""A real MMS client that knows nothing of fastsec: the PyPI package ``hat-drivers`` in a process of its own.

``python -m fastsec.demo.peer_client``; commands over stdin: ``open`` (name, port), ``read`` (name, points),
``write`` (name, point, value), ``burst`` (name, requests: [point] reads, [point, value] writes; all sent before the
first answer), ``names``, ``identify``, ``state``, ``ended``, ``close``.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from fastsec.demo import line
from fastsec.demo.points import BY_NAME, DOMAIN, Value

# The package carries no type information; Any by import keeps the type checker honest about that.
mms: Any = importlib.import_module("hat.drivers.mms")
net: Any = importlib.import_module("hat.drivers.net")

REQUEST_TIMEOUT = 10.0
LOCAL_DETAIL = 65_000


def variable(point: str) -> Any:
    """The package's name of a point on the wire."""
    return mms.NameVariableSpecification(mms.DomainSpecificObjectName(DOMAIN, BY_NAME[point].item))


def encode(point: str, value: Value) -> Any:
    """A value as the package's MMS data."""
    kinds = {"float": mms.FloatingPointData, "bool": mms.BooleanData, "int": mms.IntegerData}
    return kinds[BY_NAME[point].kind](value)


def decode(data: Any) -> Value:
    """The plain value of the package's MMS data; a data access error raises."""
    if isinstance(data, mms.DataAccessError):
        raise ValueError(f"data access error {data.name}")
    value: Value = data.value
    return value


class Client:
    """The associations of this process by name."""

    def __init__(self) -> None:
        self._connections: dict[str, Any] = {}

    async def request(self, name: str, request: Any) -> Any:
        """Send one confirmed request and return its response."""
        response = await asyncio.wait_for(self._connections[name].send_confirmed(request), REQUEST_TIMEOUT)
        if not hasattr(mms, type(response).__name__) or not type(response).__name__.endswith("Response"):
            raise ValueError(f"service error {response}")
        return response

    async def handle(self, command: line.Command) -> Any:
        """Carry out one command."""
        name = command.get("name", "")
        action = getattr(self, "do_" + command["op"], None)
        if action is None:
            raise ValueError("unknown command")
        return await action(name, command)

    async def do_open(self, name: str, command: line.Command) -> None:
        """Associate with the server at 127.0.0.1 and the given port."""
        self._connections[name] = await asyncio.wait_for(
            # Without local_detail_calling the package leaves localDetail out, and servers then choose tiny PDUs.
            mms.connect(net.TcpAddress("127.0.0.1", command["port"]), local_detail_calling=LOCAL_DETAIL),
            REQUEST_TIMEOUT,
        )

    async def read(self, name: str, points: list[str]) -> list[Value]:
        """Read several points with one request."""
        response = await self.request(name, mms.ReadRequest([variable(point) for point in points]))
        return [decode(data) for data in response.results]

    async def write(self, name: str, point: str, value: Value) -> None:
        """Write one point."""
        response = await self.request(name, mms.WriteRequest([variable(point)], [encode(point, value)]))
        if response.results[0] is not None:
            raise ValueError(f"data access error {response.results[0].name}")

    async def do_read(self, name: str, command: line.Command) -> list[Value]:
        """Read several points with one request."""
        return await self.read(name, command["points"])

    async def do_write(self, name: str, command: line.Command) -> None:
        """Write one point."""
        await self.write(name, command["point"], command["value"])

    async def do_burst(self, name: str, command: line.Command) -> list[Any]:
        """One request per entry, all in flight at once; each gives [values] or None for a write."""
        requests = [
            self.read(name, entry) if len(entry) == 1 else self.write(name, entry[0], entry[1])
            for entry in command["requests"]
        ]
        return list(await asyncio.gather(*requests))

    async def do_identify(self, name: str, _command: line.Command) -> list[str]:
        """Vendor, model and revision."""
        response = await self.request(name, mms.IdentifyRequest())
        return [response.vendor, response.model, response.revision]

    async def do_names(self, name: str, _command: line.Command) -> list[str]:
        """The names of all variables of the device."""
        scope = mms.DomainSpecificObjectScope(DOMAIN)
        response = await self.request(name, mms.GetNameListRequest(mms.ObjectClass.NAMED_VARIABLE, scope, None))
        return list(response.identifiers)

    async def do_state(self, name: str, _command: line.Command) -> bool:
        """Whether the association is open."""
        return bool(self._connections[name].is_open)

    async def do_ended(self, name: str, _command: line.Command) -> bool:
        """Wait until the association has ended."""
        await asyncio.wait_for(self._connections[name].wait_closed(), REQUEST_TIMEOUT)
        return True

    async def do_close(self, name: str, _command: line.Command) -> None:
        """Conclude and release the association."""
        await asyncio.wait_for(self._connections.pop(name).async_close(), REQUEST_TIMEOUT)


async def run() -> None:
    """Serve commands until stdin is closed."""
    line.ready(package="hat-drivers")
    await line.serve(Client().handle)


def main() -> None:
    """Entry of the process."""
    asyncio.run(run())


if __name__ == "__main__":
    main()
