"""``velox localnet``: serve a local cluster until it is interrupted.

Heavy imports wait until the command runs, so that its help is quick.
"""

from __future__ import annotations

import argparse
import threading
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from velox.cli.screen import Say
from velox.errors import ConfigError
from velox.runtime.markets import priced_markets
from velox.runtime.placement import counted
from velox.runtime.sources import PoissonIngress

if TYPE_CHECKING:
    from velox.testing.cluster import LocalCluster
    from velox.testing.faults import FaultPlan
    from velox.testing.venue import MarketPlan

__all__ = ["add_options", "run"]

LAMPORT_DIGITS = 9
MOST_SOL = 9_000_000_000
MOST_ACTIONS = 10_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the parser of the ``localnet`` command its options."""
    parser.add_argument(
        "--port",
        type=int,
        default=8899,
        metavar="N",
        help="port of RPC and block engine; the websocket takes the next; 0 for any (8899)",
    )
    parser.add_argument(
        "--slot-ms",
        type=float,
        default=400.0,
        metavar="MS",
        help="length of a slot in milliseconds (400)",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=1.0,
        metavar="N",
        help="requests a second that the block engine takes from a client; 0 for no limit (1)",
    )
    parser.add_argument(
        "--program",
        action="append",
        default=[],
        metavar="ADDRESS=FILE",
        help="load a program from an ELF file; may be repeated",
    )
    parser.add_argument(
        "--fund",
        action="append",
        default=[],
        metavar="PUBKEY=SOL",
        help="give an account SOL; may be repeated",
    )
    parser.add_argument(
        "--market",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run an order book at Manifest's address, with counterparties that trade on it "
        "(default: with a market)",
    )
    parser.add_argument(
        "--trader",
        action="append",
        default=[],
        metavar="PUBKEY",
        help="give a trader SOL, a seat and deposits on the market; may be repeated",
    )
    parser.add_argument(
        "--crowd",
        type=float,
        metavar="N",
        help="actions of the counterparties a second; 0 for none (20)",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=RATE",
        help="inject a fault with a probability, such as dropped=0.1; may be repeated",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of blockhashes, keys, faults and counterparties (0)",
    )
    parser.add_argument(
        "--duration",
        type=float,
        metavar="S",
        help="stop after this many seconds (default: run until interrupted)",
    )


def run(options: argparse.Namespace, say: Say) -> int:
    """Serve until ``options.duration`` is over or KeyboardInterrupt is raised.

    Parameters
    ----------
    options : argparse.Namespace
        The options of `add_options`.
    say : callable
        Prints lines.

    Returns
    -------
    int
        The exit status: 0.

    Raises
    ------
    ConfigError
        An option is out of range; the message names it and its value.
    LocalnetError
        A port is in use, or a program cannot be loaded.
    """
    from velox.testing import LocalCluster  # noqa: PLC0415 - it loads a virtual machine

    if options.duration is not None and not 0 < options.duration <= 1e9:
        raise ConfigError(f"duration = {options.duration!r}: must be above 0, at most 1e9 seconds")
    if not 1 <= options.slot_ms <= 1e9:
        raise ConfigError(f"slot-ms = {options.slot_ms!r}: must be 1 to 1e9")
    if not 0 <= options.rate <= 1e9:
        raise ConfigError(f"rate = {options.rate!r}: must be 0 to 1e9")
    programs = dict(_pair("program", text) for text in options.program)
    funds = [(each, _lamports(sol)) for each, sol in (_pair("fund", t) for t in options.fund)]
    market = _market_plan(options)
    traders = [_pubkey("trader", text, text) for text in options.trader]
    with LocalCluster(
        slots="real",
        slot_ns=round(options.slot_ms * 1e6),
        faults=_plan(options),
        programs=programs,
        port=options.port,
        seed=options.seed,
        rate_per_s=options.rate or None,
        market=market or False,
    ) as cluster:
        for pubkey, lamports in funds:
            cluster.fund(pubkey, lamports)
        for trader in traders:
            cluster.market.admit(trader)
        try:
            say(*_opening(cluster, with_market=market is not None))
            threading.Event().wait(options.duration)
        except KeyboardInterrupt:
            say("")
        say(*_closing(cluster))
    return 0


def _opening(cluster: LocalCluster, *, with_market: bool) -> list[str]:
    market = []
    if with_market:
        spec = cluster.market.spec
        market = [
            f"market        {spec.market}",
            f"base mint     {spec.base_mint}, {spec.base_decimals} decimals",
            f"quote mint    {spec.quote_mint}, {spec.quote_decimals} decimals",
            "For the configuration of --submit:",
            "    [[market]]",
            f'    market = "{spec.market}"',
            f'    base_mint = "{spec.base_mint}"',
            f'    quote_mint = "{spec.quote_mint}"',
            f"    base_decimals = {spec.base_decimals}",
            f"    quote_decimals = {spec.quote_decimals}",
            f"    lot_atoms = {spec.lot_atoms}",
            f"    tick_size = {spec.tick_size}",
            '    order_type = "limit"',
        ]
    return [
        f"rpc           {cluster.url}",
        f"websocket     {cluster.ws_url}",
        f"block engine  {cluster.block_engine_url}/api/v1/",
        f"faucet        requestAirdrop, from {cluster.faucet.pubkey()}",
        "tip accounts  " + "\n              ".join(map(str, cluster.tip_accounts)),
        *market,
        "Ctrl-C stops it.",
    ]


def _closing(cluster: LocalCluster) -> list[str]:
    executions, bundles = cluster.executions, cluster.bundles.values()
    failed = sum(each.err is not None for each in executions)
    landed = sum(each.landed_slot is not None for each in bundles)
    return [
        f"slot {cluster.slot}, block height {cluster.block_height}",
        f"{counted(len(executions), 'transaction')} executed, {failed} of them failed",
        f"{counted(len(bundles), 'bundle')} accepted, {landed} of them landed",
        f"{counted(len(cluster.strikes), 'fault')} struck",
    ]


def _plan(options: argparse.Namespace) -> FaultPlan:
    from velox.testing import Fault, FaultPlan  # noqa: PLC0415

    rates = {}
    for text in options.fault:
        name, _, rate = text.partition("=")
        try:
            rates[Fault(name)] = float(rate)
        except ValueError:
            known = ", ".join(Fault)
            raise ConfigError(
                f"fault = {text!r}: must be NAME=RATE, a probability; names are {known}"
            ) from None
        if not 0.0 <= rates[Fault(name)] <= 1.0:
            raise ConfigError(f"fault = {text!r}: {rate} is not a probability from 0 to 1")
    return FaultPlan(options.seed, rates)


def _pair(option: str, text: str) -> tuple[Any, str]:
    name, equals, value = text.partition("=")
    pubkey = _pubkey(option, text, name)
    if not equals or not value:
        raise ConfigError(f"{option} = {text!r}: must be PUBKEY=VALUE")
    return pubkey, value


def _pubkey(option: str, text: str, name: str) -> Any:
    from solders.pubkey import Pubkey  # noqa: PLC0415

    try:
        return Pubkey.from_string(name)
    except ValueError as error:
        raise ConfigError(f"{option} = {text!r}: {name!r} is not a public key: {error}") from None


def _market_plan(options: argparse.Namespace) -> MarketPlan | None:
    from velox.testing import MarketPlan  # noqa: PLC0415

    if not options.market:
        for name in ("trader", "crowd"):
            value = getattr(options, name)
            if value not in (None, []):
                raise ConfigError(f"{name} = {value!r}: needs a market; drop --no-market")
        return None
    # Trading begins where the synthetic flow of `velox run` does, so that they meet.
    ((instrument, price),) = priced_markets([PoissonIngress()])
    plan = MarketPlan.of(instrument, price)
    if options.crowd is None:
        return plan
    if not 0 <= options.crowd <= MOST_ACTIONS:
        raise ConfigError(f"crowd = {options.crowd!r}: must be 0 to {MOST_ACTIONS}")
    return replace(plan, crowd_rate_per_s=options.crowd)


def _lamports(sol: str) -> int:
    try:
        amount = Decimal(sol)
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite():
        raise ConfigError(f"fund = {sol!r}: must be a number of SOL")
    if not 0 <= amount <= MOST_SOL:
        raise ConfigError(f"fund = {sol!r}: must be 0 to 9 billion SOL")
    lamports = int(amount.scaleb(LAMPORT_DIGITS))
    if Decimal(lamports).scaleb(-LAMPORT_DIGITS) != amount:
        raise ConfigError(f"fund = {sol!r}: must be a whole number of lamports, of 1e-9 SOL each")
    return lamports
