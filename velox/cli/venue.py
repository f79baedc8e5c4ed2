"""The commands for a market's account: show it, fund it, and withdraw orders from it.

`velox.cli.commands` has their options.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from velox.cli.screen import Say
from velox.core.records import TRANSACTION_DTYPE
from velox.errors import ConfigError, MarketError
from velox.solana import assembly
from velox.solana.config import ChainConfig, MarketConfig, load_config
from velox.solana.net.rpc import RpcClient
from velox.solana.orders.in_flight import reason_of
from velox.solana.submit.single import send_and_follow
from velox.solana.tx.carrier import Cancel
from velox.solana.tx.instructions import (
    associated_token_account,
    compute_unit_limit,
    compute_unit_price,
)
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.template import TransactionBuilder, build_transaction, unsigned_transaction
from velox.solana.venues.manifest.account import MarketAccount, MarketOrder
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.error_codes import explain_error
from velox.solana.venues.manifest.instructions import claim_seat, deposit, withdraw

__all__ = ["cancel_all", "claim", "fund", "show"]

# The compute limit of a claim, a deposit or a withdrawal: more than twice what was measured.
UNITS = 40_000
# Cancels in one transaction, and the most rounds of them: others may fill orders meanwhile.
CANCELS = 40
MOST_ROUNDS = 20
# The offset of the amount in a token account, and of the decimals in a mint's.
_AMOUNT = slice(64, 72)
DEPTH = 10


@dataclass(frozen=True, slots=True)
class _Place:
    """One market of a configuration, and what is needed to act there."""

    config: ChainConfig
    market: MarketConfig
    carrier: ManifestCarrier
    rpc: RpcClient
    signer: KeypairSigner

    def account(self) -> MarketAccount:
        """Read the market's account."""
        found = self.rpc.get_account_info(self.carrier.spec.market)
        if found is None:
            raise MarketError(
                "does not exist on the chain", market=self.carrier.spec.market, field="account"
            )
        if found.owner != self.carrier.program:
            raise MarketError(
                f"{self.carrier.program} must own the account; {found.owner} does",
                market=self.carrier.spec.market,
                field="program",
            )
        account = MarketAccount(found.data)
        self.carrier.check_description(account)
        return account


@contextmanager
def _places(path: str, number: int | None = None) -> Iterator[list[_Place]]:
    """Open a configuration, and its market with this number, or all of them."""
    config = load_config(path)
    if not config.markets:
        raise ConfigError(f"{path}: [[market]] is missing")
    chosen = [each for each in config.markets if number in (None, each.velox_market)]
    if not chosen:
        raise ConfigError(f"{path}: no [[market]] has velox_market = {number}")
    carriers = [ManifestCarrier(each.spec) for each in chosen]
    signer = assembly.signer_of(config, carriers)
    with assembly.rpc_of(config, retries=3) as rpc:
        yield [
            _Place(config, market, carrier, rpc, signer)
            for market, carrier in zip(chosen, carriers, strict=True)
        ]


@contextmanager
def _one(path: str, number: int | None) -> Iterator[_Place]:
    with _places(path, number) as places:
        if len(places) > 1:
            numbers = ", ".join(str(each.market.velox_market) for each in places)
            raise ConfigError(f"{path}: there are several markets, {numbers}: give --market")
        yield places[0]


def _price(carrier: ManifestCarrier, order: MarketOrder) -> str:
    """Return an order's price in quote units for a base unit, exactly."""
    spec = carrier.spec
    exact = Decimal(order.price).scaleb(spec.base_decimals - spec.quote_decimals - 18)
    return f"{exact.normalize():f}"


def _units(atoms: int, decimals: int) -> str:
    return f"{Decimal(atoms).scaleb(-decimals).normalize():f}"


def show(path: str, *, depth: int = DEPTH, say: Say) -> None:
    """Print each market of a configuration: book, seat, balances and our orders."""
    with _places(path) as places:
        for place in places:
            _show(place, depth, say)


