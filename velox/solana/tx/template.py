"""Transactions in the wire format: built once, patched in place, signed.

::

    01 | signature 64 | message
                        ... blockhash ... units ... unit price ... tip ... payload ...

Transactions of one shape differ only in those five places. A `MessageTemplate` holds the other
bytes and knows the five offsets. Its output is byte for byte that of a full build.

Every transaction has the same instructions in this order: compute limit, compute price, tip (if
any), and the carrier's. The carrier's is last, because the chain keeps only the return data of the
last instruction.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import CompileError, MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.core.integers import UINT64_MAX
from velox.errors import RecordError, TransactionTooLargeError
from velox.solana.tx.carrier import Cancel, Carrier
from velox.solana.tx.instructions import (
    check_compute_units,
    compute_unit_limit,
    compute_unit_price,
    tip_transfer,
)
from velox.solana.tx.limits import LAMPORTS_PER_SIGNATURE, MAX_TRANSACTION_BYTES
from velox.solana.tx.message import BLOCKHASH_BYTES, SIGNATURE_BYTES, compact, parse_message
from velox.solana.tx.signer import Signer
from velox.solana.tx.spend import SpendSummary, priority_fee

__all__ = [
    "MessageTemplate",
    "TransactionBuilder",
    "WireTransaction",
    "build_transaction",
    "bundle_id",
    "room_for_payload",
    "unsigned_transaction",
]

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_ONE_SIGNATURE_BYTES = 1 + SIGNATURE_BYTES
# Stands for any tip account, where only the length of the message matters.
_ANY_TIP_ACCOUNT = Pubkey(b"\x01" * 32)


@dataclass(frozen=True, slots=True)
class WireTransaction:
    """A signed transaction, ready to send and resend.

    Attributes
    ----------
    raw : bytes
        Signatures and message, at most `MAX_TRANSACTION_BYTES`.
    signature : Signature
        The first signature, which identifies the transaction.
    blockhash : Hash
    last_valid_block_height : int
        The transaction can land up to this block height.
    spend : SpendSummary
        The fee and the tip that it pays.
    compute_units : int
        Its compute limit; 0 if it was built without a template.
    """

    raw: bytes = field(repr=False)
    signature: Signature
    blockhash: Hash
    last_valid_block_height: int
    spend: SpendSummary
    compute_units: int = 0


def bundle_id(signatures: Iterable[Signature]) -> str:
    """Return the id that a block engine gives to a bundle.

    Parameters
    ----------
    signatures : iterable of Signature
        The first signature of each transaction, in the bundle's order.

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
    """Build and sign a transaction of any instructions, without a template.

    Parameters
    ----------
    instructions : sequence of Instruction
    payer : Signer
        Pays the fees.
    *cosigners : Signer
        The other signers that the instructions need. Each checks the whole spend.
    blockhash : Hash
    last_valid_block_height : int

    Raises
    ------
    TransactionTooLargeError
        It is over `MAX_TRANSACTION_BYTES`, or names too many accounts.
    RecordError
        The signers are not those that the instructions need.
    SpendRefusedError
        A signer refuses the transaction.
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
            f"cosigners: signed by {_names(signers)}; needed are {_names(needed)}",
            field="cosigners",
        )
    summary = SpendSummary.of(message)
    signatures = [signers[key].sign(message, summary) for key in needed]
    raw = b"".join([compact(len(signatures)), *map(bytes, signatures), message])
    return WireTransaction(raw, signatures[0], blockhash, last_valid_block_height, summary)


def unsigned_transaction(
    instructions: Sequence[Instruction], payer: Pubkey, blockhash: Hash
) -> bytes:
    """Return a transaction of any instructions with signatures of zeros, for a simulation.

    Raises
    ------
    TransactionTooLargeError
        It is over `MAX_TRANSACTION_BYTES`, or names too many accounts.
    """
    message = _compile(payer, instructions, blockhash)
    count = parse_message(message).signatures
    raw = compact(count) + bytes(count * SIGNATURE_BYTES) + message
    _check_bytes(len(raw))
    return raw


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
    """Return the instructions of a transaction around the carrier's."""
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
    """Return how many bytes of data the carrier's instruction can have.

    Parameters
    ----------
    payer : Pubkey
    instruction : Instruction
        The carrier's instruction. Its accounts are counted; its data is ignored. Room for a tip and
        for `DONT_FRONT` is always kept.
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
    # The length prefix of empty data has one byte, that of a full payload two.
    return MAX_TRANSACTION_BYTES - size - 1


class MessageTemplate:
    """The message that all transactions of one shape share, and the offsets where they differ.

    Thread-safety: one thread at a time.

    Parameters
    ----------
    carrier : Carrier
    payer : Pubkey
        Pays, trades and signs.
    orders : int
        How many orders a transaction carries.
    cancels, hinted : int
        How many `Cancel`s, and how many of them have a hint.
    tip_account : Pubkey or None
        The account that gets the tip; None for no tip.
    dont_front : bool
        See `tip_transfer`.
    compute_units : int or None
        The compute limit; None for the carrier's estimate.

    Attributes
    ----------
    size : int
        The length of the transaction with its signature, in bytes.

    Raises
    ------
    TransactionTooLargeError
        It is over `MAX_TRANSACTION_BYTES`, or over the chain's limit of compute units.
    RecordError
        The carrier cannot carry this shape.
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
        "_units_at",
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
            raise RecordError(
                f"carrier {carrier.name}: needs {parsed.signatures} signatures; must be one",
                field="carrier",
            )
        units, price, *tip, (_, self._payload_at, self._payload_end) = parsed.instructions
        self._blockhash_at = parsed.blockhash_at
        # The offsets after the tags: one byte in the data of ComputeBudget, four in that of System.
        self._units_at = units[1] + 1
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
        compute_units: int | None = None,
    ) -> None:
        """Write the parts of one transaction into the message. An error changes nothing.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)
            Exactly as many as the template's shape has.
        cancels : sequence of Cancel
            Exactly as many, and as many with hints, as the shape has.
        blockhash : Hash
        last_valid_block_height : int
            The last block height at which `blockhash` is valid.
        tip_lamports : int
            0 if the template has no tip account.
        last_valid_slot : int
            The orders expire after this slot; 0 for never.
        unit_price : int
            Millionths of a lamport for each compute unit, u64.
        compute_units : int or None
            The compute limit of this transaction; None for the last one, or the template's own.

        Raises
        ------
        TransactionTooLargeError
            The chain allows fewer compute units.
        RecordError
            The shape is another, or a number does not fit its field. `field` says which.
        UnrepresentableError
            The market's format cannot hold a price or a size exactly.
        """
        payload = self.carrier.payload(orders, cancels, last_valid_slot)
        if len(payload) != self._payload_end - self._payload_at:
            raise RecordError(
                f"{len(orders)} orders and {len(cancels)} cancels take {len(payload)} bytes; "
                f"the template has {self._payload_end - self._payload_at}",
                field="orders",
            )
        if not 0 <= unit_price <= UINT64_MAX:
            raise RecordError(f"unit_price = {unit_price}: must fit 64 bits", field="unit_price")
        if not 0 <= tip_lamports <= UINT64_MAX:
            raise RecordError(
                f"tip_lamports = {tip_lamports}: must fit 64 bits", field="tip_lamports"
            )
        if tip_lamports and self._tip_at is None:
            raise RecordError(
                f"tip_lamports = {tip_lamports}: the template has no tip account",
                field="tip_lamports",
            )
        if compute_units is None:
            compute_units = self._units
        check_compute_units(compute_units)
        recent = bytes(blockhash)
        if len(recent) != BLOCKHASH_BYTES:
            raise RecordError(f"blockhash: has {len(recent)} bytes", field="blockhash")
        # Nothing fails from here on.
        message = self._message
        if self._tip_at is not None:
            _U64.pack_into(message, self._tip_at, tip_lamports)
        self._units = compute_units
        _U32.pack_into(message, self._units_at, compute_units)
        _U64.pack_into(message, self._price_at, unit_price)
        message[self._payload_at : self._payload_end] = payload
        message[self._blockhash_at : self._blockhash_at + BLOCKHASH_BYTES] = recent
        self._blockhash = blockhash
        self._last_valid_block_height = last_valid_block_height
        self._summary = SpendSummary(
            LAMPORTS_PER_SIGNATURE + priority_fee(self._units, unit_price), tip_lamports
        )

    def sign(self, signer: Signer) -> WireTransaction:
        """Sign the message in its present state.

        Raises
        ------
        RecordError
            The template was never patched, or `signer` is not the payer.
        SpendRefusedError
            `signer` refuses the message.
        """
        if self._blockhash is None:
            raise RecordError(
                "sign: the template has no blockhash: patch it first", field="blockhash"
            )
        if signer.pubkey != self.payer:
            raise RecordError(f"signer {signer.pubkey}: the payer is {self.payer}", field="payer")
        message = bytes(self._message)
        signature = signer.sign(message, self._summary)
        return WireTransaction(
            b"\x01" + bytes(signature) + message,
            signature,
            self._blockhash,
            self._last_valid_block_height,
            self._summary,
            self._units,
        )

    def unsigned(self) -> bytes:
        """Return the transaction with a signature of zeros, for a simulation."""
        return b"\x01" + bytes(SIGNATURE_BYTES) + bytes(self._message)


