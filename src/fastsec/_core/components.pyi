from typing import Any, final

from fastsec._core.cursor import Reader, Writer

OTHER: int
OCTETS: int
NAMED_BITS: int
INTEGER: int
ALGORITHM: int
ASSO_ID: int
TIME: int

@final
class Components:
    """The components of one kind of SEQUENCE, in order; see components.pyx."""

    def __new__(cls, rows: tuple[tuple[Any, ...], ...], algorithms: dict[bytes, Any]) -> Components: ...
    def read(self, reader: Reader, path: str) -> list[Any]: ...
    def write(self, writer: Writer, source: object) -> None: ...
