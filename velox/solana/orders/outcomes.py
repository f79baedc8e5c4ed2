"""The outcome of every order, and the ledger that accounts for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from velox.errors import LedgerError
from velox.runtime.ledger import Equation

__all__ = ["ChainLedger", "Observer", "Outcome", "Tally"]

_TRANSACTIONS = ("signed", "recovered", "landed", "failed", "expired", "unknown")


class Outcome(IntEnum):
    """How an order ended. Each order of kind ADD or CANCEL ends in exactly one of these."""

    LANDED = 0
    """The chain executed its transaction."""
    FAILED = 1
    """It was refused before it was sent, or its transaction was executed with an error."""
    EXPIRED = 2
    """Its transaction can never execute: the blockhash is too old, and the history lacks it."""
    UNKNOWN = 3
    """The chain did not answer in time. The journal keeps it, so that it can be asked again."""
    CONFLATED = 4
    """A later order replaced or cancelled it unsent, or it cancelled an earlier unsent one."""
    SHED = 5
    """The queue was full, or submission stopped before it was sent."""


# tickets, their outcome, and the reason if the outcome alone does not tell it
Observer: TypeAlias = Callable[[Sequence[int] | npt.NDArray[np.uint64], Outcome, str], None]


@dataclass(frozen=True, slots=True)
class ChainLedger:
    """Counts of orders, and of the Solana transactions that carried them.

    Attributes
    ----------
    delivered : int
        Records that the submitter took in.
    recovered : int
        Orders from the journal, which an earlier process sent without learning their outcome.
    market_data : int
        Delivered records that are not orders.
    landed, expired, unknown, conflated, shed : int
        Orders, by `Outcome`.
    failed : dict of str to int
        Orders that failed, by reason.
    transactions : dict of str to int
        Solana transactions: ``signed`` now, or ``recovered`` from the journal; and by outcome:
        ``landed``, ``failed``, ``expired``, ``unknown``.
    sends : int
        Requests that sent transactions, resends included.
    fee_lamports, tip_lamports : int
        Spent on executed transactions, as the transactions state it.
    rent_lamports : int
        What the payer paid beside, as the chain states it: rent for accounts that grew.
    """

    delivered: int = 0
    recovered: int = 0
    market_data: int = 0
    landed: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    expired: int = 0
    unknown: int = 0
    conflated: int = 0
    shed: int = 0
    transactions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TRANSACTIONS, 0))
    sends: int = 0
    fee_lamports: int = 0
    tip_lamports: int = 0
    rent_lamports: int = 0

    def equations(self, *, delivered_transactions: int | None = None) -> list[Equation]:
        """Return the equations that must hold once the submitter is closed.

        Parameters
        ----------
        delivered_transactions : int, optional
            The count in the pipeline's own ledger.
        """
        left = "delivered + recovered" if self.recovered else "delivered"
        signed = self.transactions
        equations = [
            Equation(
                f"{left} = market_data + landed + failed + expired + unknown + conflated + shed",
                self.delivered + self.recovered,
                self.market_data + self._ended,
            ),
            Equation(
                "transactions signed or recovered = landed + failed + expired + unknown",
                signed["signed"] + signed["recovered"],
                sum(signed[name] for name in ("landed", "failed", "expired", "unknown")),
            ),
        ]
        if delivered_transactions is not None:
            equations.insert(
                0,
                Equation(
                    "delivered_transactions = chain delivered",
                    delivered_transactions,
                    self.delivered,
                ),
            )
        return equations

    @property
    def _ended(self) -> int:
        known = self.landed + sum(self.failed.values()) + self.expired
        return known + self.unknown + self.conflated + self.shed

    @property
    def outstanding(self) -> int:
        """int: Orders without an outcome: queued, or in flight."""
        return self.delivered + self.recovered - self.market_data - self._ended

    @property
    def balanced(self) -> bool:
        """bool: Whether all `equations` hold."""
        return all(each.holds for each in self.equations())

    def check(self, *, delivered_transactions: int | None = None) -> None:
        """Raise an error if an equation does not hold.

        Raises
        ------
        LedgerError
            The message lists each failing equation with both numbers.
        """
        equations = self.equations(delivered_transactions=delivered_transactions)
        failing = [each for each in equations if not each.holds]
        if failing:
            raise LedgerError("the chain ledger does not balance: " + "; ".join(map(str, failing)))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and `balanced` as a dictionary for JSON."""
        values: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            values[each.name] = dict(value) if isinstance(value, dict) else value
        values["balanced"] = self.balanced
        return values

    def format(self) -> str:
        """Return an aligned table for a terminal; `str` returns the same."""
        rows = [
            ("to the chain", self.delivered),
            *((("  recovered", self.recovered),) if self.recovered else ()),
            ("  market data", self.market_data),
            ("  landed", self.landed),
            ("  failed", sum(self.failed.values())),
            *(("    " + reason, count) for reason, count in sorted(self.failed.items()) if count),
            ("  expired", self.expired),
            ("  unknown", self.unknown),
            ("  conflated", self.conflated),
            ("  shed", self.shed),
            ("signed transactions", self.transactions["signed"]),
            *(
                ("  " + name, self.transactions[name])
                for name in ("recovered", "landed", "failed", "expired", "unknown")
            ),
            ("requests that sent", self.sends),
            ("lamports spent", self.fee_lamports + self.tip_lamports + self.rent_lamports),
        ]
        label_width = max(len(label) for label, _ in rows)
        count_width = max(len(f"{count:,}") for _, count in rows)
        lines = [f"{label:<{label_width}}  {count:>{count_width},}" for label, count in rows]
        failing = [each for each in self.equations() if not each.holds]
        lines.append(f"{'balanced':<{label_width}}  {'no' if failing else 'yes':>{count_width}}")
        lines += [f"  {each}" for each in failing]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.format()


