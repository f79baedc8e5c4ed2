"""Which markets share transactions, and what a transaction of theirs is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from velox.core.records import TRANSACTION_DTYPE, Kind
from velox.errors import ConfigError
from velox.solana.orders.queue import OrderBatch
from velox.solana.tx.carrier import Carrier, ManifestCarrier
from velox.solana.tx.instructions import Cancel
from velox.solana.tx.signer import Signer
from velox.solana.tx.template import TransactionBuilder

__all__ = ["Route", "Routes", "TransactionPlan"]

Array: TypeAlias = npt.NDArray[np.void]

# A program's answer has 1024 bytes at most: a count, and 12 bytes for each order placed.
MOST_NUMBERED = 85


@dataclass(frozen=True, slots=True)
class TransactionPlan:
    """What a transaction is to do.

    Attributes
    ----------
    orders : ndarray of TRANSACTION_DTYPE, shape (n,)
        The orders that it carries out.
    places : ndarray of TRANSACTION_DTYPE, shape (m,)
        What it places, where the market gives numbers: the ADDs, then what is left of orders that
        are cancelled in part.
    cancels : tuple of int
        The market's numbers of what it cancels.
    """

    orders: Array
    places: Array
    cancels: tuple[int, ...] = ()


class Route:
    """Markets that share transactions: their carrier, and what builds for it.

    Parameters
    ----------
    carrier : Carrier
    signer : Signer
    """

    def __init__(self, carrier: Carrier, signer: Signer) -> None:
        self.carrier = carrier
        self.builder = TransactionBuilder(carrier, signer)
        # Manifest numbers its orders; a memo has the records themselves, cancels among them.
        self.spec = carrier.spec if isinstance(carrier, ManifestCarrier) else None

    def fits(self, records: int, cancels: int, places: int) -> bool:
        """Whether one transaction holds so much."""
        if self.spec is None:
            return self.carrier.fits(records)
        return places <= MOST_NUMBERED and self.carrier.fits(places, cancels)

    def plan(self, pack: OrderBatch) -> TransactionPlan:
        """Say what the transaction of a pack is to do."""
        orders = pack.records()
        if self.spec is None:
            return TransactionPlan(orders, orders[:0])
        rest = np.array(
            [
                (each.id, each.price, left, each.side, Kind.ADD, 0, each.market, 0)
                for each, left in pack.cancels.items()
                if left
            ],
            TRANSACTION_DTYPE,
        )
        places = np.concatenate([orders[orders["kind"] == Kind.ADD], rest])
        cancels = [each.sequence for each in pack.cancels if each.sequence is not None]
        return TransactionPlan(orders, places, tuple(cancels))

    def payload(self, plan: TransactionPlan) -> tuple[Array, list[Cancel]]:
        """Return what the carrier's instruction is made of."""
        if self.spec is None:
            return plan.orders, []
        return plan.places, [Cancel(each) for each in plan.cancels]


class Routes:
    """The lane of every market.

    Parameters
    ----------
    carriers : Carrier or sequence of Carrier
        A `ManifestCarrier` takes the orders of its market, one of another kind all others.
    signer : Signer

    Raises
    ------
    ConfigError
        No carrier, or two for the same market.
    """

    def __init__(self, carriers: Carrier | Sequence[Carrier], signer: Signer) -> None:
        given = [carriers] if isinstance(carriers, Carrier) else list(carriers)
        if not given:
            raise ConfigError("carriers: none is given")
        self._lanes = [Route(each, signer) for each in given]
        general = [index for index, each in enumerate(self._lanes) if each.spec is None]
        if len(general) > 1:
            raise ConfigError(f"carriers: {len(general)} for all markets; at most one can be")
        self.of_market = np.full(256, general[0] if general else -1, np.int64)
        for index, lane in enumerate(self._lanes):
            if lane.spec is not None:
                market = lane.spec.velox_market
                if self.of_market[market] not in (-1, *general):
                    raise ConfigError(f"carriers: two for market {market}")
                self.of_market[market] = index

    def __len__(self) -> int:
        return len(self._lanes)

    def __getitem__(self, index: int) -> Route:
        return self._lanes[index]

    def faults(self, orders: Array) -> list[tuple[str, npt.NDArray[np.bool_]]]:
        """Name the orders that cannot be carried; each mask is of those that the last one left."""
        unknown = self.of_market[orders["market"]] < 0
        orders = orders[~unknown]
        invalid = ~((orders["side"] <= 1) & (orders["price"] > 0) & (orders["size"] > 0))
        orders = orders[~invalid]
        unfit = np.zeros(len(orders), np.bool_)
        for lane in self._lanes:
            if lane.spec is not None:
                mine = orders["market"] == lane.spec.velox_market
                unfit[mine] = ~lane.spec.representable(orders[mine])
        return [("unknown_market", unknown), ("invalid", invalid), ("unrepresentable", unfit)]
