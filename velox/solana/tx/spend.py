"""Reads the spend of a transaction from its bytes, and defines the policy that limits it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from solders.pubkey import Pubkey

from velox.errors import ConfigError, SpendRefusedError
from velox.solana.tx.instructions import COMPUTE_BUDGET_PROGRAM, SYSTEM_PROGRAM
from velox.solana.tx.limits import LAMPORTS_PER_SIGNATURE, MAX_COMPUTE_UNITS
from velox.solana.tx.message import parse_message

__all__ = ["SignerPolicy", "SpendSummary", "priority_fee", "read_spend"]

_COMPUTE_BUDGET = bytes(COMPUTE_BUDGET_PROGRAM)
_SYSTEM = bytes(SYSTEM_PROGRAM)
# The compute limit of an instruction in a transaction that sets none.
_DEFAULT_UNITS = 200_000

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
# The System instructions whose cost can be read from their bytes.
_CREATE_ACCOUNT, _TRANSFER, _ADVANCE_NONCE = 0, 2, 4
_CREATE_ACCOUNT_BYTES, _TRANSFER_BYTES, _ADVANCE_NONCE_BYTES = 52, 12, 4
# The instructions of ComputeBudget.
_HEAP, _UNIT_LIMIT, _UNIT_PRICE, _LOADED_BYTES = 1, 2, 3, 4

# Each signature that a precompile checks costs a fee of its own.
_PRECOMPILES = frozenset(
    map(
        Pubkey.from_string,
        (
            "Ed25519SigVerify111111111111111111111111111",
            "KeccakSecp256k11111111111111111111111111111",
            "Secp256r1SigVerify1111111111111111111111111",
        ),
    )
)


class SpendSummary(NamedTuple):
    """The spend of a transaction, in lamports.

    The message does not show what a program takes by itself. The policy of a signer knows the most
    rent that an instruction may take; see `SignerPolicy`.

    Attributes
    ----------
    fee_lamports : int
        Signature fees and priority fee. A failed transaction pays them as well.
    tip_lamports : int
        The sum of its System transfers.
    deposit_lamports : int
        The initial balances of the accounts that it creates.
    """

    fee_lamports: int
    tip_lamports: int = 0
    deposit_lamports: int = 0

    @property
    def total(self) -> int:
        """The sum of the three."""
        return self.fee_lamports + self.tip_lamports + self.deposit_lamports

    @classmethod
    def of(cls, message: bytes) -> Self:
        """Read the summary from a message.

        Raises
        ------
        RecordError
            The bytes are not a message of version 0.
        SpendRefusedError
            The bytes of an instruction do not show its cost.
        """
        return cls(*read_spend(message)[1])


def priority_fee(units: int, micro_lamports: int) -> int:
    """Return the fee of a compute limit at a unit price, in lamports; the chain rounds up.

    Parameters
    ----------
    units : int
        The compute limit.
    micro_lamports : int
        Millionths of a lamport for each unit.
    """
    return -(-units * micro_lamports // 1_000_000)


def read_spend(message: bytes) -> tuple[set[bytes], SpendSummary]:
    """Return the programs that a message calls, and what it spends.

    ComputeBudget and System are not among the programs: their instructions are all accounted for.

    Raises
    ------
    RecordError
        The bytes are not a message of version 0.
    SpendRefusedError
        The bytes of an instruction do not show its cost.
    """
    parsed = parse_message(message)
    programs = set()
    units: int | None = None
    price = tips = deposits = others = 0
    for program, start, end in parsed.instructions:
        if program == _COMPUTE_BUDGET:
            tag = message[start] if start < end else None
            if tag == _UNIT_LIMIT and end - start == 5:
                (units,) = _U32.unpack_from(message, start + 1)
            elif tag == _UNIT_PRICE and end - start == 9:
                (price,) = _U64.unpack_from(message, start + 1)
            elif tag not in {_HEAP, _LOADED_BYTES}:
                raise _unknown_cost("ComputeBudget", tag)
            continue
        others += 1
        if program == _SYSTEM:
            tag = _U32.unpack_from(message, start)[0] if end - start >= 4 else None
            if tag == _TRANSFER and end - start == _TRANSFER_BYTES:
                tips += _U64.unpack_from(message, start + 4)[0]
            elif tag == _CREATE_ACCOUNT and end - start == _CREATE_ACCOUNT_BYTES:
                deposits += _U64.unpack_from(message, start + 4)[0]
            elif not (tag == _ADVANCE_NONCE and end - start == _ADVANCE_NONCE_BYTES):
                raise _unknown_cost("System", tag)
        else:
            programs.add(program)
    fee = LAMPORTS_PER_SIGNATURE * parsed.signatures
    if price:
        if units is None:
            units = _DEFAULT_UNITS * others
        fee += priority_fee(min(units, MAX_COMPUTE_UNITS), price)
    return programs, SpendSummary(fee, tips, deposits)


def _unknown_cost(program: str, tag: int | None) -> SpendRefusedError:
    return SpendRefusedError(
        "programs", f"the cost of instruction {tag} of {program} is not known", value=tag
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerPolicy:
    """What a signer may spend, and on which programs.

    Attributes
    ----------
    programs : frozenset of Pubkey
        The programs that a transaction may call, beside ComputeBudget and System. The policy does
        not see what these programs do by themselves.
    max_tip_lamports : int
        The most that one transaction may transfer.
    max_spend_lamports_per_minute : int
        The most for fees, tips, transfers, new accounts and rent together, in any 60 s. What was
        signed counts, even if it was never sent, until its cost is known.
    rents : mapping of Pubkey to callable
        For each program, a function from the data of an instruction to the most lamports that it
        may take from the payer, such as rent for an account that grows. They count when a
        transaction is signed, and are replaced by what it cost once that is known.
    cancels : mapping of Pubkey to callable
        For each program, a function that returns whether the data of an instruction cancels orders
        and does nothing else, as `Carrier.only_cancels` does. A killed signer still signs these.

    Raises
    ------
    ConfigError
        `programs` is not a frozenset of keys, or a limit is not a whole number of lamports.
    """

    programs: frozenset[Pubkey]
    max_tip_lamports: int
    max_spend_lamports_per_minute: int
    cancels: Mapping[Pubkey, Callable[[bytes], bool]] = field(
        default_factory=dict, compare=False, repr=False
    )
    rents: Mapping[Pubkey, Callable[[bytes], int]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        if not isinstance(self.programs, frozenset) or not all(
            isinstance(each, Pubkey) for each in self.programs
        ):
            raise ConfigError(f"programs = {self.programs!r}: must be a frozenset of keys")
        if not self.programs.isdisjoint(_PRECOMPILES):
            raise ConfigError("programs: fees of precompiled signature checks are not counted")
        for name in ("max_tip_lamports", "max_spend_lamports_per_minute"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name} = {value!r}: must be lamports, 0 or more")
