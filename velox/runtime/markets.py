"""Makes the books of a pipeline, from the caller's arguments or from the ingresses' instruments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import gcd

import numpy as np
import numpy.typing as npt

from velox.config import PipelineConfig
from velox.core.instrument import Instrument
from velox.core.order_book import Books, OrderBook
from velox.errors import ConfigError
from velox.runtime.ingress import Ingress

__all__ = ["books_for", "priced_markets", "refuse_other_scales"]

# Decimals of the prices that strategies and the chain take: neither is told how many.
USUAL_DECIMALS = 4


def refuse_other_scales(markets: Iterable[Instrument | OrderBook], *, field: str) -> None:
    """Refuse markets whose prices would be taken for prices of another scale.

    Parameters
    ----------
    markets : iterable of Instrument or OrderBook
    field : str
        What takes prices of 4 decimals only, for the error.

    Raises
    ------
    ConfigError
        A market has another scale.
    """
    for each in markets:
        if each.price_decimals != USUAL_DECIMALS:
            raise ConfigError(
                f"takes prices of {USUAL_DECIMALS} decimals only, and market {each.name!r} has "
                f"price_decimals = {each.price_decimals}",
                field=field,
            )


def priced_markets(
    ingresses: Sequence[Ingress], given: Sequence[Instrument] = ()
) -> list[tuple[Instrument, int | None]]:
    """Return what ingresses trade in, each with the middle of its prices.

    Parameters
    ----------
    ingresses : sequence of Ingress
    given : sequence of Instrument, optional
        What they trade in, if the caller knows; by default what they say.

    Returns
    -------
    list of (Instrument, int or None)
        None if an ingress does not know the price.
    """
    known = {each.market: each for ingress in ingresses for each in ingress.instruments}
    return [
        (each, next(iter(_middles(each.market, ingresses)), None))
        for each in given or known.values()
    ]


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
        `levels`, `writers`, `on_cross`, `publish` and `huge_pages` are read, the first only for a
        market that no instrument describes.
    given : Books, OrderBook, or sequence of Instrument, optional
        What the caller passed. Books are used as they are.

    Returns
    -------
    Books

    Raises
    ------
    ConfigError
        A book with several writers needs a window, and no base price is known for it.
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
                base_price=_window_base(each, ingresses) if config.shares_book else None,
                on_cross=config.on_cross,
                publish=config.publish,
                huge_pages=config.huge_pages,
            )
            for each in instruments
        ]
    )
    return _checked(books, config)


def _checked(books: Books, config: PipelineConfig) -> Books:
    if len(books) == 0:
        raise ConfigError("empty; a pipeline needs at least one book", field="books")
    for book in books.values():
        if config.lanes > 1 and book.writers == 1:
            raise ConfigError(
                f"{book.name!r} allows one writer, and lanes = {config.lanes} need "
                "OrderBook(writers='n', base_price=...)",
                field="books",
            )
    return books


def _instruments(ingresses: Sequence[Ingress], config: PipelineConfig) -> list[Instrument]:
    """Say what the ingresses trade in. A market that nothing describes has a step of 1e-4."""
    markets: dict[int, Instrument] = {}
    for ingress in ingresses:
        for each in ingress.instruments:
            other = markets.get(each.market)
            if other is not None and other.price_decimals != each.price_decimals:
                raise ConfigError(
                    f"market {each.market} has {other.price_decimals} price decimals from one "
                    f"ingress and {each.price_decimals} from another",
                    field="price_decimals",
                )
            tick = gcd(each.tick_size, other.tick_size if other else 0)
            markets[each.market] = replace(each, tick_size=tick, levels=config.levels)
    # Python code may push any price, so a recording beside it says nothing about the step.
    all_known = all(each.instruments or each.recorded is not None for each in ingresses)
    for ingress in ingresses:
        if (recorded := ingress.recorded) is None:
            continue
        for market in np.unique(recorded["market"]).tolist():
            known = markets.get(market)
            if known is not None and not all_known:
                continue
            tick = 1
            if all_known:
                prices = recorded["price"][recorded["market"] == market]
                tick = _common_step(prices, known.tick_size if known else 0)
            markets[market] = (
                replace(known, tick_size=tick)
                if known
                else Instrument(market=market, tick_size=tick, levels=config.levels)
            )
    return list(markets.values()) or [Instrument(levels=config.levels)]


def _common_step(prices: npt.NDArray[np.int64], known: int) -> int:
    """Return the largest step that divides all prices above 0, and `known` unless that is 0.

    A book with a smaller step holds the same levels, but most of them lie outside its window.
    """
    prices = prices[prices > 0]
    step = int(np.gcd.reduce(prices[:1024], initial=known))
    # If the step does not divide a price, the new step is at most half of it. One pass is usually
    # enough.
    while step > 1 and (others := prices[prices // step * step != prices]).size:
        step = gcd(step, int(others[0]))
    return step or 1


def _middles(market: int, ingresses: Sequence[Ingress]) -> list[int]:
    """Return the middle prices of a market, from the ingresses that know one."""
    return [middle for ingress in ingresses if (middle := ingress.middle_price(market)) is not None]


def _window_base(instrument: Instrument, ingresses: Sequence[Ingress]) -> int:
    """Return the begin of a shared book's window, so that the prices lie in its middle."""
    middles = _middles(instrument.market, ingresses)
    if not middles:
        raise ConfigError(
            f"market {instrument.market} needs a base_price, since its book has several writers; "
            "pass books=OrderBook(...)",
            field="books",
        )
    middle = sum(middles) // len(middles) // instrument.tick_size
    return int(max(1, middle - instrument.levels // 2) * instrument.tick_size)
