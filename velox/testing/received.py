"""A transaction in the wire format, as a node receives it."""

from __future__ import annotations

from functools import cached_property

from solders.hash import Hash
from solders.message import Message, MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import SanitizeError, VersionedTransaction

from velox.solana.tx.instructions import SYSTEM_PROGRAM

__all__ = ["Received"]

_ADVANCE_NONCE = (4).to_bytes(4, "little")


class Received:
    """One transaction, as it was received.

    Parameters
    ----------
    raw : bytes
        The signatures and the message.

    Raises
    ------
    ValueError
        The bytes are neither a legacy transaction nor one of version 0.
    """

    def __init__(self, raw: bytes) -> None:
        self.transaction = VersionedTransaction.from_bytes(raw)
        message = self.transaction.message
        if not isinstance(message, Message | MessageV0):
            raise ValueError("unsupported transaction version")
        try:
            self.transaction.sanitize()
        except SanitizeError as error:
            raise ValueError(f"failed to sanitize transaction: {error}") from None
        # Bytes after the message are not part of the transaction.
        self.raw = bytes(self.transaction)
        self.message: Message | MessageV0 = message
        self.signature: Signature = self.transaction.signatures[0]
        self.blockhash: Hash = message.recent_blockhash

    @cached_property
    def message_hash(self) -> Hash:
        return type(self.message).hash_raw_message(to_bytes_versioned(self.message))

    @cached_property
    def verified(self) -> bool:
        """Whether every signature is valid."""
        return all(self.transaction.verify_with_results())

    @property
    def version(self) -> int | str:
        return "legacy" if isinstance(self.message, Message) else 0

    @property
    def written_lookups(self) -> int:
        """How many accounts from lookup tables it may write."""
        if isinstance(self.message, Message):
            return 0
        return sum(len(each.writable_indexes) for each in self.message.address_table_lookups)

    @property
    def advances_nonce(self) -> Pubkey | None:
        """The nonce account, if the first instruction advances one."""
        keys = self.message.account_keys
        for instruction in self.message.instructions[:1]:
            if (
                keys[instruction.program_id_index] == SYSTEM_PROGRAM
                and bytes(instruction.data[:4]) == _ADVANCE_NONCE
                and instruction.accounts
                and instruction.accounts[0] < len(keys)
            ):
                return keys[instruction.accounts[0]]
        return None
