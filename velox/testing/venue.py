"""A funded market on the local chain: two mints, an order book, and seats with deposits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from solders.account import Account
from solders.instruction import Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.token.state import Mint, TokenAccount, TokenAccountState
from solders.transaction import VersionedTransaction

from velox.core.instrument import Instrument
from velox.errors import LocalnetError, UnrepresentableError
from velox.solana.tx.instructions import (
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    associated_token_account,
)
from velox.solana.tx.limits import LAMPORTS_PER_SOL
from velox.solana.venues.manifest.account import MarketAccount, MarketOrder, Seat
from velox.solana.venues.manifest.instructions import (
    MANIFEST_MARKET_BYTES,
    MANIFEST_PROGRAM,
    claim_seat,
    create_manifest_market,
    deposit,
    manifest_vault,
)
from velox.solana.venues.manifest.market import MarketSpec
from velox.testing.chain import Chain
from velox.testing.received import Received
from velox.testing.statement import MarketStatement, history_of, statement_of
from velox.testing.svm import Execution
from velox.testing.token_accounts import read_token

__all__ = ["LocalMarket", "MarketPlan"]

#: The lamports of a trader that is admitted without a figure.
TRADER_LAMPORTS: Final = 1_000 * LAMPORTS_PER_SOL


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPlan:
    """The properties of the market of a `LocalCluster`, and the rate of its crowd.

    Attributes
    ----------
    base_decimals, quote_decimals : int
        Decimals of the two mints, 0 to 18.
    price : int
        Where trading begins, in units of 1e-4 quote for one base; a multiple of `tick_size`.
    tick_size : int
        The step of prices, in units of 1e-4.
    lot_atoms : int
        Base atoms in one lot.
    crowd_rate_per_s : float
        Actions of the crowd a second of chain time, 0 to 10 000; 0 for no crowd.
    makers, takers : int
        How many of each the crowd has. It has one more, who takes stale quotes.
    levels : int
        How many orders a maker rests on each side, 1 to 8.
    velox_market : int
        The market's number in `Transaction.market`, 0 to 255.

    Raises
    ------
    LocalnetError
        A field is out of range; the message names it.
    """

    base_decimals: int = 9
    quote_decimals: int = 6
    price: int = 1_500_000
    tick_size: int = 100
    lot_atoms: int = 1_000_000
    crowd_rate_per_s: float = 20.0
    makers: int = 3
    takers: int = 2
    levels: int = 5
    velox_market: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "base_decimals": (0, 18),
            "quote_decimals": (0, 18),
            "tick_size": (1, 10**12),
            "price": (self.tick_size, 10**15),
            "lot_atoms": (1, 10**12),
            "makers": (0, 64),
            "takers": (0, 64),
            "levels": (1, 8),
            "velox_market": (0, 255),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise LocalnetError(f"{name} = {value!r}: must be {least} to {most}")
        if self.price % self.tick_size:
            raise LocalnetError(f"price = {self.price}: must be a multiple of {self.tick_size}")
        if not 0 <= self.crowd_rate_per_s <= 10_000:
            raise LocalnetError(f"crowd_rate_per_s = {self.crowd_rate_per_s!r}: must be 0 to 10000")

    @classmethod
    def of(cls, instrument: Instrument, price: int | None = None) -> MarketPlan:
        """Return the plan of a market for an instrument's orders.

        It has the instrument's number and price step. Its lots are those of any plan.

        Parameters
        ----------
        instrument : Instrument
            Its prices have 4 decimals.
        price : int, optional
            About where trading begins, in units of 1e-4; by default where any plan begins.
        """
        tick = instrument.tick_size
        wanted = cls().price if price is None else price
        return cls(
            price=max(tick, wanted - wanted % tick),
            tick_size=tick,
            velox_market=instrument.market,
        )


class LocalMarket:
    """The market of a `LocalCluster`. Any thread may use it.

    The program, the mints and the market exist before the first block. The methods take effect at
    once, without a transaction in a block.

    Parameters
    ----------
    chain : Chain
        The program must be loaded at Manifest's address.
    plan : MarketPlan

    Attributes
    ----------
    spec : MarketSpec
        The market, as Velox trades on it.

    Raises
    ------
    LocalnetError
        The program refuses to create the market.
    """

    def __init__(self, chain: Chain, plan: MarketPlan) -> None:
        self._chain = chain
        self._authority = chain.keypair("market authority").pubkey()
        self.spec = MarketSpec(
            market=chain.keypair("market").pubkey(),
            base_mint=chain.keypair("base mint").pubkey(),
            quote_mint=chain.keypair("quote mint").pubkey(),
            base_decimals=plan.base_decimals,
            quote_decimals=plan.quote_decimals,
            lot_atoms=plan.lot_atoms,
            tick_size=plan.tick_size,
            velox_market=plan.velox_market,
        )
        self._deposited: dict[Pubkey, tuple[int, int]] = {}
        self._check_prices(plan)
        with chain.lock:
            chain.svm.fund(self._authority, TRADER_LAMPORTS)
            self._add_to_supply(self.spec.base_mint, plan.base_decimals, 0)
            self._add_to_supply(self.spec.quote_mint, plan.quote_decimals, 0)
            rent = chain.svm.rent_exemption(MANIFEST_MARKET_BYTES)
            chain.svm.set_account(
                self.address, Account(rent, bytes(MANIFEST_MARKET_BYTES), MANIFEST_PROGRAM)
            )
            self._run(
                self._authority,
                create_manifest_market(
                    self._authority, self.address, self.spec.base_mint, self.spec.quote_mint
                ),
            )

    def _check_prices(self, plan: MarketPlan) -> None:
        """Refuse a plan at whose prices the market cannot hold every tick."""
        ticks = plan.price // plan.tick_size
        for each in (1, *range(ticks + 1_000, ticks + 1_010)):
            try:
                self.spec.price_to_chain(each * plan.tick_size)
            except UnrepresentableError as error:
                raise LocalnetError(f"price = {plan.price}: {error}") from error

    @property
    def tick_price(self) -> float:
        """One tick, in the unit of `MarketOrder.price`."""
        return self.spec.tick_size * 10.0 ** (18 + self.spec.exponent)

    @property
    def address(self) -> Pubkey:
        """The market's account."""
        return self.spec.market

    def admit(
        self,
        trader: Pubkey,
        *,
        base_atoms: int | None = None,
        quote_atoms: int | None = None,
        lamports: int = TRADER_LAMPORTS,
    ) -> Seat:
        """Give a trader lamports, a seat and deposits, out of nothing and at once.

        Its signature is not needed. Called again for the same trader, it adds to the deposits.

        Parameters
        ----------
        trader : Pubkey
        base_atoms, quote_atoms : int, optional
            What to deposit; by default a million units of each.
        lamports : int
            What to add to its account.

        Returns
        -------
        Seat
            Its seat, with what it has deposited and does not have in orders.

        Raises
        ------
        LocalnetError
            An amount is negative, or the mint's supply would not fit 64 bits; or the trader is not
            a wallet, but a program, a mint or the like, which cannot pay fees.
        """
        spec = self.spec
        base = 10 ** (6 + spec.base_decimals) if base_atoms is None else base_atoms
        quote = 10 ** (6 + spec.quote_decimals) if quote_atoms is None else quote_atoms
        for amount in (base, quote):
            if type(amount) is not int or amount < 0:
                raise LocalnetError(f"atoms = {amount!r}: must be an integer, 0 or more")
        with self._chain.lock:
            account = self._chain.svm.account(trader)
            if account is not None and (account.owner != SYSTEM_PROGRAM or account.data):
                raise LocalnetError(
                    f"trader {trader}: is not a wallet: {account.owner} owns its account"
                )
            self._chain.svm.fund(trader, lamports)
            instructions = (
                [] if trader in self._account().seats() else [claim_seat(trader, self.address)]
            )
            for mint, decimals, amount in (
                (spec.base_mint, spec.base_decimals, base),
                (spec.quote_mint, spec.quote_decimals, quote),
            ):
                if amount:
                    tokens = self._give(trader, mint, decimals, amount)
                    instructions.append(deposit(trader, self.address, mint, tokens, amount))
            if instructions:
                self._run(trader, *instructions)
            before = self._deposited.get(trader, (0, 0))
            self._deposited[trader] = (before[0] + base, before[1] + quote)
            return self._account().seats()[trader]

    def seat(self, trader: Pubkey) -> Seat | None:
        """Return a trader's seat; None if it has none."""
        with self._chain.lock:
            return self._account().seats().get(trader)

    def orders(self) -> list[MarketOrder]:
        """Return the resting orders: bids, then asks, each from the best to the worst."""
        with self._chain.lock:
            return list(self._account().orders())

    def statement(self, trader: Pubkey, crowd: frozenset[Pubkey] = frozenset()) -> MarketStatement:
        """Return what a trader has on the market, what became of its orders, and who filled them.

        The balances are those of the chain's accounts. The deposits are those of `admit`: the
        statement of a trader that has moved tokens by itself does not balance.

        Parameters
        ----------
        trader : Pubkey
        crowd : frozenset of Pubkey
            The traders whose fills are told apart from those of others; see `Crowd.pubkeys`.

        Raises
        ------
        LocalnetError
            The trader was not admitted.
        """
        with self._chain.lock:
            if trader not in self._deposited:
                raise LocalnetError(f"trader {trader}: was not admitted to the market")
            spec = self.spec
            vaults = [
                read_token(self._chain.svm.account(manifest_vault(spec.market, mint)))
                for mint in (spec.base_mint, spec.quote_mint)
            ]
            base, quote = (0 if each is None else each.amount for each in vaults)
            return statement_of(
                self._account(),
                history_of(self._chain.executions, spec, trader, crowd),
                market=spec.market,
                trader=trader,
                slot=self._chain.head.slot,
                deposited=self._deposited[trader],
                vaults=(base, quote),
            )

    def _account(self) -> MarketAccount:
        account = self._chain.svm.account(self.address)
        if account is None:
            raise LocalnetError(f"market {self.address}: its account was deleted")
        return MarketAccount(bytes(account.data))

    def _give(self, trader: Pubkey, mint: Pubkey, decimals: int, atoms: int) -> Pubkey:
        """Add tokens to a trader's associated account, and return its address."""
        self._add_to_supply(mint, decimals, atoms)
        key = associated_token_account(trader, mint)
        old = read_token(self._chain.svm.account(key))
        data = bytes(
            TokenAccount(
                mint=mint,
                owner=trader,
                amount=atoms + (0 if old is None else old.amount),
                delegate=None,
                state=TokenAccountState.Initialized,
                is_native=None,
                delegated_amount=0,
                close_authority=None,
            )
        )
        rent = self._chain.svm.rent_exemption(len(data))
        self._chain.svm.set_account(key, Account(rent, data, TOKEN_PROGRAM))
        return key

    def _add_to_supply(self, mint: Pubkey, decimals: int, atoms: int) -> None:
        old = self._chain.svm.account(mint)
        supply = atoms + (0 if old is None else Mint.from_bytes(bytes(old.data)).supply)
        if supply >= 2**64:
            raise LocalnetError(f"mint {mint}: {supply} atoms are more than there can be")
        data = bytes(Mint(None, supply, decimals, is_initialized=True, freeze_authority=None))
        rent = self._chain.svm.rent_exemption(len(data))
        self._chain.svm.set_account(mint, Account(rent, data, TOKEN_PROGRAM))

    def _run(self, payer: Pubkey, *instructions: Instruction) -> None:
        """Execute instructions without signatures, outside of any block."""
        head = self._chain.head
        message = MessageV0.try_compile(payer, list(instructions), [], head.blockhash)
        signatures = [Signature.default()] * message.header.num_required_signatures
        received = Received(bytes(VersionedTransaction.populate(message, signatures)))
        done = self._chain.svm.execute(received, head.slot, head.height, None, verify=False)
        err = done.err if isinstance(done, Execution) else done
        if err is not None:
            logs = done.logs[-1:] if isinstance(done, Execution) else ()
            raise LocalnetError(f"market {self.address}: set-up failed: {err} {' '.join(logs)}")
