"""``velox localnet``: a cluster of one's own, until it is interrupted.

Nothing heavy is imported before the command runs: its options are asked for in its help, too.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from velox.errors import ConfigError

if TYPE_CHECKING:
    from velox.testing.cluster import LocalCluster
    from velox.testing.faults import FaultPlan

__all__ = ["add_options", "run"]

LAMPORT_DIGITS = 9
MOST_SOL = 9_000_000_000

Say = Callable[..., None]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the parser of the ``localnet`` command its options."""
    parser.add_argument(
        "--port",
        type=int,
        default=8899,
        metavar="N",
        help="of RPC and block engine; the websocket is at the next one; 0: any (8899)",
    )
    parser.add_argument(
        "--slot-ms", type=float, default=400.0, metavar="MS", help="length of a slot (400)"
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=1.0,
        metavar="N",
        help="requests a second that the block engine takes from a client; 0: any number (1)",
    )
    parser.add_argument(
        "--program",
        action="append",
        default=[],
        metavar="PUBKEY=PATH",
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
        "--fault",
        action="append",
        default=[],
        metavar="NAME=RATE",
        help="let a fault strike with a probability, as in dropped=0.1; may be repeated",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of blockhashes and of faults (0)"
    )
    parser.add_argument(
        "--duration", type=float, metavar="S", help="seconds (until it is interrupted)"
    )


def run(options: argparse.Namespace, say: Say) -> int:
    """Serve until ``options.duration`` is over or KeyboardInterrupt is raised.

    Parameters
    ----------
    options : argparse.Namespace
        Those of `add_options`.
    say : callable
        Takes lines for a person to read.

    Returns
    -------
    int
        The exit status: 0.

    Raises
    ------
    ConfigError
        An option that cannot be used; the message names it and its value.
    LocalnetError
        A port that is taken, a program that cannot be loaded.
    """
    from velox.testing import LocalCluster  # noqa: PLC0415, it loads a virtual machine

    if options.duration is not None and not 0 < options.duration <= 1e9:
        raise ConfigError(f"duration = {options.duration!r}: must be above 0, at most 1e9 seconds")
    if not 1 <= options.slot_ms <= 1e9:
        raise ConfigError(f"slot-ms = {options.slot_ms!r}: must be 1 to 1e9")
    if not 0 <= options.rate <= 1e9:
        raise ConfigError(f"rate = {options.rate!r}: must be 0 to 1e9")
    programs = dict(_pair("program", text) for text in options.program)
    funds = [(each, _lamports(sol)) for each, sol in (_pair("fund", t) for t in options.fund)]
    with LocalCluster(
        slots="real",
        slot_ns=round(options.slot_ms * 1e6),
        faults=_plan(options),
        programs=programs,
        port=options.port,
        seed=options.seed,
        rate_per_s=options.rate or None,
    ) as cluster:
        for pubkey, lamports in funds:
            cluster.fund(pubkey, lamports)
        try:
            say(*_opening(cluster))
            threading.Event().wait(options.duration)
        except KeyboardInterrupt:
            say("")
        say(*_closing(cluster))
    return 0


def _opening(cluster: LocalCluster) -> list[str]:
    return [
        f"rpc           {cluster.url}",
        f"websocket     {cluster.ws_url}",
        f"block engine  {cluster.block_engine_url}/api/v1/",
        f"faucet        requestAirdrop, from {cluster.faucet.pubkey()}",
        "tip accounts  " + "\n              ".join(map(str, cluster.tip_accounts)),
        "Ctrl-C stops it.",
    ]


def _closing(cluster: LocalCluster) -> list[str]:
    executions, bundles = cluster.executions, cluster.bundles.values()
    failed = sum(each.err is not None for each in executions)
    landed = sum(each.landed_slot is not None for each in bundles)
    return [
        f"slot {cluster.slot}, block height {cluster.block_height}",
        f"{_count(len(executions), 'transaction')} executed, {failed} of them failed",
        f"{_count(len(bundles), 'bundle')} accepted, {landed} of them landed",
        f"{_count(len(cluster.strikes), 'fault')} struck",
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
            raise ConfigError(f"fault = {text!r}: {rate} is no probability, 0 to 1")
    return FaultPlan(options.seed, rates)


def _pair(option: str, text: str) -> tuple[Any, str]:
    from solders.pubkey import Pubkey  # noqa: PLC0415

    name, equals, value = text.partition("=")
    try:
        pubkey = Pubkey.from_string(name)
    except ValueError as error:
        raise ConfigError(f"{option} = {text!r}: {name!r} is no public key: {error}") from None
    if not equals or not value:
        raise ConfigError(f"{option} = {text!r}: must be PUBKEY=VALUE")
    return pubkey, value


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
        raise ConfigError(f"fund = {sol!r}: is no whole number of lamports, of 1e-9 SOL each")
    return lamports
