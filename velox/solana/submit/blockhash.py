"""A cache of the newest blockhash."""

from __future__ import annotations

import threading
from typing import Final

from velox.errors import ConfigError, TransportError
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import Blockhash, OutcomeCommitment

__all__ = ["BLOCKHASH_VALID_BLOCKS", "BlockhashCache"]

#: A blockhash is valid for this many blocks. Blocks, not slots.
BLOCKHASH_VALID_BLOCKS: Final = 150
# Blocks above a block that is final.
FINALIZED_BLOCKS: Final = 32
# The most blocks by which a fetched blockhash may be older than the newest block.
MOST_BEHIND: Final = 31


class BlockhashCache:
    """Keeps the newest blockhash, and fetches another once it has aged by so many blocks.

    A blockhash from more than 150 blocks ahead is refused: it would be kept for ever. One over 31
    blocks old is refused too, by the last valid height that the node states. A smaller error is
    harmless: a transaction expires by a *finalized* height, which is 32 blocks behind.

    Parameters
    ----------
    rpc : RpcClient
        The node.
    max_age_blocks : int
        Blocks after which another is fetched: 0 to 149. A transaction signed with it has at least
        ``150 - max_age_blocks`` blocks left to land.

    commitment : {"confirmed", "finalized"}
        The level of the blockhash: that at which a preflight simulates, or the node would not know
        it there. A finalized one is 32 blocks older.

    Raises
    ------
    ConfigError
        `max_age_blocks` is out of range.

    Notes
    -----
    Thread-safety: any thread.
    """

    def __init__(
        self,
        rpc: RpcClient,
        max_age_blocks: int = 20,
        *,
        commitment: OutcomeCommitment = "confirmed",
    ) -> None:
        if not 0 <= max_age_blocks < BLOCKHASH_VALID_BLOCKS:
            raise ConfigError(
                f"max_age_blocks = {max_age_blocks}: must be 0 to {BLOCKHASH_VALID_BLOCKS - 1}"
            )
        self._rpc = rpc
        self._commitment: OutcomeCommitment = commitment
        self._older = FINALIZED_BLOCKS if commitment == "finalized" else 0
        self._max_age_blocks = max_age_blocks + self._older
        self._lock = threading.Lock()
        self._held: Blockhash | None = None

    def get(self, block_height: int | None = None) -> Blockhash:
        """Return a blockhash that is young enough.

        Parameters
        ----------
        block_height : int, optional
            The current block height. It is requested if it is not given.

        Raises
        ------
        RpcError, RateLimitedError, TransportError
            See `RpcClient.get_latest_blockhash`. The cached blockhash is kept.
        """
        with self._lock:
            if block_height is None:
                block_height = self._rpc.get_block_height()
            held = self._held
            if held is not None and block_height - _born(held) <= self._max_age_blocks:
                return held
            return self._fetch(block_height)

    def _fetch(self, block_height: int) -> Blockhash:
        fetched, held = self._rpc.get_latest_blockhash(self._commitment), self._held
        # One address may serve many nodes, and some lag behind others.
        younger = fetched if held is None or _born(fetched) >= _born(held) else held
        ahead, behind = _born(fetched) - block_height, block_height - _born(younger)
        if ahead > BLOCKHASH_VALID_BLOCKS or behind > MOST_BEHIND + self._older:
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
