"""The answers of a Solana node, as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.errors import ConfigError

__all__ = [
    "Account",
    "Blockhash",
    "Commitment",
    "OutcomeCommitment",
    "SignatureInfo",
    "SignatureStatus",
    "Simulation",
    "TransactionInfo",
    "first_signature",
]

Commitment = Literal["processed", "confirmed", "finalized"]
# The commitments at which an outcome counts.
OutcomeCommitment = Literal["confirmed", "finalized"]


@dataclass(frozen=True, slots=True)
class Blockhash:
    """A recent blockhash.

    Attributes
    ----------
    hash : solders.hash.Hash
        The hash.
    last_valid_block_height : int
        A transaction with this blockhash can land up to this block height.
    slot : int
        The slot at which the node answered.
    """

    hash: Hash
    last_valid_block_height: int
    slot: int


@dataclass(frozen=True, slots=True)
class SignatureInfo:
    """A transaction that named an account.

    Attributes
    ----------
    signature : solders.signature.Signature
        Its first signature.
    slot : int
        The slot in which it was executed.
    failed : bool
        Whether it failed.
    """

    signature: Signature
    slot: int
    failed: bool


@dataclass(frozen=True, slots=True)
class SignatureStatus:
    """The status of a transaction.

    Attributes
    ----------
    slot : int
        The slot in which it was executed.
    confirmations : int or None
        How many blocks are on top of it; None once it is finalized.
    err : object or None
        None if it succeeded; otherwise the error, as JSON.
    confirmation_status : {"processed", "confirmed", "finalized"}
        The commitment that it has reached.
    """

    slot: int
    confirmations: int | None
    err: object | None
    confirmation_status: Commitment


@dataclass(frozen=True, slots=True)
class Simulation:
    """The outcome of a simulated transaction.

    Attributes
    ----------
    err : object or None
        None if it would succeed; otherwise the error, as JSON.
    logs : tuple of str
        The log lines of its programs.
    units_consumed : int or None
        Compute units; None if the node does not say.
    return_data : bytes or None
        The return data of the last program that set any.
    slot : int
        The slot in which it was simulated.
    """

    err: object | None
    logs: tuple[str, ...]
    units_consumed: int | None
    return_data: bytes | None
    slot: int


@dataclass(frozen=True, slots=True)
class TransactionInfo:
    """An executed transaction, as the ledger stores it.

    Attributes
    ----------
    slot : int
        The slot in which it was executed.
    err : object or None
        None if it succeeded; otherwise the error, as JSON.
    fee : int
        Lamports. A failed transaction pays them as well.
    logs : tuple of str or None
        The log lines of its programs; None if the node keeps none.
    units_consumed : int or None
        Compute units; None if the node does not say.
    return_data : bytes or None
        The return data of the last program that set any.
    paid : int or None
        The lamports that its payer had less afterwards: fee, transfers and rent. None if the node
        does not say.
    """

    slot: int
    err: object | None
    fee: int
    logs: tuple[str, ...] | None
    units_consumed: int | None
    return_data: bytes | None
    paid: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An account at one slot.

    Attributes
    ----------
    lamports : int
        Its balance.
    owner : solders.pubkey.Pubkey
        The program that owns it.
    data : bytes
        Its content.
    executable : bool
        Whether it is a program.
    slot : int
        The slot at which the node read it.
    """

    lamports: int
    owner: Pubkey
    data: bytes
    executable: bool
    slot: int


def first_signature(transaction: bytes) -> Signature:
    """Return the first signature of a transaction, by which the chain identifies it.

    Parameters
    ----------
    transaction : bytes
        A signed transaction in the wire format.

    Raises
    ------
    ConfigError
        The bytes hold no signature.
    """
    if len(transaction) < 65 or not 1 <= transaction[0] <= 127:
        raise ConfigError(f"transaction: {len(transaction)} bytes that hold no signature")
    return Signature.from_bytes(transaction[1:65])
