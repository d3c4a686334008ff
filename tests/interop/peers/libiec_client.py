"""libiec61850 (PyPI pyiec61850-ng) as a plain MMS client in a process of its own.

GPL: used by these tests only, over a socket.
"""

from __future__ import annotations

from typing import Any

import pyiec61850.pyiec61850 as lib

from fastsec.demo import line
from fastsec.demo.points import BY_NAME, DOMAIN, Value

KINDS = {"float": "FloatValue", "bool": "BooleanValue", "int": "Int32Value"}
CONNECTED = 2  # IED_STATE_CONNECTED
ATTEMPTS = 10
PROBE = f"{DOMAIN}/{BY_NAME['Ind1'].path}"


def check(outcome: Any) -> Any:
    """The value of the binding's (value, error) pair; an error raises."""
    value, error = outcome
    if error != lib.IED_ERROR_OK:
        raise ValueError(f"IedClientError {error}")
    return value


def authenticate(connection: Any, password: str) -> None:
    """Send ``password`` in the AARQ (ACSE mechanism 2.2.3.1)."""
    parameter = lib.AcseAuthenticationParameter_create()
    lib.AcseAuthenticationParameter_setAuthMechanism(parameter, lib.ACSE_AUTH_PASSWORD)
    lib.AcseAuthenticationParameter_setPassword(parameter, password)
    transport = lib.MmsConnection_getIsoConnectionParameters(lib.IedConnection_getMmsConnection(connection))
    lib.IsoConnectionParameters_setAcseAuthenticationParameter(transport, parameter)


class Client:
    """The associations of this process by name."""

    def __init__(self) -> None:
        self.connections: dict[str, Any] = {}

    def handle(self, command: line.Command) -> Any:
        return getattr(self, "do_" + command["op"])(command.get("name", ""), command)

    def do_open(self, name: str, command: line.Command) -> None:
        # Where a server answers within microseconds the library now and then misses its own state change: connected,
        # but every request fails with "lost" before it is sent, also with its own server. Then another try.
        for _ in range(ATTEMPTS):
            connection = lib.IedConnection_create()
            lib.IedConnection_setConnectTimeout(connection, 10_000)
            lib.IedConnection_setRequestTimeout(connection, 10_000)
            if "password" in command:
                authenticate(connection, command["password"])
            check(lib.IedConnection_connect(connection, "127.0.0.1", command["port"]))
            _, error = lib.IedConnection_readBooleanValue(connection, PROBE, lib.IEC61850_FC_ST)
            if error == lib.IED_ERROR_OK:
                self.connections[name] = connection
                return
            lib.IedConnection_close(connection)
            lib.IedConnection_destroy(connection)
        raise ValueError(f"IedClientError {error} after {ATTEMPTS} attempts")

    def do_read(self, name: str, command: line.Command) -> list[Value]:
        points = [BY_NAME[point] for point in command["points"]]
        return [
            check(
                getattr(lib, f"IedConnection_read{KINDS[point.kind]}")(
                    self.connections[name],
                    f"{DOMAIN}/{point.path}",
                    getattr(lib, f"IEC61850_FC_{point.constraint}"),
                )
            )
            for point in points
        ]

    def do_write(self, name: str, command: line.Command) -> None:
        point = BY_NAME[command["point"]]
        check(
            getattr(lib, f"IedConnection_write{KINDS[point.kind]}")(
                self.connections[name],
                f"{DOMAIN}/{point.path}",
                getattr(lib, f"IEC61850_FC_{point.constraint}"),
                command["value"],
            )
        )

    def do_operate(self, name: str, command: line.Command) -> bool:
        control = lib.ControlObjectClient_create(f"{DOMAIN}/{command['path']}", self.connections[name])
        try:
            value = lib.MmsValue_newBoolean(command["value"])
            if command["select"] and not lib.ControlObjectClient_select(control):
                raise ValueError(f"not selected: IedClientError {lib.ControlObjectClient_getLastError(control)}")
            if not lib.ControlObjectClient_operate(control, value, 0):
                raise ValueError(f"not operated: IedClientError {lib.ControlObjectClient_getLastError(control)}")
        finally:
            lib.ControlObjectClient_destroy(control)
        return True

    def do_state(self, name: str, _command: line.Command) -> bool:
        return bool(lib.IedConnection_getState(self.connections[name]) == CONNECTED)

    def do_close(self, name: str, _command: line.Command) -> None:
        connection = self.connections.pop(name)
        try:
            # Conclude first (the orderly way); the library then closes the transport itself.
            check(lib.IedConnection_release(connection))
        finally:
            lib.IedConnection_destroy(connection)

    def do_abort(self, name: str, _command: line.Command) -> None:
        connection = self.connections.pop(name)
        try:
            check(lib.IedConnection_abort(connection))
        finally:
            lib.IedConnection_destroy(connection)


if __name__ == "__main__":
    line.ready(package="pyiec61850-ng")
    line.serve_blocking(Client().handle)
