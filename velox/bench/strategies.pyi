from typing import Literal

__all__ = ["MARKET_MAKER_STATE", "address", "names"]

MARKET_MAKER_STATE: int

def names() -> tuple[str, ...]: ...
def address(name: Literal["nothing", "forward", "market_maker"]) -> int: ...
