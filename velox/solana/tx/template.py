"""Transactions as they travel: built once, patched in place, signed.

::

    01 | signature 64 | message
                        ... blockhash ... unit price ... tip ... payload ...

Transactions of one shape differ in those four places alone. A `MessageTemplate` has the rest ready
and knows where they lie; what it makes is byte for byte what a full build would. Every transaction
has the same four instructions, in this order: compute limit, compute price, tip (if there is one),
and the carrier's, last, since the chain keeps the last one's answer alone.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import CompileError, MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.errors import RecordError, TransactionTooLargeError
from velox.solana.tx.instructions import (
    Cancel,
    compute_unit_limit,
    compute_unit_price,
    tip_transfer,
)
from velox.solana.tx.message import BLOCKHASH_BYTES, SIGNATURE_BYTES, compact, parse_message
from velox.solana.tx.signer import LAMPORTS_PER_SIGNATURE, Signer, SpendSummary, priority_fee

if TYPE_CHECKING:
    from velox.solana.tx.carrier import Carrier

__all__ = [
    "MAX_TRANSACTION_BYTES",
    "MessageTemplate",
    "TransactionBuilder",
    "WireTransaction",
    "build_transaction",
    "bundle_id",
    "room_for_payload",
]

MAX_TRANSACTION_BYTES: Final = 1232
MAX_BUNDLE_TRANSACTIONS: Final = 5

_U64 = struct.Struct("<Q")
_ONE_SIGNATURE_BYTES = 1 + SIGNATURE_BYTES
# Stands for any other account where only the length counts.
_ANY_TIP_ACCOUNT = Pubkey(b"\x01" * 32)


@dataclass(frozen=True, slots=True)
class WireTransaction:
    """A signed transaction, ready to be sent, and resent, as it is.

    Attributes
    ----------
    raw : bytes
        Signatures and message, at most `MAX_TRANSACTION_BYTES`.
    signature : Signature
        The first; the transaction's name.
    blockhash : Hash
    last_valid_block_height : int
        The chain takes it up to this block height.
    """

    raw: bytes = field(repr=False)
    signature: Signature
    blockhash: Hash
    last_valid_block_height: int


def bundle_id(signatures: Iterable[Signature]) -> str:
    """Return the id that a block engine will give the transactions that these signatures name.

    Parameters
    ----------
    signatures : iterable of Signature
        The first of each transaction, in the bundle's order.

    Returns
    -------
    str
        64 hexadecimal digits: the SHA-256 of the signatures in base 58, joined by commas.
    """
    return hashlib.sha256(",".join(map(str, signatures)).encode()).hexdigest()


def build_transaction(
    instructions: Sequence[Instruction],
    payer: Signer,
    *cosigners: Signer,
    blockhash: Hash,
    last_valid_block_height: int,
) -> WireTransaction:
    """Build and sign a transaction of any instructions: the slow way, for what is rarely sent.

    Parameters
    ----------
    instructions : sequence of Instruction
    payer : Signer
        Pays the fees.
    *cosigners : Signer
        The others that the instructions ask to sign; each is asked about all that is spent.
    blockhash : Hash
    last_valid_block_height : int

    Raises
    ------
    TransactionTooLargeError
        It is over `MAX_TRANSACTION_BYTES`, or names too many accounts.
    RecordError
        The signers are not those that the instructions ask for.
    SpendRefusedError
        A signer refuses.
    """
    message = _compile(payer.pubkey, instructions, blockhash)
    parsed = parse_message(message)
    _check_bytes(
        len(compact(parsed.signatures)) + parsed.signatures * SIGNATURE_BYTES + len(message)
    )
    signers = {bytes(each.pubkey): each for each in (payer, *cosigners)}
    needed = parsed.keys[: parsed.signatures]
    if set(signers) != set(needed):
        raise RecordError(
            f"signed by {_names(signers)}, where {_names(needed)} must", field="cosigners"
        )
    summary = SpendSummary.of(message)
    signatures = [signers[key].sign(message, summary) for key in needed]
    raw = b"".join([compact(len(signatures)), *map(bytes, signatures), message])
    return WireTransaction(raw, signatures[0], blockhash, last_valid_block_height)


def _names(keys: Iterable[bytes]) -> str:
    return ", ".join(sorted(str(Pubkey(key)) for key in keys))


def _compile(payer: Pubkey, instructions: Sequence[Instruction], blockhash: Hash) -> bytes:
    try:
        return to_bytes_versioned(MessageV0.try_compile(payer, instructions, [], blockhash))
    except CompileError:
        pass
    accounts = {payer, *(each.program_id for each in instructions)}
    accounts.update(meta.pubkey for each in instructions for meta in each.accounts)
    raise TransactionTooLargeError(len(accounts), 256, "accounts")


def _check_bytes(size: int) -> None:
    if size > MAX_TRANSACTION_BYTES:
        raise TransactionTooLargeError(size, MAX_TRANSACTION_BYTES)


def _frame(
    payer: Pubkey,
    instruction: Instruction,
    *,
    compute_units: int,
    unit_price: int,
    tip_account: Pubkey | None,
    tip_lamports: int,
    dont_front: bool,
) -> list[Instruction]:
    """The instructions of a transaction, around the carrier's."""
    tips = []
    if tip_account is not None:
        tips.append(tip_transfer(payer, tip_account, tip_lamports, dont_front=dont_front))
    return [
        compute_unit_limit(compute_units),
        compute_unit_price(unit_price),
        *tips,
        instruction,
    ]


