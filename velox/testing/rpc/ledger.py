"""Methods about slots and blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from solders.pubkey import Pubkey

from velox.testing.chain import Block, Chain
from velox.testing.rpc.base import Method, MethodGroup
from velox.testing.rpc.params import argument, commitment_of, config_of, hash_of, whole_number
from velox.testing.rpc.transactions import executed_json, max_version, meta_json
from velox.testing.server.jsonrpc import INVALID_PARAMS, refuse
from velox.testing.svm import SLOTS_PER_EPOCH, Execution

__all__ = ["BlockOptions", "LedgerMethods", "block_json", "block_options", "mentions"]

BLOCK_CLEANED_UP, BLOCK_NOT_AVAILABLE, SLOT_SKIPPED = -32001, -32004, -32007
MAX_BLOCKS = 500_000
DETAILS = ("full", "accounts", "signatures", "none")
TRANSACTION_ENCODINGS = ("base58", "base64", "json", "jsonParsed")


@dataclass(frozen=True, slots=True)
class BlockOptions:
    """How a caller wants blocks.

    Attributes
    ----------
    details : str
        One of `DETAILS`.
    encoding : str
        Of the transactions.
    version : int or None
        The highest version of a transaction that the caller understands.
    rewards : bool
    """

    details: str
    encoding: str
    version: int | None
    rewards: bool


def block_options(config: Mapping[str, Any], rewards: str) -> BlockOptions:
    """Return the options of a config; `rewards` is the name of the one for rewards."""
    details = config.get("transactionDetails") or "full"
    if details not in DETAILS:
        raise refuse(INVALID_PARAMS, f"Invalid params: unknown variant `{details}`")
    encoding = "accounts" if details == "accounts" else config.get("encoding") or "json"
    if encoding not in (*TRANSACTION_ENCODINGS, "accounts"):
        raise refuse(INVALID_PARAMS, f"Invalid params: unsupported encoding: {encoding}")
    return BlockOptions(details, encoding, max_version(config), config.get(rewards) is not False)


def mentions(block: Block, key: Pubkey | None) -> list[Execution]:
    """Return the transactions of a block that name an account; all of them for None."""
    return [each for each in block.executions if key is None or key in each.keys]


def block_json(
    chain: Chain, block: Block, options: BlockOptions, key: Pubkey | None = None
) -> dict[str, Any]:
    """Return a block as JSON, with the transactions that name an account; all of them for None.

    Raises
    ------
    RpcError
        A transaction has a version that the caller does not understand.
    """
    before = next((each for each in chain.blocks if each.slot == block.parent_slot), block)
    document: dict[str, Any] = {
        "blockHeight": block.height,
        "blockTime": block.time_s,
        "blockhash": str(block.blockhash),
        "parentSlot": block.parent_slot,
        "previousBlockhash": str(before.blockhash),
    }
    executions = mentions(block, key)
    if options.details == "signatures":
        document["signatures"] = [str(each.signature) for each in executions]
    elif options.details != "none":
        document["transactions"] = [
            {
                **executed_json(each, options.encoding, options.version),
                "meta": meta_json(chain, each, parsed=options.encoding == "jsonParsed"),
            }
            for each in executions
        ]
    if options.rewards:
        document["rewards"] = []
    return document


class LedgerMethods(MethodGroup):
    """Slots, block heights, blockhashes and blocks. The chain keeps its last 512 blocks."""

    def methods(self) -> Mapping[str, Method]:
        return {
            "getBlock": self.get_block,
            "getBlockCommitment": self.get_block_commitment,
            "getBlockHeight": lambda params: self.block(config_of(params, 0)).height,
            "getBlockTime": self.get_block_time,
            "getBlocks": self.get_blocks,
            "getBlocksWithLimit": self.get_blocks_with_limit,
            "getEpochInfo": self.get_epoch_info,
            "getFirstAvailableBlock": lambda params: self.chain.blocks[0].slot,
            "getLatestBlockhash": self.get_latest_blockhash,
            "getMaxRetransmitSlot": lambda params: self.chain.head.slot,
            "getMaxShredInsertSlot": lambda params: self.chain.head.slot,
            "getSlot": lambda params: self.block(config_of(params, 0)).slot,
            "getTransactionCount": self.get_transaction_count,
            "isBlockhashValid": self.is_blockhash_valid,
            "minimumLedgerSlot": lambda params: self.chain.blocks[0].slot,
        }

    def get_latest_blockhash(self, params: list[Any]) -> Any:
        block = self.block(config_of(params, 0))
        last = self.chain.last_valid_height(block.blockhash)
        return self.context(
            {"blockhash": str(block.blockhash), "lastValidBlockHeight": last}, block.slot
        )

    def is_blockhash_valid(self, params: list[Any]) -> Any:
        blockhash = hash_of(argument(params, 0))
        block = self.block(config_of(params, 1))
        last = self.chain.last_valid_height(blockhash)
        return self.context(last is not None and block.height <= last, block.slot)

    def get_epoch_info(self, params: list[Any]) -> Any:
        block = self.block(config_of(params, 0))
        epoch, index = divmod(block.slot, SLOTS_PER_EPOCH)
        return {
            "absoluteSlot": block.slot,
            "blockHeight": block.height,
            "epoch": epoch,
            "slotIndex": index,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": len(self.chain.executions),
        }

    def get_transaction_count(self, params: list[Any]) -> int:
        self.block(config_of(params, 0))
        return len(self.chain.executions)

    def get_block_time(self, params: list[Any]) -> Any:
        return self._at(whole_number(argument(params, 0), "slot")).time_s

    def get_block_commitment(self, params: list[Any]) -> Any:
        whole_number(argument(params, 0), "slot")
        return {"commitment": None, "totalStake": 0}

    def get_blocks(self, params: list[Any]) -> list[int]:
        start = whole_number(argument(params, 0), "start slot")
        given = params[1] if len(params) > 1 else None
        last = self._confirmed(config_of(params, 1 if isinstance(given, dict) else 2)).slot
        end = last
        if given is not None and not isinstance(given, dict):
            end = min(last, whole_number(given, "end slot"))
        if end - start > MAX_BLOCKS:
            raise refuse(INVALID_PARAMS, f"Slot range too large; max {MAX_BLOCKS}")
        return [each.slot for each in self.chain.blocks if start <= each.slot <= end]

    def get_blocks_with_limit(self, params: list[Any]) -> list[int]:
        start = whole_number(argument(params, 0), "start slot")
        count = whole_number(argument(params, 1), "limit")
        if count > MAX_BLOCKS:
            raise refuse(INVALID_PARAMS, f"Limit too large; max {MAX_BLOCKS}")
        last = self._confirmed(config_of(params, 2)).slot
        return [each.slot for each in self.chain.blocks if start <= each.slot <= last][:count]

    def get_block(self, params: list[Any]) -> Any:
        slot = whole_number(argument(params, 0), "slot")
        given = params[1] if len(params) > 1 else None
        # A call may give only the encoding in place of the config.
        config = {"encoding": given} if isinstance(given, str) else config_of(params, 1)
        newest = self._confirmed(config)
        block = self._at(slot)
        if block.height > newest.height:
            raise refuse(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")
        return block_json(self.chain, block, block_options(config, "rewards"))

    def _confirmed(self, config: Mapping[str, Any]) -> Block:
        commitment = commitment_of(config)
        if commitment == "processed":
            raise refuse(INVALID_PARAMS, "Method does not support commitment below `confirmed`")
        return self.reached(config, commitment)

    def _at(self, slot: int) -> Block:
        first = self.chain.blocks[0].slot
        if slot < first:
            raise refuse(
                BLOCK_CLEANED_UP,
                f"Block {slot} cleaned up, does not exist on node. First available block: {first}",
            )
        if slot > self.chain.head.slot:
            raise refuse(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")
        for block in self.chain.blocks:
            if block.slot == slot:
                return block
        raise refuse(
            SLOT_SKIPPED,
            f"Slot {slot} was skipped, or missing due to ledger jump to recent snapshot",
        )
