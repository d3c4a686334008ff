from typing import Final, final

MODE_HMAC: Final[int]
MODE_GMAC: Final[int]
MODE_CBC_HMAC: Final[int]
MODE_CBC_GMAC: Final[int]
MODE_AE: Final[int]

@final
class GuardParams:
    """What all guards of one association have in common."""

    def __new__(
        cls, mode: int, asso_id: str, icv_algorithm: bytes, icv_len: int, aes_key_size: int, mac_key_size: int
    ) -> GuardParams: ...
    @property
    def mode(self) -> int: ...
    @property
    def asso_id(self) -> str: ...
    @property
    def icv_algorithm(self) -> bytes: ...
    @property
    def icv_len(self) -> int: ...
    @property
    def aes_key_size(self) -> int: ...
    @property
    def mac_key_size(self) -> int: ...

@final
class Outgoing:
    """(time, seq) and nonce counter of one sending direction; C code only."""

    def __new__(cls) -> Outgoing: ...

@final
class Window:
    """Last accepted (time, seq) of one receiving direction; C code only."""

    def __new__(cls) -> Window: ...
