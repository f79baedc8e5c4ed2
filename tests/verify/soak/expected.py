"""What a run must come to, computed without a pipeline: records through plain books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from velox import TRANSACTION_DTYPE, Books, Kind, MarketFlow, OrderBook, Rejection, Side

from .draws import IDS_OF_A_LANE, Draw

__all__ = ["Expected", "books_of", "expect", "flow_of", "records_of"]

Array = npt.NDArray[np.void]

TICK = 100
MIDDLE = 1_000_000
# Emissions of one call, at most; see velox/strategy.h.
ROOM = 16
# Regenerating more than this takes longer than the run did.
MOST_REGENERATED = 2_000_000


def market_of(draw: Draw, lane: int) -> int:
    return lane if draw.markets == "own" else 0


def books_of(draw: Draw) -> Books:
    """Books for a draw's pipeline, or for the comparison with it."""
    config = draw.config
    several = config.get("writers", 1) > 1
    levels = config.get("levels", 1024)
    return Books(
        [
            OrderBook(
                levels,
                TICK,
                MIDDLE - levels // 2 * TICK if several else None,
                writers="n" if several else 1,
                on_cross=config.get("on_cross", "count"),
                publish=config.get("publish", "record"),
                market=market,
            )
            for market in sorted({market_of(draw, lane) for lane in range(draw.lanes)})
        ]
    )


def flow_of(draw: Draw, lane: int) -> MarketFlow:
    """The market of a lane: the same one that its `PoissonIngress` makes."""
    rate = draw.rate if draw.ingress == "poisson" and draw.rate != "max" else 1e9
    return MarketFlow(seed_of(draw, lane), rate=float(rate), **market_options(draw, lane))


def seed_of(draw: Draw, lane: int) -> int:
    return draw.seed * 1_000_003 + draw.index * 101 + lane


def market_options(draw: Draw, lane: int) -> dict[str, Any]:
    return {
        "market": market_of(draw, lane),
        "tick_size": TICK,
        "base_price": MIDDLE,
        "first_id": lane * IDS_OF_A_LANE + 1,
    }


def records_of(draw: Draw, lane: int) -> Array:
    """A recording of a synthetic market, with invalid records at random places."""
    records = flow_of(draw, lane).generate(draw.length)
    generator = np.random.default_rng([draw.seed, draw.index, lane])
    for field, wrong in (
        ("kind", [Kind.SET, Kind.DELETE, Kind.CLEAR, Kind.TRADE, Kind.SET_WIDE, 8, 255]),
        ("side", [2, 255]),
        ("price", [0, -TICK, MIDDLE + 1, TICK, 2**63 - 1, -(2**63)]),
        ("size", [0, 1, 2**32 - 1]),
        ("market", [200]),
        ("flags", [128]),
    ):
        where = generator.random(len(records)) < 0.003
        records[field][where] = generator.choice(
            np.array(wrong, records.dtype[field]), int(where.sum())
        )
    records["ingress_ts_ns"] = 1_000 + np.cumsum(generator.integers(0, 400, len(records)))
    return records


def replayed(records: Array, generated: int) -> Array:
    """The first `generated` transactions of a recording that is replayed again and again."""
    markets = np.unique(records["market"])
    clears = np.zeros(2 * len(markets), TRANSACTION_DTYPE)
    clears["kind"] = Kind.CLEAR
    clears["market"] = np.repeat(markets, 2)
    clears["side"] = np.tile([Side.BID, Side.ASK], len(markets))
    again = np.concatenate([clears, records])
    passes = max(0, -(-(generated - len(records)) // len(again)))
    return np.concatenate([records, *[again] * passes])[:generated]


@dataclass(frozen=True)
class Expected:
    """What follows from the transactions that entered; of all lanes together.

    Attributes
    ----------
    applied : int
    rejected : dict of str to int
    emitted : list of ndarray
        One a lane, in order.
    books : Books
        As they must be at the end.
    """

    applied: int
    rejected: dict[str, int]
    emitted: list[Array]
    books: Books


def expect(draw: Draw, entered: list[Array]) -> Expected:
    """Compute what a run must come to.

    Parameters
    ----------
    draw : Draw
        Of one lane, or of lanes that share no market.
    entered : list of ndarray
        What entered each lane's first ring, in order.
    """
    books = books_of(draw)
    applied = 0
    rejected = {reason.name.lower(): 0 for reason in Rejection}
    emitted = []
    for records in entered:
        statuses = np.zeros(len(records), np.uint8)
        books.apply(records, statuses)
        for reason in Rejection:
            rejected[reason.name.lower()] += int((statuses == reason).sum())
        taken = records[statuses == 0]
        applied += len(taken)
        emitted.append(emissions(draw, taken))
    return Expected(applied, rejected, emitted, books)


def emissions(draw: Draw, applied: Array) -> Array:
    """What the strategy makes of the applied transactions, until it fails."""
    if draw.fails_at:
        applied = applied[: draw.fails_at - 1]
    if draw.fan <= 0:
        return applied
    copies = np.minimum(applied["id"] % np.uint64(draw.fan), ROOM).astype(np.intp)
    return np.repeat(applied, copies)
