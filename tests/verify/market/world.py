"""One virtual machine with the market program in it, its mints and its traders.

Two worlds from the same seed have the same addresses, so that what two programs do to the same
instructions can be compared byte for byte.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from solders.account import Account
from solders.clock import Clock
from solders.compute_budget import ComputeBudget
from solders.instruction import Instruction
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.token.state import Mint, TokenAccount, TokenAccountState
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata

from .wire import (
    HEADER_BYTES,
    PROGRAM,
    SYSTEM,
    TOKEN,
    TOKEN_2022,
    claim_seat,
    create,
    expand,
    metas,
    swap_data,
    transfer,
    vault,
)

RICH: Final = 2**62
LAMPORTS: Final = 10**15
NO_KEY: Final = Pubkey.default()


def address(name: str) -> Pubkey:
    """Return the address that stands for a name."""
    return Pubkey.create_with_seed(NO_KEY, name, NO_KEY)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one transaction did.

    Attributes
    ----------
    error : str or None
        As solders shows it.
    events : tuple of bytes
        Of the ``Program data`` lines of the log.
    answer : bytes
        The return data.
    compute : int
        Units.
    """

    error: str | None
    events: tuple[bytes, ...]
    answer: bytes
    compute: int
    logs: tuple[str, ...]
    inner: Any

    @property
    def seen(self) -> tuple[Any, ...]:
        """Everything except the compute units: it must be the same on both programs."""
        return self.error, self.events, self.answer, self.calls

    @property
    def calls(self) -> tuple[Any, ...]:
        """The calls of other programs: program, accounts, data of each."""
        return tuple(
            (made.program_id_index, bytes(made.accounts), bytes(made.data))
            for some in self.inner
            for made in (each.instruction() for each in some)
        )

    @property
    def placed(self) -> list[tuple[int, int]]:
        """Sequence and index of each order of a batch."""
        (count,) = struct.unpack_from("<I", self.answer)
        return list(struct.iter_unpack("<QI", self.answer[4 : 4 + 12 * count]))


class World:
    """A machine with one program, and whatever is put into it. Not thread-safe.

    Parameters
    ----------
    program : bytes
        The ELF file.
    """

    def __init__(self, program: bytes) -> None:
        budget = ComputeBudget(simd_0268_active=True)
        budget.compute_unit_limit = 100_000_000
        self.svm = (
            LiteSVM()
            .with_compute_budget(budget)
            .with_blockhash_check(False)
            .with_transaction_history(0)
            .with_sigverify(False)
            .with_log_bytes_limit(None)
        )
        self.svm.add_program(PROGRAM, program)
        self._blockhash = self.svm.latest_blockhash()
        self.slot = 0
        self.enter_slot(1_000)

    def limit_compute(self, units: int) -> None:
        budget = ComputeBudget(simd_0268_active=True)
        budget.compute_unit_limit = units
        self.svm = self.svm.with_compute_budget(budget)

    def enter_slot(self, slot: int) -> None:
        self.slot = slot
        self.svm.set_clock(Clock(slot, 0, 0, 1, 0))

    def fund(self, key: Pubkey, lamports: int = LAMPORTS) -> Pubkey:
        self.svm.set_account(key, Account(lamports, b"", NO_KEY))
        return key

    def mint(
        self, name: str, decimals: int, *, owner: Pubkey = TOKEN, extensions: bytes = b""
    ) -> Pubkey:
        key = address(name)
        data = bytes(Mint(None, 2**63, decimals, is_initialized=True, freeze_authority=None))
        if extensions:
            data = data.ljust(165, b"\0") + b"\1" + extensions
        self.svm.set_account(key, Account(10**9, data, owner))
        return key

    def tokens(
        self,
        name: str,
        mint: Pubkey,
        owner: Pubkey,
        amount: int = RICH,
        *,
        program: Pubkey = TOKEN,
        extensions: bytes = b"",
    ) -> Pubkey:
        key = address(name)
        account = TokenAccount(
            mint=mint,
            owner=owner,
            amount=amount,
            delegate=None,
            state=TokenAccountState.Initialized,
            is_native=None,
            delegated_amount=0,
            close_authority=None,
        )
        data = bytes(account) + (b"\2" + extensions if extensions else b"")
        self.svm.set_account(key, Account(10**9, data, program))
        return key

    def data(self, key: Pubkey) -> bytes:
        account = self.svm.get_account(key)
        return b"" if account is None else bytes(account.data)

    def balance(self, tokens: Pubkey) -> int:
        return int.from_bytes(self.data(tokens)[64:72], "little")

    def send(self, *instructions: Instruction, payer: Pubkey) -> Outcome:
        message = Message.new_with_blockhash(list(instructions), payer, self._blockhash)
        signatures = [Signature.default()] * message.header.num_required_signatures
        result = self.svm.send_transaction(VersionedTransaction.populate(message, signatures))
        failed = isinstance(result, FailedTransactionMetadata)
        meta = result.meta() if failed else result
        logs = tuple(meta.logs())
        answer = meta.return_data()
        return Outcome(
            # A transaction's failure as a whole, or its instruction's.
            error=str(result.err()) if failed else None,
            events=tuple(
                base64.b64decode(each[14:]) for each in logs if each.startswith("Program data: ")
            ),
            answer=b"" if answer is None or answer.program_id != PROGRAM else bytes(answer.data),
            compute=meta.compute_units_consumed(),
            logs=logs,
            inner=meta.inner_instructions(),
        )