def _show(place: _Place, depth: int, say: Say) -> None:
    account, spec, trader = place.account(), place.carrier.spec, place.signer.pubkey
    base, quote = spec.base_decimals, spec.quote_decimals
    orders = list(account.orders())
    bids = [each for each in orders if each.is_bid]
    asks = [each for each in orders if not each.is_bid]
    seat = account.seats().get(trader)
    say(
        f"market      {spec.market}, velox_market {spec.velox_market}",
        f"base        {spec.base_mint}, {base} decimals",
        f"quote       {spec.quote_mint}, {quote} decimals",
        f"book        {len(bids):,} bids, {len(asks):,} asks",
    )
    for bid, ask in itertools.islice(itertools.zip_longest(bids, asks), depth):
        left = f"{_units(bid.base_atoms, base)} @ {_price(place.carrier, bid)}" if bid else ""
        right = f"{_price(place.carrier, ask)} @ {_units(ask.base_atoms, base)}" if ask else ""
        say(f"  {left:>30}  |  {right}")
    lamports = place.rpc.get_balance(trader)
    say(f"trader      {trader}, {_units(lamports, 9)} SOL")
    for name, mint, decimals in (("base", spec.base_mint, base), ("quote", spec.quote_mint, quote)):
        say(f"  wallet    {_units(_wallet(place, mint)[1], decimals)} {name}")
    if seat is None:
        say("seat        none: claim one with `velox claim-seat`")
        return
    say(
        f"seat        {_units(seat.base_atoms, base)} base, {_units(seat.quote_atoms, quote)} quote"
        " not in orders"
    )
    ours = [each for each in orders if each.trader == trader]
    say(f"our orders  {len(ours):,}")
    for each in ours:
        side = "bid" if each.is_bid else "ask"
        until = f", until slot {each.last_valid_slot}" if each.last_valid_slot else ""
        say(
            f"  {each.sequence}  {side}  {_units(each.base_atoms, base)} @ "
            f"{_price(place.carrier, each)}{until}"
        )


def cancel_all(path: str, *, number: int | None, dry_run: bool, say: Say) -> bool:
    """Cancel every order of the payer, whether a journal knows it or not.

    Returns
    -------
    bool
        Whether none rests at the end.
    """
    clean = True
    with _places(path, number) as places:
        for place in places:
            clean &= _cancel_all(place, dry_run, say)
    return clean


def _ours(place: _Place) -> list[MarketOrder]:
    trader = place.signer.pubkey
    return [each for each in place.account().orders() if each.trader == trader]


def _cancel_all(place: _Place, dry_run: bool, say: Say) -> bool:
    ours = _ours(place)
    name = f"market {place.market.velox_market}"
    say(f"{name}: {len(ours):,} orders of {place.signer.pubkey} rest")
    builder = TransactionBuilder(place.carrier, place.signer)
    nothing = np.zeros(0, TRANSACTION_DTYPE)
    for _ in range(MOST_ROUNDS):
        if not ours:
            return True
        failed = ""
        for first in range(0, len(ours), CANCELS):
            some = ours[first : first + CANCELS]
            cancels = [Cancel(each.sequence, each.index) for each in some]
            blockhash = place.rpc.get_latest_blockhash()
            arguments = {
                "blockhash": blockhash.hash,
                "last_valid_block_height": blockhash.last_valid_block_height,
                "unit_price": place.config.submit.unit_price,
            }
            if dry_run:
                template = builder.patched(nothing, cancels, **arguments)  # type: ignore[arg-type]
                _simulate(place, template.unsigned(), f"cancel {len(some)} orders", say)
                continue
            built = builder.build(nothing, cancels, **arguments)  # type: ignore[arg-type]
            slot, reason = _follow(place, built)
            failed = reason or failed
            say(
                f"  {built.signature}: "
                + (_named(reason) if reason else f"{len(some)} cancelled in slot {slot}")
            )
        if dry_run:
            return True
        ours = _ours(place)
        if ours and not failed:
            say(f"{name}: {len(ours):,} orders rest again: another program places them")
    say(f"{name}: {len(ours):,} orders still rest")
    return not ours


def claim(path: str, *, number: int | None, dry_run: bool, say: Say) -> bool:
    """Claim a seat; return whether the payer has one."""
    with _one(path, number) as place:
        if place.signer.pubkey in place.account().seats():
            say(f"{place.signer.pubkey} has a seat already")
            return True
        instruction = claim_seat(place.signer.pubkey, place.carrier.spec.market)
        return _execute(place, [instruction], "claim a seat", dry_run=dry_run, say=say)


