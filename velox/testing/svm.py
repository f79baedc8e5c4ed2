"""One Solana virtual machine, and what a validator does around it to run a transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from solders.account import Account
from solders.clock import Clock
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import SanitizeError, VersionedTransaction
from solders.transaction_metadata import (
    FailedTransactionMetadata,
    SimulatedTransactionInfo,
    TransactionMetadata,
)

from velox.errors import LocalnetError
from velox.solana.files import read_regular

__all__ = [
    "MAX_ACCOUNT_LOCKS",
    "MAX_TRANSACTION_BYTES",
    "Execution",
    "Received",
    "Simulation",
    "Svm",
    "describe",
]

# An IPv6 packet that no router splits, less its headers.
MAX_TRANSACTION_BYTES = 1232
MAX_ACCOUNT_LOCKS = 64

SYSTEM_PROGRAM = Pubkey.default()
ADVANCE_NONCE = (4).to_bytes(4, "little")
# Of a nonce account's data: version u32, state u32, authority, then the nonce itself.
NONCE = slice(40, 72)
LOOKUP_TABLE_META_BYTES = 56
SLOTS_PER_EPOCH = 432_000


class Received:
    """One transaction as it came over the wire.

    Parameters
    ----------
    raw : bytes
        The signatures and the message.

    Raises
    ------
    ValueError
        The bytes are no transaction of version 0 or before it.
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
        # What came after the message is not part of it.
        self.raw = bytes(self.transaction)
        self.message: Message | MessageV0 = message
        self.signature: Signature = self.transaction.signatures[0]
        self.blockhash: Hash = message.recent_blockhash

    @cached_property
    def message_hash(self) -> Hash:
        return type(self.message).hash_raw_message(to_bytes_versioned(self.message))

    @cached_property
    def verified(self) -> bool:
        """Whether every signature is its signer's."""
        return all(self.transaction.verify_with_results())

    @property
    def version(self) -> int | str:
        return "legacy" if isinstance(self.message, Message) else 0

    @property
    def written_lookups(self) -> int:
        """How many of the accounts from lookup tables it may write."""
        if isinstance(self.message, Message):
            return 0
        return sum(len(each.writable_indexes) for each in self.message.address_table_lookups)

    @property
    def advances_nonce(self) -> Pubkey | None:
        """The nonce account, where the first instruction advances one."""
        keys = self.message.account_keys
        for instruction in self.message.instructions[:1]:
            if (
                keys[instruction.program_id_index] == SYSTEM_PROGRAM
                and bytes(instruction.data[:4]) == ADVANCE_NONCE
                and instruction.accounts
                and instruction.accounts[0] < len(keys)
            ):
                return keys[instruction.accounts[0]]
        return None