class MarketWorld(World):
    """A world with a market, and traders who have seats and deposits.

    Parameters
    ----------
    program : bytes
    traders : int
        How many.
    base_program, quote_program : Pubkey
        The token program of each mint.
    extensions : tuple of two tuples of bytes
        Of each mint of Token-2022: its extensions, and those of its accounts.
    deposits : int
        Atoms of each mint that every trader deposits; 0 claims no seats either.
    """

    def __init__(
        self,
        program: bytes,
        *,
        traders: int = 3,
        base_program: Pubkey = TOKEN,
        quote_program: Pubkey = TOKEN,
        extensions: tuple[tuple[bytes, bytes], tuple[bytes, bytes]] = ((b"", b""), (b"", b"")),
        deposits: int = 10**15,
    ) -> None:
        super().__init__(program)
        self.market = address("market")
        self.programs = (base_program, quote_program)
        self.mints = (
            self.mint("base", 9, owner=base_program, extensions=extensions[0][0]),
            self.mint("quote", 6, owner=quote_program, extensions=extensions[1][0]),
        )
        self.vaults = tuple(vault(self.market, each) for each in self.mints)
        self.svm.set_account(self.market, Account(10**7, bytes(HEADER_BYTES), PROGRAM))
        self.creator = self.fund(address("creator"))
        self.fees = self.fund(address("the payer of fees"))
        self.created = self.send(create(self.creator, self.market, *self.mints), payer=self.creator)
        self.traders = [self.fund(address(f"trader {number}")) for number in range(traders)]
        self.wallets = [
            tuple(
                self.tokens(
                    f"{side} of {number}", mint, trader, program=owner, extensions=of_account
                )
                for side, mint, owner, (_, of_account) in zip(
                    "bq", self.mints, self.programs, extensions, strict=True
                )
            )
            for number, trader in enumerate(self.traders)
        ]
        if deposits:
            for number in range(traders):
                self.seat(number)
                for side in range(2):
                    self.move(2, number, side, deposits)

    def market_data(self) -> bytes:
        return self.data(self.market)

    def seat(self, number: int) -> Outcome:
        trader = self.traders[number]
        done = self.send(claim_seat(trader, self.market), payer=trader)
        assert done.error is None, (done.error, done.logs)
        return done

    def move(self, tag: int, number: int, side: int, atoms: int) -> Outcome:
        """Deposit (2) or withdraw (3); it must succeed."""
        done = self.send(self.transfer(tag, number, side, atoms), payer=self.traders[number])
        assert done.error is None, (done.error, done.logs)
        return done

    def transfer(self, tag: int, number: int, side: int, atoms: int, **more: Any) -> Instruction:
        return transfer(
            tag,
            self.traders[number],
            self.market,
            self.mints[side],
            self.wallets[number][side],
            atoms,
            token_program=self.programs[side],
            **more,
        )

    def grow(self, number: int, free: int) -> Outcome:
        """Let so many blocks be free."""
        return self.run(number, expand(self.traders[number], self.market, free))

    def run(self, number: int, instructions: Sequence[Instruction] | Instruction) -> Outcome:
        some = [instructions] if isinstance(instructions, Instruction) else instructions
        return self.send(*some, payer=self.traders[number])

    def swap(
        self,
        number: int,
        atoms_in: int,
        atoms_out: int,
        *,
        base_in: bool,
        exact_in: bool,
        v2: bool = False,
    ) -> Instruction:
        trader = self.traders[number]
        base_program, quote_program = self.programs
        accounts = [(trader, "sw")]
        if v2:
            accounts.append((trader, "s"))
        accounts += [
            (self.market, "w"),
            (SYSTEM, ""),
            *((each, "w") for each in self.wallets[number]),
            *((each, "w") for each in self.vaults),
            (base_program, ""),
        ]
        if base_program == TOKEN_2022:
            accounts.append((self.mints[0], ""))
        if quote_program != base_program:
            accounts.append((quote_program, ""))
        if quote_program == TOKEN_2022:
            accounts.append((self.mints[1], ""))
        data = swap_data(13 if v2 else 4, atoms_in, atoms_out, base_in=base_in, exact_in=exact_in)
        return Instruction(PROGRAM, data, metas(*accounts))