def fund(
    path: str,
    *,
    number: int | None,
    base: str | None,
    quote: str | None,
    withdraws: bool,
    dry_run: bool,
    say: Say,
) -> bool:
    """Deposit amounts into a market, or withdraw them; return whether it was executed.

    Parameters
    ----------
    path : str
    number : int or None
    base, quote : str or None
        Amounts in units of the token, or ``all``.
    withdraws : bool
    dry_run : bool
    say : callable
    """
    if base is None and quote is None:
        raise ConfigError("--base or --quote is needed: an amount in units of the token, or 'all'")
    with _one(path, number) as place:
        spec, trader = place.carrier.spec, place.signer.pubkey
        seat = place.account().seats().get(trader)
        if seat is None:
            raise MarketError(
                f"trader {trader} has none: claim one first, with `velox claim-seat`",
                market=spec.market,
                field="seat",
            )
        instructions, words = [], []
        for name, text, mint, decimals, free in (
            ("base", base, spec.base_mint, spec.base_decimals, seat.base_atoms),
            ("quote", quote, spec.quote_mint, spec.quote_decimals, seat.quote_atoms),
        ):
            if text is None:
                continue
            wallet, owned, program = _wallet(place, mint)
            there = free if withdraws else owned
            atoms = there if text == "all" else _atoms(name, text, decimals)
            if not 0 < atoms <= there:
                where = "not in orders on the market" if withdraws else f"in the wallet {wallet}"
                raise ConfigError(
                    f"{name} = {text}: {_units(there, decimals)} are {where}; must be above 0 and "
                    "at most that"
                )
            act = withdraw if withdraws else deposit
            instructions.append(
                act(trader, spec.market, mint, wallet, atoms, token_program=program)
            )
            words.append(f"{_units(atoms, decimals)} {name}")
        verb = "withdraw" if withdraws else "deposit"
        what = f"{verb} {' and '.join(words)}"
        return _execute(place, instructions, what, dry_run=dry_run, say=say)


def _atoms(name: str, text: str, decimals: int) -> int:
    """Convert an amount in units into atoms, exactly."""
    try:
        amount = Decimal(text)
        atoms = int(amount.scaleb(decimals))
    except ArithmeticError:
        raise ConfigError(f"{name} = {text!r}: must be a number, or 'all'") from None
    except ValueError:
        raise ConfigError(f"{name} = {text!r}: must be a finite number, or 'all'") from None
    if Decimal(atoms).scaleb(-decimals) != amount:
        raise ConfigError(f"{name} = {text}: has more than {decimals} decimals")
    return atoms


def _wallet(place: _Place, mint: Pubkey) -> tuple[Pubkey, int, Pubkey]:
    """Return the trader's token account of a mint, its atoms, and the token program."""
    found = place.rpc.get_account_info(mint)
    if found is None:
        raise MarketError("does not exist on the chain", market=mint, field="mint")
    key = associated_token_account(place.signer.pubkey, mint, found.owner)
    tokens = place.rpc.get_account_info(key)
    atoms = int.from_bytes(tokens.data[_AMOUNT], "little") if tokens is not None else 0
    return key, atoms, found.owner


def _execute(
    place: _Place,
    instructions: Sequence[Instruction],
    what: str,
    *,
    dry_run: bool,
    say: Say,
) -> bool:
    whole = [
        compute_unit_limit(UNITS * len(instructions)),
        compute_unit_price(place.config.submit.unit_price),
        *instructions,
    ]
    blockhash = place.rpc.get_latest_blockhash()
    if dry_run:
        raw = unsigned_transaction(whole, place.signer.pubkey, blockhash.hash)
        return _simulate(place, raw, what, say)
    built = build_transaction(
        whole,
        place.signer,
        blockhash=blockhash.hash,
        last_valid_block_height=blockhash.last_valid_block_height,
    )
    slot, reason = _follow(place, built)
    say(f"{what}: {_named(reason) if reason else f'done in slot {slot}'}", f"  {built.signature}")
    return not reason


def _follow(place: _Place, built: object) -> tuple[int, str]:
    return send_and_follow(
        place.rpc,
        built,  # type: ignore[arg-type]
        poll_s=place.config.submit.poll_ns / 1e9,
        deadline_s=place.config.deadline_s,
    )


def _simulate(place: _Place, raw: bytes, what: str, say: Say) -> bool:
    found = place.rpc.simulate_transaction(raw, replace_recent_blockhash=True)
    units = "" if found.units_consumed is None else f", {found.units_consumed:,} compute units"
    outcome = "would be executed" if found.err is None else _named(reason_of(found.err))
    say(f"{what}: {outcome}{units}; nothing was signed (--dry-run)")
    return found.err is None


def _named(reason: str) -> str:
    """Return a failure with the meaning of the market's error code."""
    _, found, rest = reason.partition("Custom(")
    code = rest.partition(")")[0]
    meaning = explain_error(int(code)) if found and code.isdigit() else ""
    return f"failed: {reason}: {meaning}" if meaning else f"failed: {reason}"
