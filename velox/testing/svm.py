"""A Solana virtual machine, and the steps of a validator around it that execute a transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solders.account import Account
from solders.clock import Clock
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import (
    FailedTransactionMetadata,
    SimulatedTransactionInfo,
    TransactionMetadata,
)

from velox.errors import LocalnetError
from velox.solana.files import read_regular
from velox.solana.tx.instructions import SYSTEM_PROGRAM
from velox.testing.received import Received
from velox.testing.token_accounts import token_balances_json

__all__ = ["MAX_ACCOUNT_LOCKS", "SLOTS_PER_EPOCH", "Execution", "Simulation", "Svm", "cut_off"]

MAX_ACCOUNT_LOCKS = 64
NATIVE_LOADER = Pubkey.from_string("NativeLoader1111111111111111111111111111111")
ELF_MAGIC = b"\x7fELF"
# A node keeps less than this of a transaction's log.
MAX_LOG_BYTES = 10_000
LOG_CUT_OFF = "Log truncated"
SLOTS_PER_EPOCH = 432_000

# The data of a nonce account: version u32, state u32, authority, then the nonce.
NONCE = slice(40, 72)
LOOKUP_TABLE_META_BYTES = 56


@dataclass(frozen=True, slots=True)
class Execution:
    """One transaction that the chain has executed. Its effects, or its failure, are final.

    Attributes
    ----------
    signature : Signature
        The first signature, which identifies the transaction.
    slot, block_height : int
        Where it landed.
    err : object
        None, or the error as JSON-RPC encodes it: ``{"InstructionError": [0, {"Custom": 1}]}``.
        A transaction that failed has paid its fee and changed nothing else.
    logs : tuple of str
        As a node keeps them: cut off at 10 000 bytes.
    whole_logs : tuple of str
        The same, not cut off. No client sees them.
    return_data : tuple of Pubkey and bytes, or None
        The program that set it last, and what it set.
    fee : int
        Lamports.
    compute_units : int
    raw : bytes
        The transaction.
    message_hash : Hash
        The hash by which the chain refuses it a second time, with any signatures.
    bundle_id : str or None
        The bundle that carried it.
    keys : tuple of Pubkey
        Its accounts: those in the message, then the loaded writable ones, then the loaded
        read-only ones.
    balances_before, balances_after : tuple of int
        Lamports of each of `keys`.
    inner : tuple
        For each instruction a tuple of its inner instructions.
    tokens_before, tokens_after : list
        The token balances of `keys`, as JSON-RPC encodes them.
    """

    signature: Signature
    slot: int
    block_height: int
    err: Any
    logs: tuple[str, ...]
    whole_logs: tuple[str, ...]
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
    tokens_before: list[Any] = field(default_factory=list)
    tokens_after: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Simulation:
    """The outcome of a simulated transaction."""

    err: Any
    logs: tuple[str, ...]
    return_data: tuple[Pubkey, bytes] | None
    compute_units: int
    accounts: dict[Pubkey, Account]
    inner: tuple[Any, ...]


class Svm:
    """The accounts of the chain, and the machine that changes them. Not thread-safe.

    `Chain` checks blockhashes and repeated signatures, as a cluster does. LiteSVM's own checks
    differ, and are switched off.
    """

    def __init__(self) -> None:
        self._svm = (
            LiteSVM()
            .with_blockhash_check(False)
            .with_transaction_history(0)
            .with_log_bytes_limit(None)
        )
        # The accounts that were ever set, or that a transaction might have written.
        self._written: set[Pubkey] = set()
        # LiteSVM's own faucet has a random key. Without it, all accounts depend on the seed alone.
        self.set_account(self._svm.airdrop_pubkey(), None)
        # The built-in programs are deployed at this slot, so the chain must not begin before it.
        self.genesis_slot: int = self._svm.get_clock().slot

    # Accounts

    def account(self, pubkey: Pubkey) -> Account | None:
        return self._svm.get_account(pubkey)

    def set_account(self, pubkey: Pubkey, account: Account | None) -> None:
        """Set an account; None deletes it."""
        self._written.add(pubkey)
        self._svm.set_account(
            pubkey, Account(0, b"", SYSTEM_PROGRAM) if account is None else account
        )

    def balance(self, pubkey: Pubkey) -> int:
        return self._svm.get_balance(pubkey) or 0

    def balances(self) -> list[tuple[Pubkey, int]]:
        """Return the accounts with lamports, without programs and what the machine began with."""
        return [(key, lamports) for key in self._written if (lamports := self.balance(key))]

    def fund(self, pubkey: Pubkey, lamports: int) -> None:
        """Add lamports to an account, out of nothing."""
        old = self.account(pubkey) or Account(0, b"", SYSTEM_PROGRAM)
        total = old.lamports + lamports
        if total >= 2**64:
            raise LocalnetError(f"{pubkey}: {total} lamports are more than an account can hold")
        self.set_account(
            pubkey, Account(total, old.data, old.owner, old.executable, old.rent_epoch)
        )

    def rent_exemption(self, size: int) -> int:
        return self._svm.minimum_balance_for_rent_exemption(size)

    def program_accounts(self, program: Pubkey) -> list[tuple[Pubkey, Account]]:
        """Return the accounts that a program owns, sorted by their keys."""
        return sorted(self._svm.get_program_accounts(program), key=lambda each: bytes(each[0]))

    def add_program(self, pubkey: Pubkey, source: bytes | Path) -> None:
        """Load a program from the bytes of an ELF file, or from its path."""
        name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
        old = self.account(pubkey)
        if old is not None and old.owner == NATIVE_LOADER:
            raise LocalnetError(f"program {pubkey}: is built into the virtual machine")
        try:
            elf = source if isinstance(source, bytes) else read_regular(source)
        except OSError as error:
            raise LocalnetError(f"program {pubkey}: {name}: {error.strerror}") from error
        if elf[: len(ELF_MAGIC)] != ELF_MAGIC:
            raise LocalnetError(f"program {pubkey}: {name}: is not an ELF file")
        try:
            self._svm.add_program(pubkey, elf)
        except Exception as error:
            # solders raises types of its own, each a bare Exception.
            raise LocalnetError(f"program {pubkey}: {name}: {error}") from error

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
        """Return a transaction's accounts, with those of its lookup tables, and which are writable.

        An entry that a table does not have is left out: the machine refuses such a transaction.
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
        """Add to `kept` the present state of the accounts that a transaction may write.

        Call it before each of several transactions, and `restore` undoes all of them. An account
        that is in `kept` already stays as it is. Programs are left out: no transaction writes a
        program that it calls.
        """
        for key, may_write in zip(*self.keys(received), strict=True):
            if may_write and key not in kept:
                account = self.account(key)
                if account is None or not account.executable:
                    kept[key] = account

    def restore(self, kept: dict[Pubkey, Account | None]) -> None:
        """Put accounts back into the state that `keep` recorded."""
        for key, account in kept.items():
            self.set_account(key, account)

    def nonce(self, pubkey: Pubkey) -> Hash | None:
        """Return the nonce of a nonce account; None for any other account."""
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
        """Execute one transaction.

        Returns
        -------
        Execution
            It landed. If it failed, it has still paid its fee.
        object
            It did not land, and changed nothing: the error as JSON-RPC encodes it.
        """
        keys, writable = self.keys(received)
        before = tuple(self.balance(key) for key in keys)
        tokens_before = token_balances_json(keys, self.account)
        with self._verifying(verify):
            result = self._svm.send_transaction(received.transaction)
        err, meta = _outcome(result)
        whole_logs = tuple(meta.logs())
        after = tuple(
            self.balance(key) if may_write else old
            for key, may_write, old in zip(keys, writable, before, strict=True)
        )
        if err is not None:
            if after[0] == before[0]:
                return err
            self._advance_nonce(received)
        self._written.update(
            key for key, may_write in zip(keys, writable, strict=True) if may_write
        )
        return Execution(
            signature=received.signature,
            slot=slot,
            block_height=block_height,
            err=err,
            logs=cut_off(whole_logs),
            whole_logs=whole_logs,
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
            tokens_before=tokens_before,
            tokens_after=token_balances_json(keys, self.account),
        )

    def failure_elsewhere(self, received: Received, slot: int, block_height: int) -> Execution:
        """Return a failed execution on a fork; the accounts do not change."""
        keys, _ = self.keys(received)
        balances = tuple(self.balance(key) for key in keys)
        last = len(received.message.instructions) - 1
        return Execution(
            signature=received.signature,
            slot=slot,
            block_height=block_height,
            err={"InstructionError": [last, {"Custom": 6}]},
            logs=(),
            whole_logs=(),
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
        """Advance the nonce of a failed transaction, as a validator does and LiteSVM does not."""
        pubkey = received.advances_nonce
        if pubkey is None or self.nonce(pubkey) != received.blockhash:
            return
        old = self._svm.get_account(pubkey)
        assert old is not None
        data = bytearray(old.data)
        # LiteSVM derives the next nonce in this way. A validator uses its newest blockhash.
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
            logs=cut_off(meta.logs()),
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
        """Return the fee of a message in lamports: signatures and priority."""
        blank = [Signature.default()] * message.header.num_required_signatures
        with self._verifying(False):
            result = self._svm.simulate_transaction(VersionedTransaction.populate(message, blank))
        return int(_outcome(result)[1].fee())


def cut_off(logs: Iterable[str]) -> tuple[str, ...]:
    """Return what a node keeps of a log: lines that do not fit into 10 000 bytes are left out.

    The first of them is replaced by ``Log truncated``. A shorter line after it may still fit.
    """
    kept, used, told = list[str](), 0, False
    for line in logs:
        size = len(line.encode())
        if used + size < MAX_LOG_BYTES:
            used += size
            kept.append(line)
        elif not told:
            told = True
            kept.append(LOG_CUT_OFF)
    return tuple(kept)


def _outcome(result: Any) -> tuple[Any, TransactionMetadata]:
    if isinstance(result, FailedTransactionMetadata):
        return json.loads(result.to_json())["err"], result.meta()
    return None, result if isinstance(result, TransactionMetadata) else result.meta()


def _return_data(meta: TransactionMetadata) -> tuple[Pubkey, bytes] | None:
    returned = meta.return_data()
    return (returned.program_id, bytes(returned.data)) if returned.data else None
