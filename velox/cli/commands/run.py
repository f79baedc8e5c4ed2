"""``velox run``: the pipeline on synthetic flow."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from velox.cli.options import DEFAULT_RATE, LEAST_RATE, add_setting, count
from velox.cli.options import rate as rate_of
from velox.cli.pipeline import add_pipeline_options, configuration, drive
from velox.cli.signals import Signals
from velox.config import PipelineConfig
from velox.errors import ConfigError
from velox.runtime.ingress import Ingress
from velox.runtime.sources import PoissonIngress

__all__ = ["add_run"]

# Flows of lanes share one book, so their ids must differ. See also MarketFlow's `drift`.
IDS_A_LANE = 1 << 48
# Prices stay within this many ticks of the base price, or fewer if the book is narrower.
HALF_WIDTH = 384
DURATION_S = 10.0
# What a chain takes of the flow, and how long a run to a chain is by default.
SUBMITTED_RATE, SUBMITTED_DURATION_S = 1_000.0, 5.0


def add_run(run: argparse.ArgumentParser) -> None:
    """Give ``velox run`` its options."""
    run.add_argument(
        "--rate",
        type=rate_of,
        metavar="N|max",
        help="records a second at Poisson times, 1 to 1e9; 'max': as fast as the pipeline takes "
        f"them (default: {DEFAULT_RATE:g}; with --submit {SUBMITTED_RATE:g}, which a chain takes)",
    )
    run.add_argument(
        "--seed",
        type=count,
        default=0,
        metavar="N",
        help="seed of the flow; the same seed gives the same records (default: %(default)s)",
    )
    add_setting(run, "lanes")
    until = f"{DURATION_S:g}; with --submit {SUBMITTED_DURATION_S:g}"
    add_pipeline_options(run, replays=False, until=until)
    run.set_defaults(command=_run)


def _run(options: argparse.Namespace, signals: Signals) -> int:
    rate = _rate(options)
    if options.duration is None:
        options.duration = DURATION_S if options.submit is None else SUBMITTED_DURATION_S
    config = configuration(options)
    virtual = config.placement == "invoker" and config.clock in ("auto", "virtual")
    if rate == "max" and virtual:
        raise ConfigError(
            "rate = 'max': the virtual clock of placement 'invoker' stands still while there is "
            "work; give a rate, or --clock kernel"
        )
    pace = "as fast as the pipeline takes it" if rate == "max" else f"{rate:,.10g}/s, Poisson"
    source = f"synthetic flow, {pace}, seed {options.seed}"
    if config.lanes > 1:
        source += f", in {config.lanes} lanes"
    return drive(options, signals, config, _flows(options, config), source)


def _rate(options: argparse.Namespace) -> Any:
    """Return the rate that was given, or else the default of where the records go."""
    if options.rate is not None:
        return options.rate
    return DEFAULT_RATE if options.submit is None else SUBMITTED_RATE


def _flows(options: argparse.Namespace, config: PipelineConfig) -> list[Ingress]:
    """Return one flow for each lane. The records of several can interleave in any way."""
    # On the chain a CANCEL names an order, so the records need the ids of their orders.
    market: dict[str, Any] = {"order_ids": True}
    rate = _rate(options)
    if config.shares_book:
        # The window of a shared book does not move.
        market["half_width"] = min(HALF_WIDTH, config.levels // 2 - 1)
    if config.lanes == 1:
        return [PoissonIngress(rate, options.seed, **market)]
    lane_rate = rate if rate == "max" else rate / config.lanes
    if lane_rate != "max" and lane_rate < LEAST_RATE:
        raise ConfigError(
            f"rate = {rate:g}, lanes = {config.lanes}: must be at least 1 for each lane"
        )
    return [
        PoissonIngress(lane_rate, seed, drift=False, first_id=1 + lane * IDS_A_LANE, **market)
        for lane, seed in enumerate(np.random.SeedSequence(options.seed).spawn(config.lanes))
    ]
