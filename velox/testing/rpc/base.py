"""The base of the groups of RPC methods: the chain, and the block of a commitment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from velox.testing.chain import Block, Chain
from velox.testing.rpc.params import commitment_of, whole_number
from velox.testing.server.jsonrpc import refuse

__all__ = ["VERSION", "Method", "MethodGroup"]

#: The version that the node reports; clients print it.
VERSION = {"solana-core": "velox-localnet", "feature-set": 0}
MIN_CONTEXT_SLOT = -32016

#: From the parameters of a call to its result.
Method = Callable[[list[Any]], Any]


class MethodGroup(ABC):
    """RPC methods of one subject. The chain's lock is held during every call.

    Parameters
    ----------
    chain : Chain
    """

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    @abstractmethod
    def methods(self) -> Mapping[str, Method]:
        """Return the methods by name."""

    def context(self, value: Any, slot: int | None = None) -> dict[str, Any]:
        """Return `value` with the slot that it is of; None for the newest."""
        slot = self.chain.head.slot if slot is None else slot
        return {"context": {"apiVersion": VERSION["solana-core"], "slot": slot}, "value": value}

    def block(self, config: Mapping[str, Any]) -> Block:
        """Return the newest block of a config's commitment."""
        return self.reached(config, commitment_of(config))

    def reached(self, config: Mapping[str, Any], commitment: str) -> Block:
        """Return the newest block of a commitment; refuse if ``minContextSlot`` is not reached."""
        block = self.chain.block(commitment)
        least = config.get("minContextSlot")
        if least is not None and block.slot < whole_number(least, "minContextSlot"):
            raise refuse(
                MIN_CONTEXT_SLOT,
                "Minimum context slot has not been reached",
                {"contextSlot": block.slot},
            )
        return block
