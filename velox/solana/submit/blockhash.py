"""The blockhash that transactions name, kept for as long as it is young."""

from __future__ import annotations

import threading
from typing import Final

from velox.errors import ConfigError, TransportError
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import Blockhash

__all__ = ["BLOCKHASH_VALID_BLOCKS", "BlockhashCache"]

#: Blocks, not slots, for which a blockhash is good once it is there.
BLOCKHASH_VALID_BLOCKS: Final = 150
# Blocks by which a blockhash may be older than the newest block when it is fetched.
MOST_BEHIND: Final = 31


class BlockhashCache:
    """The youngest blockhash, fetched anew once it has aged by so many blocks. Any thread.

    One that would be of more than 150 blocks to come is refused, since it would be kept for ever;
    and one over 31 blocks old, by what the node says of its last valid height. Were that too low by
    less, a transaction would be given up no earlier than it can no longer land: what ends one is a
    *finalized* height, which is 32 blocks behind.

    Parameters
    ----------
    rpc : RpcClient
        The node.
    max_age_blocks : int
        Blocks after which it is fetched anew: 0 to 149. A transaction signed with it then has
        at least ``150 - max_age_blocks`` blocks left to land.

    Raises
    ------
    ConfigError
        An age at which a blockhash is of no use.
    """

    def __init__(self, rpc: RpcClient, max_age_blocks: int = 20) -> None:
        if not 0 <= max_age_blocks < BLOCKHASH_VALID_BLOCKS:
            raise ConfigError(
                f"max_age_blocks: must be from 0 to {BLOCKHASH_VALID_BLOCKS - 1}, "
                f"not {max_age_blocks}"
            )
        self._rpc = rpc
        self._max_age_blocks = max_age_blocks
        self._lock = threading.Lock()
        self._held: Blockhash | None = None

    def get(self, block_height: int | None = None) -> Blockhash:
        """Return a blockhash that is young enough.

        Parameters
        ----------
        block_height : int, optional
            The block height, from whoever has just asked for it; asked for here otherwise.

        Raises
        ------
        RpcError, RateLimitedError, TransportError
            As `RpcClient.get_latest_blockhash` does; what was there is kept.
        """
        with self._lock:
            if block_height is None:
                block_height = self._rpc.get_block_height()
            held = self._held
            if held is not None and block_height - _born(held) <= self._max_age_blocks:
                return held
            return self._fetch(block_height)

    def refresh(self) -> Blockhash:
        """Fetch one now, whatever the age of the last, and return the younger of the two."""
        with self._lock:
            return self._fetch(self._rpc.get_block_height())

    def _fetch(self, block_height: int) -> Blockhash:
        fetched, held = self._rpc.get_latest_blockhash(), self._held
        # Behind one address there may be many nodes, some of them behind the others.
        younger = fetched if held is None or _born(fetched) >= _born(held) else held
        ahead, behind = _born(fetched) - block_height, block_height - _born(younger)
        if ahead > BLOCKHASH_VALID_BLOCKS or behind > MOST_BEHIND:
            raise TransportError(
                self._rpc.label,
                "getLatestBlockhash",
                f"lastValidBlockHeight {fetched.last_valid_block_height} at block height "
                f"{block_height}",
            )
        self._held = younger
        return younger


def _born(blockhash: Blockhash) -> int:
    return blockhash.last_valid_block_height - BLOCKHASH_VALID_BLOCKS