@dataclass(frozen=True, slots=True)
class Execution:
    """One transaction that the chain has executed: its effects, or its failure, are for good.

    Attributes
    ----------
    signature : Signature
        The first one, which is the transaction's name.
    slot, block_height : int
        Where it landed.
    err : object
        None, or the error as JSON-RPC tells it: ``{"InstructionError": [0, {"Custom": 1}]}``.
        A transaction that failed has paid its fee and changed nothing else.
    logs : tuple of str
    return_data : tuple of Pubkey and bytes, or None
        The program that set it last, and what it set.
    fee : int
        Lamports.
    compute_units : int
    raw : bytes
        The transaction.
    message_hash : Hash
        By which the chain knows it again, whatever its signatures.
    bundle_id : str or None
        The bundle that carried it.
    keys : tuple of Pubkey
        Its accounts: those in the message, then those loaded to be written, then to be read.
    balances_before, balances_after : tuple of int
        Lamports of each of `keys`.
    inner : tuple
        A tuple of inner instructions for each instruction.
    """

    signature: Signature
    slot: int
    block_height: int
    err: Any
    logs: tuple[str, ...]
    return_data: tuple[Pubkey, bytes] | None
    fee: int
    compute_units: int
    raw: bytes
    message_hash: Hash
    bundle_id: str | None
    keys: tuple[Pubkey, ...]
    balances_before: tuple[int, ...]
    balances_after: tuple[int, ...]
    inner: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a transaction would do."""

    err: Any
    logs: tuple[str, ...]
    return_data: tuple[Pubkey, bytes] | None
    compute_units: int
    accounts: dict[Pubkey, Account]
    inner: tuple[Any, ...]


class Svm:
    """The accounts of the chain and the machine that changes them. Not thread-safe.

    LiteSVM would remember neither blockhashes nor signatures as a cluster does: `Chain` does, and
    it is switched off here.
    """

    def __init__(self) -> None:
        self._svm = LiteSVM().with_blockhash_check(False).with_transaction_history(0)
        # LiteSVM's own faucet has a random key: without it, all there is comes from the seed.
        self.set_account(self._svm.airdrop_pubkey(), None)
        # Programs count as deployed at this slot: the chain must not begin before it.
        self.genesis_slot: int = self._svm.get_clock().slot

    # Accounts

    def account(self, pubkey: Pubkey) -> Account | None:
        return self._svm.get_account(pubkey)

    def set_account(self, pubkey: Pubkey, account: Account | None) -> None:
        """Put an account in place, or away with None."""
        self._svm.set_account(
            pubkey, Account(0, b"", SYSTEM_PROGRAM) if account is None else account
        )

    def balance(self, pubkey: Pubkey) -> int:
        return self._svm.get_balance(pubkey) or 0

    def fund(self, pubkey: Pubkey, lamports: int) -> None:
        """Make lamports out of nothing."""
        old = self.account(pubkey) or Account(0, b"", SYSTEM_PROGRAM)
        total = old.lamports + lamports
        if total >= 2**64:
            raise LocalnetError(f"{pubkey}: {total} lamports are more than an account can hold")
        self.set_account(
            pubkey, Account(total, old.data, old.owner, old.executable, old.rent_epoch)
        )

    def rent_exemption(self, size: int) -> int:
        return self._svm.minimum_balance_for_rent_exemption(size)

    def add_program(self, pubkey: Pubkey, path: Path) -> None:
        try:
            self._svm.add_program(pubkey, read_regular(path))
        except OSError as error:
            raise LocalnetError(f"program {pubkey}: {path}: {error.strerror}") from error
        except Exception as error:
            # solders raises types of its own, each a bare Exception.
            raise LocalnetError(f"program {pubkey}: {path}: {error}") from error

    # Time

    def enter_slot(self, slot: int, unix_timestamp: int) -> None:
        epoch = slot // SLOTS_PER_EPOCH
        self._svm.set_clock(
            Clock(
                slot=slot,
                epoch_start_timestamp=0,
                epoch=epoch,
                leader_schedule_epoch=epoch + 1,
                unix_timestamp=unix_timestamp,
            )
        )

    # Transactions

    def keys(self, received: Received) -> tuple[list[Pubkey], list[bool]]:
        """A transaction's accounts, those of its lookup tables included, and which it may write.

        A table that does not hold what is looked up gives nothing: the machine refuses it later.
        """
        message = received.message
        header, keys = message.header, list(message.account_keys)
        signed, count = header.num_required_signatures, len(keys)
        writable = [
            i < signed - header.num_readonly_signed_accounts
            if i < signed
            else i < count - header.num_readonly_unsigned_accounts
            for i in range(count)
        ]
        if isinstance(message, MessageV0):
            written: list[Pubkey] = []
            read: list[Pubkey] = []
            for lookup in message.address_table_lookups:
                table = self.account(lookup.account_key)
                data = b"" if table is None else bytes(table.data)[LOOKUP_TABLE_META_BYTES:]
                for indexes, into in (
                    (lookup.writable_indexes, written),
                    (lookup.readonly_indexes, read),
                ):
                    found = (data[32 * i : 32 * i + 32] for i in bytes(indexes))
                    into += [Pubkey.from_bytes(each) for each in found if len(each) == 32]
            keys += written + read
            writable += [True] * len(written) + [False] * len(read)
        return keys, writable

    def keep(self, received: Received, kept: dict[Pubkey, Account | None]) -> None:
        """Add to `kept` what a transaction may write and is not yet there, as it is now.

        Called before each of several transactions is executed, it keeps what `restore` needs to
        make all of them not to have been. Programs are left out: no transaction writes one that it
        calls.
        """
        for key, may_write in zip(*self.keys(received), strict=True):
            if may_write and key not in kept:
                account = self.account(key)
                if account is None or not account.executable:
                    kept[key] = account

    def restore(self, kept: dict[Pubkey, Account | None]) -> None:
        for key, account in kept.items():
            self.set_account(key, account)

    def nonce(self, pubkey: Pubkey) -> Hash | None:
        """The value of a nonce account, if it is one."""
        account = self.account(pubkey)
        if account is None or account.owner != SYSTEM_PROGRAM or len(account.data) != 80:
            return None
        return Hash.from_bytes(bytes(account.data)[NONCE])

    def execute(
        self,
        received: Received,
        slot: int,
        block_height: int,
        bundle_id: str | None,
        *,
        verify: bool = True,
    ) -> Execution | Any:
        """Run one transaction.

        Returns
        -------
        Execution
            It landed, also where it failed: the payer has paid.
        object
            It did not land, as though it had never been; the error as JSON-RPC tells it.
        """
        keys, writable = self.keys(received)
        before = tuple(self.balance(key) for key in keys)
        with self._verifying(verify):
            result = self._svm.send_transaction(received.transaction)
        err, meta = _outcome(result)
        after = tuple(
            self.balance(key) if may_write else old
            for key, may_write, old in zip(keys, writable, before, strict=True)
        )
        if err is not None:
            if after[0] == before[0]:
                return err
            self._advance_nonce(received)
        return Execution(
            signature=received.signature,
            slot=slot,
            block_height=block_height,
            err=err,
            logs=tuple(meta.logs()),
            return_data=_return_data(meta),
            fee=meta.fee(),
            compute_units=meta.compute_units_consumed(),
            raw=received.raw,
            message_hash=received.message_hash,
            bundle_id=bundle_id,
            keys=tuple(keys),
            balances_before=before,
            balances_after=after,
            inner=tuple(tuple(each) for each in meta.inner_instructions()),
        )

    def failure_elsewhere(self, received: Received, slot: int, block_height: int) -> Execution:
        """What a fork would show on which a transaction failed; nothing changes here."""
        keys, _ = self.keys(received)
        balances = tuple(self.balance(key) for key in keys)
        last = len(received.message.instructions) - 1
        return Execution(
            signature=received.signature,
            slot=slot,
            block_height=block_height,
            err={"InstructionError": [last, {"Custom": 6}]},
            logs=(),
            return_data=None,
            fee=0,
            compute_units=0,
            raw=received.raw,
            message_hash=received.message_hash,
            bundle_id=None,
            keys=tuple(keys),
            balances_before=balances,
            balances_after=balances,
            inner=((),) * (last + 1),
        )

    def _advance_nonce(self, received: Received) -> None:
        """Use up the nonce of a transaction that failed, which a validator does and LiteSVM not."""
        pubkey = received.advances_nonce
        if pubkey is None or self.nonce(pubkey) != received.blockhash:
            return
        old = self._svm.get_account(pubkey)
        assert old is not None
        data = bytearray(old.data)
        # LiteSVM, too, derives it from the transaction; a validator from its newest blockhash.
        data[NONCE] = hashlib.sha256(b"DURABLE_NONCE" + bytes(received.blockhash)).digest()
        self.set_account(
            pubkey, Account(old.lamports, bytes(data), old.owner, old.executable, old.rent_epoch)
        )

    def simulate(self, received: Received, *, verify: bool) -> Simulation:
        with self._verifying(verify):
            result = self._svm.simulate_transaction(received.transaction)
        err, meta = _outcome(result)
        return Simulation(
            err=err,
            logs=tuple(meta.logs()),
            return_data=_return_data(meta),
            compute_units=meta.compute_units_consumed(),
            accounts=dict(result.post_accounts())
            if isinstance(result, SimulatedTransactionInfo)
            else {},
            inner=tuple(tuple(each) for each in meta.inner_instructions()),
        )

    @contextmanager
    def _verifying(self, verify: bool) -> Iterator[None]:
        self._svm.with_sigverify(verify)
        try:
            yield
        finally:
            self._svm.with_sigverify(True)

    def fee(self, message: Message | MessageV0) -> int:
        """Lamports that a message costs: its signatures and its priority."""
        blank = [Signature.default()] * message.header.num_required_signatures
        with self._verifying(False):
            result = self._svm.simulate_transaction(VersionedTransaction.populate(message, blank))
        return int(_outcome(result)[1].fee())


def _outcome(result: Any) -> tuple[Any, TransactionMetadata]:
    if isinstance(result, FailedTransactionMetadata):
        return json.loads(result.to_json())["err"], result.meta()
    return None, result if isinstance(result, TransactionMetadata) else result.meta()


def _return_data(meta: TransactionMetadata) -> tuple[Pubkey, bytes] | None:
    returned = meta.return_data()
    return (returned.program_id, bytes(returned.data)) if returned.data else None


# The words of Agave's TransactionError and InstructionError for what tests meet; others are called
# by their names.
_WORDS = {
    "AccountInUse": "Account in use",
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "SanitizeFailure": "Transaction failed to sanitize accounts offsets correctly",
    "SignatureFailure": "Transaction did not pass signature verification",
    "TooManyAccountLocks": "Transaction locked too many accounts",
    "WouldExceedMaxBlockCostLimit": "Transaction would exceed max Block Cost Limit",
}
_INSTRUCTION_WORDS = {
    "AccountAlreadyInitialized": "instruction requires an uninitialized account",
    "ComputationalBudgetExceeded": "Computational budget exceeded",
    "IncorrectProgramId": "incorrect program id for instruction",
    "InsufficientFunds": "insufficient funds for instruction",
    "InvalidAccountData": "invalid account data for instruction",
    "InvalidArgument": "invalid program argument",
    "InvalidInstructionData": "invalid instruction data",
    "MissingRequiredSignature": "missing required signature for instruction",
    "ProgramFailedToComplete": "Program failed to complete",
    "UninitializedAccount": "instruction requires an initialized account",
}


def describe(err: Any) -> str:
    """An error of a transaction in the words of a validator."""
    if isinstance(err, str):
        return _WORDS.get(err, err)
    ((name, value),) = err.items()
    if name == "InstructionError":
        index, inner = value
        if isinstance(inner, str):
            text = _INSTRUCTION_WORDS.get(inner, inner)
        else:
            ((inner_name, code),) = inner.items()
            text = f"custom program error: {code:#x}" if inner_name == "Custom" else inner_name
        return f"Error processing Instruction {index}: {text}"
    if name == "InsufficientFundsForRent":
        index = value["account_index"]
        return f"Transaction results in an account ({index}) with insufficient funds for rent"
    return str(name)