class TransactionBuilder:
    """Turns orders into signed transactions, with a cache of templates.

    Thread-safety: one thread at a time.

    Parameters
    ----------
    carrier : Carrier
    signer : Signer
        Pays, trades and signs.
    dont_front : bool
        See `tip_transfer`; it has an effect only if there is a tip.
    templates : int
        How many shapes to cache; the least recently used are dropped.

    Attributes
    ----------
    max_payload_bytes : int
        Bytes of instruction data that fit a transaction with a tip that names `DONT_FRONT`.
    """

    __slots__ = ("_dont_front", "_kept", "_templates", "carrier", "max_payload_bytes", "signer")

    def __init__(
        self, carrier: Carrier, signer: Signer, *, dont_front: bool = True, templates: int = 256
    ) -> None:
        self.carrier = carrier
        self.signer = signer
        empty = carrier.instruction(signer.pubkey, b"")
        self.max_payload_bytes = room_for_payload(signer.pubkey, empty)
        self._dont_front = dont_front
        self._templates = templates
        self._kept: OrderedDict[tuple[Any, ...], MessageTemplate] = OrderedDict()

    @property
    def max_orders(self) -> int:
        """int: How many orders, without cancels, fit one transaction."""
        first = self.carrier.payload_bytes(1)
        return 1 + (self.max_payload_bytes - first) // (self.carrier.payload_bytes(2) - first)

    def fits(self, orders: int, cancels: int = 0, hinted: int = 0) -> bool:
        """Return whether one transaction holds so many, with a tip that names `DONT_FRONT`."""
        return self.carrier.payload_bytes(orders, cancels, hinted) <= self.max_payload_bytes

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
        compute_units: int | None = None,
    ) -> WireTransaction:
        """Return a signed transaction: `MessageTemplate.patch`, then `MessageTemplate.sign`.

        Without `compute_units`, the limit is the carrier's estimate for the shape.

        Raises
        ------
        TransactionTooLargeError
            The orders do not fit one transaction.
        RecordError, UnrepresentableError, SpendRefusedError
            The same errors as those two methods.
        """
        template = self.patched(
            orders,
            cancels,
            blockhash=blockhash,
            last_valid_block_height=last_valid_block_height,
            tip_account=tip_account,
            tip_lamports=tip_lamports,
            last_valid_slot=last_valid_slot,
            unit_price=unit_price,
            compute_units=compute_units,
        )
        return template.sign(self.signer)

    def patched(
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
        compute_units: int | None = None,
    ) -> MessageTemplate:
        """Return a cached template that holds this transaction, not signed yet.

        Raises
        ------
        TransactionTooLargeError, RecordError, UnrepresentableError
            As `build`.
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
        if compute_units is None:
            compute_units = self.carrier.compute_units(len(orders), len(cancels))
        template.patch(
            orders,
            cancels,
            blockhash=blockhash,
            last_valid_block_height=last_valid_block_height,
            tip_lamports=tip_lamports,
            last_valid_slot=last_valid_slot,
            unit_price=unit_price,
            compute_units=compute_units,
        )
        return template
