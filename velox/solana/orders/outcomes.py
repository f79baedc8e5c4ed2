"""The ledger's last page: what became on the chain of every transaction that was delivered."""

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
    """How an order, one of kind ADD or CANCEL, ended; each ends in exactly one of these."""

    LANDED = 0
    """The chain executed the transaction that carried it."""
    FAILED = 1
    """It was refused before it was sent, or the chain executed its transaction with an error."""
    EXPIRED = 2
    """Its transaction can never execute: the blockhash is too old, and no history has it."""
    UNKNOWN = 3
    """The chain could not be asked in time. The journal keeps it, to be asked again."""
    CONFLATED = 4
    """A later order made it superfluous before it was sent, or it made an earlier one so."""
    SHED = 5
    """There were more orders than the queue holds."""


# tickets, what became of them, and why where the outcome alone does not say
Observer: TypeAlias = Callable[[Sequence[int] | npt.NDArray[np.uint64], Outcome, str], None]


@dataclass(frozen=True, slots=True)
class ChainLedger:
    """Counts of orders, and of the transactions that carried them, after a submission.

    Attributes
    ----------
    delivered : int
        Velox transactions that the submitter took in.
    recovered : int
        Orders that an earlier process had sent without learning their end, from the journal.
    market_data : int
        Of those delivered, the ones of a kind that is no order.
    landed, expired, unknown, conflated, shed : int
        Orders, by `Outcome`.
    failed : dict of str to int
        Orders that failed, by reason.
    transactions : dict of str to int
        Solana transactions that were signed and journalled, ``signed``, or found in the journal,
        ``recovered``; and what became of them: ``landed``, ``failed``, ``expired``, ``unknown``.
    sends : int
        Requests that carried transactions out, repetitions of the same bytes included.
    fee_lamports, tip_lamports : int
        Spent on what the chain executed, as the transactions themselves say.
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

    def equations(self, *, delivered_transactions: int | None = None) -> list[Equation]:
        """Return what must hold once the submitter is closed.

        Parameters
        ----------
        delivered_transactions : int, optional
            What the pipeline's own ledger says that its output handed over.
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
        """int: Orders that have no end yet: they wait, or are under way."""
        return self.delivered + self.recovered - self.market_data - self._ended

    @property
    def balanced(self) -> bool:
        """bool: Whether every one of `equations` holds."""
        return all(each.holds for each in self.equations())

    def check(self, *, delivered_transactions: int | None = None) -> None:
        """Raise if an equation does not hold.

        Raises
        ------
        LedgerError
            Lists each equation that fails, with both numbers.
        """
        equations = self.equations(delivered_transactions=delivered_transactions)
        failing = [each for each in equations if not each.holds]
        if failing:
            raise LedgerError(
                "the ledger does not balance to the chain: " + "; ".join(map(str, failing))
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and `balanced`, ready for JSON."""
        values: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            values[each.name] = dict(value) if isinstance(value, dict) else value
        values["balanced"] = self.balanced
        return values

    def format(self) -> str:
        """Return a small aligned table for a terminal; `str` gives the same."""
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
            ("lamports spent", self.fee_lamports + self.tip_lamports),
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
    """Counts as they come in; `ledger` is a copy of them at one moment.

    Parameters
    ----------
    observer : callable, optional
        Is told of each outcome, as ``observer(tickets, outcome, reason)``. A ticket is the place of
        an order among all that were taken in, from 0 on; those recovered from a journal have none.

    Notes
    -----
    Thread-safety: any thread may call any method; the observer is called outside the lock, by
    whichever thread learned of the outcome.
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
        """Count `count` more of a field of `ChainLedger`."""
        with self._lock:
            self._counts[name] += count

    def transaction(self, name: str, count: int = 1) -> None:
        """Count `count` more Solana transactions under a key of ``ChainLedger.transactions``."""
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
        """Count orders under their outcome, the `recovered` ones without tickets as well."""
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
        """Return the counts as they are now."""
        with self._lock:
            return ChainLedger(
                **self._counts,
                failed=dict(self._failed),
                transactions=dict(self._transactions),
            )
