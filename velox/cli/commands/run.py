"""``velox run``: the pipeline on synthetic flow."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from velox.cli.options import LEAST_RATE, count, integer, rate
from velox.cli.pipeline import add_pipeline_options, configuration, drive
from velox.cli.signals import Signals
from velox.config import PipelineConfig
from velox.errors import ConfigError
from velox.runtime.ingress import Ingress
from velox.runtime.sources import PoissonIngress

__all__ = ["add_run"]

# What the lanes' flows need to share one book: ids apart, see also MarketFlow's `drift`.
IDS_A_LANE = 1 << 48
# Ticks that prices of a generated market keep within of its base price, unless a book is narrower.
HALF_WIDTH = 384


def add_run(run: argparse.ArgumentParser) -> None:
    """Give ``velox run`` its options."""
    run.add_argument(
        "--rate",
        type=rate,
        default=100_000.0,
        metavar="N|max",
        help="transactions a second, 1 to 1e9, Poisson; 'max': as fast as they are taken (100000)",
    )
    run.add_argument(
        "--seed",
        type=count,
        default=0,
        metavar="N",
        help="the same seed gives the same transactions (0)",
    )
    run.add_argument(
        "--lanes",
        type=integer,
        default=1,
        metavar="N",
        help="ingresses and book stages side by side, which share one book and the rate (1)",
    )
    add_pipeline_options(run, duration=10.0)
    run.set_defaults(command=_run)


def _run(options: argparse.Namespace, signals: Signals) -> int:
    config = configuration(options, lanes=options.lanes)
    virtual = options.placement == "invoker" and config.clock in ("auto", "virtual")
    if options.rate == "max" and virtual:
        raise ConfigError(
            "rate = 'max': in placement 'invoker' time passes only while there is nothing to do; "
            "give a rate, or --clock kernel"
        )
    pace = "as fast as it is taken" if options.rate == "max" else f"{options.rate:,.10g}/s, Poisson"
    source = f"synthetic flow, {pace}, seed {options.seed}"
    if config.lanes > 1:
        source += f", in {config.lanes} lanes"
    return drive(options, signals, config, _flows(options, config), source)


def _flows(options: argparse.Namespace, config: PipelineConfig) -> list[Ingress]:
    """One flow, or one a lane whose orders can interleave in any way."""
    # What leaves may be sent to the chain, now or from a capture: a CANCEL there means an order.
    market: dict[str, Any] = {"order_ids": True}
    if config.shares_book:
        # The window of a shared book stays where it is.
        market["half_width"] = min(HALF_WIDTH, config.levels // 2 - 1)
    if config.lanes == 1:
        return [PoissonIngress(options.rate, options.seed, **market)]
    lane_rate = options.rate if options.rate == "max" else options.rate / config.lanes
    if lane_rate != "max" and lane_rate < LEAST_RATE:
        raise ConfigError(
            f"rate = {options.rate:g}, lanes = {config.lanes}: must be at least 1 for each lane"
        )
    return [
        PoissonIngress(lane_rate, seed, drift=False, first_id=1 + lane * IDS_A_LANE, **market)
        for lane, seed in enumerate(np.random.SeedSequence(options.seed).spawn(config.lanes))
    ]