def room_for_payload(payer: Pubkey, instruction: Instruction) -> int:
    """Return how many bytes of data an instruction of these accounts may have.

    Parameters
    ----------
    payer : Pubkey
    instruction : Instruction
        The carrier's. Its data is not counted; the tip and `DONT_FRONT` are, since there may be
        both.
    """
    empty = Instruction(instruction.program_id, b"", instruction.accounts)
    frame = _frame(
        payer,
        empty,
        compute_units=0,
        unit_price=0,
        tip_account=_ANY_TIP_ACCOUNT,
        tip_lamports=0,
        dont_front=True,
    )
    size = _ONE_SIGNATURE_BYTES + len(_compile(payer, frame, Hash.default()))
    # The length of no data takes one byte, that of a full payload two.
    return MAX_TRANSACTION_BYTES - size - 1


class MessageTemplate:
    """The message of every transaction of one shape, and where they differ.

    For one thread at a time.

    Parameters
    ----------
    carrier : Carrier
    payer : Pubkey
        Pays, trades and signs.
    orders : int
        How many orders it carries.
    cancels, hinted : int
        How many prepared cancels, and how many of those have a hint.
    tip_account : Pubkey or None
        Whom it tips; None for nobody.
    dont_front : bool
        See `tip_transfer`.
    compute_units : int or None
        The compute limit; None for what the carrier estimates.

    Attributes
    ----------
    size : int
        Bytes of the transaction, with its signature.

    Raises
    ------
    TransactionTooLargeError
        It is over `MAX_TRANSACTION_BYTES`, or over the chain's limit of compute units.
    RecordError
        The carrier does not carry such a shape.
    """

    __slots__ = (
        "_blockhash",
        "_blockhash_at",
        "_last_valid_block_height",
        "_message",
        "_payload_at",
        "_payload_end",
        "_price_at",
        "_summary",
        "_tip_at",
        "_units",
        "carrier",
        "payer",
        "size",
    )

    def __init__(
        self,
        carrier: Carrier,
        payer: Pubkey,
        *,
        orders: int,
        cancels: int = 0,
        hinted: int = 0,
        tip_account: Pubkey | None = None,
        dont_front: bool = False,
        compute_units: int | None = None,
    ) -> None:
        self.carrier = carrier
        self.payer = payer
        self._units = (
            carrier.compute_units(orders, cancels) if compute_units is None else compute_units
        )
        payload = bytes(carrier.payload_bytes(orders, cancels, hinted))
        instructions = _frame(
            payer,
            carrier.instruction(payer, payload),
            compute_units=self._units,
            unit_price=0,
            tip_account=tip_account,
            tip_lamports=0,
            dont_front=dont_front,
        )
        message = _compile(payer, instructions, Hash.default())
        self.size = _ONE_SIGNATURE_BYTES + len(message)
        _check_bytes(self.size)
        self._message = bytearray(message)
        parsed = parse_message(message)
        if parsed.signatures != 1:
            raise RecordError(f"{carrier.name} asks for {parsed.signatures} signatures, not one")
        _, price, *tip, (_, self._payload_at, self._payload_end) = parsed.instructions
        self._blockhash_at = parsed.blockhash_at
        # After the tags: one byte in ComputeBudget's data, four in System's.
        self._price_at = price[1] + 1
        self._tip_at = tip[0][1] + 4 if tip else None
        self._blockhash: Hash | None = None
        self._last_valid_block_height = 0
        self._summary = SpendSummary(0)

    def patch(
        self,
        orders: npt.NDArray[np.void],
        cancels: Sequence[Cancel] = (),
        *,
        blockhash: Hash,
        last_valid_block_height: int,
        tip_lamports: int = 0,
        last_valid_slot: int = 0,
        unit_price: int = 0,
    ) -> None:
        """Write a transaction's own parts into the message. An error leaves it as it was.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)
            As many as the template has room for.
        cancels : sequence of Cancel
            Likewise.
        blockhash : Hash
        last_valid_block_height : int
            Of `blockhash`.
        tip_lamports : int
            0 where nobody is tipped.
        last_valid_slot : int
            The orders die after this slot; 0 for never.
        unit_price : int
            Millionths of a lamport that are offered for a compute unit, u64.

        Raises
        ------
        RecordError
            The shape is another, or a number does not fit its field.
        UnrepresentableError
            The market's format does not hold a price or a size exactly.
        """
        payload = self.carrier.payload(orders, cancels, last_valid_slot)
        if len(payload) != self._payload_end - self._payload_at:
            raise RecordError(
                f"{len(orders)} orders and {len(cancels)} cancels make {len(payload)} bytes, "
                f"where the template has {self._payload_end - self._payload_at}",
                field="orders",
            )
        if not 0 <= unit_price < 2**64:
            raise RecordError(f"unit_price = {unit_price}: must fit 64 bits", field="unit_price")
        if not 0 <= tip_lamports < 2**64:
            raise RecordError(
                f"tip_lamports = {tip_lamports}: must fit 64 bits", field="tip_lamports"
            )
        if tip_lamports and self._tip_at is None:
            raise RecordError(
                f"tip_lamports = {tip_lamports}, but the template tips nobody",
                field="tip_lamports",
            )
        recent = bytes(blockhash)
        if len(recent) != BLOCKHASH_BYTES:
            raise RecordError(f"a blockhash of {len(recent)} bytes", field="blockhash")
        # Nothing fails from here on.
        message = self._message
        if self._tip_at is not None:
            _U64.pack_into(message, self._tip_at, tip_lamports)
        _U64.pack_into(message, self._price_at, unit_price)
        message[self._payload_at : self._payload_end] = payload
        message[self._blockhash_at : self._blockhash_at + BLOCKHASH_BYTES] = recent
        self._blockhash = blockhash
        self._last_valid_block_height = last_valid_block_height
        self._summary = SpendSummary(
            LAMPORTS_PER_SIGNATURE + priority_fee(self._units, unit_price), tip_lamports
        )

    def sign(self, signer: Signer) -> WireTransaction:
        """Sign the message as it stands.

        Raises
        ------
        RecordError
            Nothing was patched yet, or `signer` is not the payer.
        SpendRefusedError
            `signer` refuses.
        """
        if self._blockhash is None:
            raise RecordError("a template that was not patched", field="blockhash")
        if signer.pubkey != self.payer:
            raise RecordError(f"{signer.pubkey} is not the payer {self.payer}", field="payer")
        message = bytes(self._message)
        signature = signer.sign(message, self._summary)
        return WireTransaction(
            b"\x01" + bytes(signature) + message,
            signature,
            self._blockhash,
            self._last_valid_block_height,
        )


