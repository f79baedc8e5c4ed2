"""Which books a pipeline needs, where nobody says: what its ingresses trade in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from velox.core.book import Books, OrderBook
from velox.core.instrument import Instrument
from velox.errors import ConfigError
from velox.runtime.config import PipelineConfig
from velox.runtime.ingress import Ingress, PoissonIngress, ReplayIngress

__all__ = ["books_for"]


def books_for(
    ingresses: Sequence[Ingress],
    config: PipelineConfig,
    *,
    given: Books | OrderBook | Sequence[Instrument] | None = None,
) -> Books:
    """Make the books of a pipeline.

    Parameters
    ----------
    ingresses : sequence of Ingress
    config : PipelineConfig
        `levels`, `writers`, `on_cross` and `publish` are read, the first only for a market that no
        instrument describes.
    given : Books, OrderBook, or sequence of Instrument, optional
        What the caller has already; books are taken as they are.

    Returns
    -------
    Books

    Raises
    ------
    ConfigError
        A book with several writers needs a window, and nothing says where.
    BookError
        An instrument or a setting does not fit a book.
    """
    if isinstance(given, (Books, OrderBook)):
        return _checked(given if isinstance(given, Books) else Books([given]), config)
    instruments = given if given is not None else _instruments(ingresses, config)
    books = Books(
        [
            OrderBook.from_instrument(
                each,
                writers=config.writers,
                base_price=_window_base(each, ingresses) if config.writers > 1 else None,
                on_cross=config.on_cross,
                publish=config.publish,
            )
            for each in instruments
        ]
    )
    return _checked(books, config)


def _checked(books: Books, config: PipelineConfig) -> Books:
    if len(books) == 0:
        raise ConfigError("books: there is none; a pipeline needs at least one")
    for book in books.values():
        if config.lanes > 1 and book.writers == 1:
            raise ConfigError(
                f"books: {book.name!r} allows one writer, and lanes = {config.lanes} need "
                "OrderBook(writers='n', base_price=...)"
            )
    return books


def _instruments(ingresses: Sequence[Ingress], config: PipelineConfig) -> list[Instrument]:
    """Say what the ingresses trade in; a price step of 1e-4 where nobody knows."""
    found: dict[int, Instrument] = {}
    for ingress in ingresses:
        if isinstance(ingress, PoissonIngress):
            market, tick = ingress.market, ingress.tick_size
            found[market] = Instrument(market=market, tick_size=tick, levels=config.levels)
        elif isinstance(ingress, ReplayIngress):
            for market in np.unique(ingress.transactions["market"]).tolist():
                found.setdefault(market, Instrument(market=market, levels=config.levels))
    return list(found.values()) or [Instrument(levels=config.levels)]


def _window_base(instrument: Instrument, ingresses: Sequence[Ingress]) -> int:
    """Where the fixed window of a shared book begins: around the middle of what will come."""
    middles = []
    for ingress in ingresses:
        if isinstance(ingress, PoissonIngress) and ingress.market == instrument.market:
            middles.append(ingress.base_price)
        elif isinstance(ingress, ReplayIngress):
            mine = ingress.transactions["market"] == instrument.market
            prices = ingress.transactions["price"][mine]
            prices = prices[prices > 0]
            if len(prices):
                # Not the middle of the range: a book's far ends are far indeed.
                middles.append(int(np.median(prices)))
    if not middles:
        raise ConfigError(
            f"market {instrument.market}: a book with several writers needs a base_price; "
            "pass books=OrderBook(...)"
        )
    middle = sum(middles) // len(middles) // instrument.tick_size
    return int(max(1, middle - instrument.levels // 2) * instrument.tick_size)