class Tally:
    """Counts outcomes as they happen. `ledger` returns a snapshot.

    Parameters
    ----------
    observer : callable, optional
        Called for each outcome, as ``observer(tickets, outcome, reason)``. A ticket is the position
        of an order among all that were taken in, from 0. Orders recovered from a journal have none.

    Notes
    -----
    Thread-safety: any thread may call any method. The observer is called outside the lock, by the
    thread that learned of the outcome.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        self._observer = observer
        self._lock = threading.Lock()
        self._counts = {
            each.name: 0
            for each in fields(ChainLedger)
            if each.name not in ("failed", "transactions")
        }
        self._failed: dict[str, int] = {}
        self._transactions = dict.fromkeys(_TRANSACTIONS, 0)

    def add(self, name: str, count: int = 1) -> None:
        """Add `count` to a field of `ChainLedger`."""
        with self._lock:
            self._counts[name] += count

    def transaction(self, name: str, count: int = 1) -> None:
        """Add `count` to a key of ``ChainLedger.transactions``."""
        with self._lock:
            self._transactions[name] += count

    def settle(
        self,
        tickets: Sequence[int] | npt.NDArray[np.uint64],
        outcome: Outcome,
        reason: str = "",
        *,
        recovered: int = 0,
    ) -> None:
        """Count orders under their outcome; `recovered` orders have no tickets."""
        count = len(tickets) + recovered
        if not count:
            return
        with self._lock:
            if outcome is Outcome.FAILED:
                self._failed[reason] = self._failed.get(reason, 0) + count
            else:
                self._counts[outcome.name.lower()] += count
        if self._observer is not None and len(tickets):
            self._observer(tickets, outcome, reason)

    def ledger(self) -> ChainLedger:
        """Return the counts so far."""
        with self._lock:
            return ChainLedger(
                **self._counts,
                failed=dict(self._failed),
                transactions=dict(self._transactions),
            )