class TransactionBuilder:
    """Bundles to signed transactions, by templates that are kept.

    For one thread at a time.

    Parameters
    ----------
    carrier : Carrier
    signer : Signer
        Pays, trades and signs.
    dont_front : bool
        See `tip_transfer`; of use where there is a tip.
    templates : int
        How many shapes to keep; those last used longest ago go first.
    """

    __slots__ = ("_dont_front", "_kept", "_templates", "carrier", "signer")

    def __init__(
        self, carrier: Carrier, signer: Signer, *, dont_front: bool = True, templates: int = 256
    ) -> None:
        self.carrier = carrier
        self.signer = signer
        self._dont_front = dont_front
        self._templates = templates
        self._kept: OrderedDict[tuple[Any, ...], MessageTemplate] = OrderedDict()

    def build(
        self,
        orders: npt.NDArray[np.void],
        cancels: Sequence[Cancel] = (),
        *,
        blockhash: Hash,
        last_valid_block_height: int,
        tip_account: Pubkey | None = None,
        tip_lamports: int = 0,
        last_valid_slot: int = 0,
        unit_price: int = 0,
    ) -> WireTransaction:
        """Return a signed transaction: `MessageTemplate.patch`, then `MessageTemplate.sign`.

        Raises
        ------
        TransactionTooLargeError
            The orders do not fit one transaction.
        RecordError, UnrepresentableError, SpendRefusedError
            As those two.
        """
        hinted = sum([each.hint is not None for each in cancels])
        shape = (len(orders), len(cancels), hinted, tip_account)
        template = self._kept.get(shape)
        if template is None:
            template = self._kept[shape] = MessageTemplate(
                self.carrier,
                self.signer.pubkey,
                orders=len(orders),
                cancels=len(cancels),
                hinted=hinted,
                tip_account=tip_account,
                dont_front=self._dont_front,
            )
            if len(self._kept) > self._templates:
                self._kept.popitem(last=False)
        self._kept.move_to_end(shape)
        template.patch(
            orders,
            cancels,
            blockhash=blockhash,
            last_valid_block_height=last_valid_block_height,
            tip_lamports=tip_lamports,
            last_valid_slot=last_valid_slot,
            unit_price=unit_price,
        )
        return template.sign(self.signer)
