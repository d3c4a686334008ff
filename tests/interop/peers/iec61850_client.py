"""The PyPI package iec61850 as a plain MMS client in a process of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import iec61850

from fastsec.demo import line
from fastsec.demo.points import BY_NAME, DOMAIN, Value

READ = {"float": "read_float", "bool": "read_bool", "int": "read_int32"}
WRITE = {"float": "write_float", "bool": "write_bool", "int": "write_int32"}


class Client:
    """The associations of this process by name."""

    def __init__(self) -> None:
        self.connections: dict[str, Any] = {}

    async def handle(self, command: line.Command) -> Any:
        return await getattr(self, "do_" + command["op"])(command.get("name", ""), command)

    async def do_open(self, name: str, command: line.Command) -> None:
        self.connections[name] = await iec61850.IedConnection.connect(
            f"127.0.0.1:{command['port']}", timeout_ms=10_000, request_timeout_ms=10_000
        )

    async def do_read(self, name: str, command: line.Command) -> list[Value]:
        values: list[Value] = []
        for point in (BY_NAME[name] for name in command["points"]):
            read = getattr(self.connections[name], READ[point.kind])
            values.append(await read(f"{DOMAIN}/{point.path}", iec61850.FC(point.constraint)))
        return values

    async def do_write(self, name: str, command: line.Command) -> None:
        point = BY_NAME[command["point"]]
        write = getattr(self.connections[name], WRITE[point.kind])
        await write(f"{DOMAIN}/{point.path}", iec61850.FC(point.constraint), command["value"])

    async def do_operate(self, name: str, command: line.Command) -> bool:
        model = iec61850.ControlModel.SBO_NORMAL if command["select"] else iec61850.ControlModel.DIRECT_NORMAL
        control = self.connections[name].create_control_object(f"{DOMAIN}/{command['path']}", model)
        if command["select"]:
            await control.select()
        outcome = await control.operate(command["value"])
        if not outcome.success:
            raise ValueError(f"not operated: {outcome.add_cause}")
        return True

    async def do_state(self, name: str, _command: line.Command) -> bool:
        return bool(self.connections[name].is_connected)

    async def do_close(self, name: str, _command: line.Command) -> None:
        await self.connections.pop(name).disconnect()

    async def do_abort(self, name: str, _command: line.Command) -> None:
        await self.connections.pop(name).abort()


async def run() -> None:
    line.ready(package="iec61850")
    await line.serve(Client().handle)


if __name__ == "__main__":
    asyncio.run(run())
