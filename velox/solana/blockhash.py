"""The blockhash that transactions name, kept for as long as it is young."""

from __future__ import annotations

import threading
from typing import Final

from velox.errors import ConfigError, TransportError
from velox.solana.rpc import Blockhash, RpcClient

__all__ = ["BLOCKHASH_VALID_BLOCKS", "BlockhashCache"]

#: Blocks, not slots, for which a blockhash is good once it is there.
BLOCKHASH_VALID_BLOCKS: Final = 150


class BlockhashCache:
    """The youngest blockhash, fetched anew once it has aged by so many blocks. Any thread.

    One that is more than 150 blocks off the block height cannot be, and is refused: it would be
    kept for ever.

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
        if abs(_born(fetched) - block_height) > BLOCKHASH_VALID_BLOCKS:
            raise TransportError(
                self._rpc.label,
                "getLatestBlockhash",
                f"lastValidBlockHeight {fetched.last_valid_block_height} at block height "
                f"{block_height}: cannot be",
            )
        # Behind one address there may be many nodes, some of them behind the others.
        if held is None or fetched.last_valid_block_height >= held.last_valid_block_height:
            self._held = held = fetched
        return held


def _born(blockhash: Blockhash) -> int:
    return blockhash.last_valid_block_height - BLOCKHASH_VALID_BLOCKS
