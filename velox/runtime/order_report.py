"""What became of a strategy's orders: the counts and the account for a report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from velox.core.orders import Account, OrderCounts
from velox.core.risk import RiskGate

__all__ = ["OrderReport", "order_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport:
    """The orders of a run, the account, and what the risk gate did. Immutable.

    Attributes
    ----------
    counts : OrderCounts
    passed : int
        Orders that passed the gate.
    cancels, cancels_over_rate : int
        Cancels, all of which passed, and how many of them came faster than their rate.
    outcomes : dict of str to int
        Reports, by the lower-case name of their `ReportOutcome`.
    untold : int
        Blocked orders of which the strategy did not hear.
    kills : int
        How often a loss or a drawdown has set the kill switch.
    killed : str or None
        Why the kill switch is set; None if it is not.
    accounts : dict of int to Account
        By market.
    limits : tuple of str
        The limits that are not their default, such as ``"each.collar = 500"``.
    """

    counts: OrderCounts
    passed: int
    cancels: int = 0
    cancels_over_rate: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    untold: int = 0
    kills: int = 0
    killed: str | None = None
    accounts: dict[int, Account] = field(default_factory=dict)
    limits: tuple[str, ...] = ()

    @property
    def balanced(self) -> bool:
        """bool: Whether every order that passed was sent, and each is finished or live."""
        counts = self.counts
        return (
            self.passed == counts.sent
            and counts.sent == counts.in_flight + counts.placed + counts.rejected
            and counts.sent + counts.adopted == counts.finished + counts.live
            and 0 <= counts.in_flight <= counts.live
        )

    def __str__(self) -> str:
        counts = self.counts
        text = (
            f"{counts.sent:,} sent = {counts.in_flight:,} in flight + {counts.placed:,} placed + "
            f"{counts.rejected:,} rejected; {counts.live:,} live, {self.cancels:,} cancels"
        )
        return text if self.killed is None else f"{text}; killed: {self.killed or 'no reason'}"

    def lines(self) -> list[str]:
        """Return a line for each market that was traded in."""
        return [
            f"market {market}: inventory {account.inventory:,}, cash {account.cash:,}, "
            f"fees {account.fees:,}, open {account.open_bid:,} / {account.open_ask:,}"
            + ("; a fill could not be counted" if account.doubtful else "")
            for market, account in self.accounts.items()
            if any(account)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the report, ready for JSON."""
        values = asdict(self)
        values["counts"] = self.counts._asdict()
        values["accounts"] = {
            str(market): account._asdict() for market, account in self.accounts.items()
        }
        values["limits"] = list(self.limits)
        values["balanced"] = self.balanced
        return values


def order_report(gate: RiskGate, markets: list[int], *, untold: int) -> OrderReport:
    """Return the report of a gate and its table. Exact once the pipeline has stopped."""
    return OrderReport(
        counts=gate.orders.counts(),
        passed=gate.passed,
        cancels=gate.cancels,
        cancels_over_rate=gate.cancels_over_rate,
        outcomes=gate.orders.outcomes(),
        untold=untold,
        kills=gate.kills,
        killed=gate.kill.why if gate.kill.killed else None,
        accounts={market: gate.orders.account(market) for market in markets},
        limits=tuple(f"{table}.{name} = {value}" for table, name, value in gate.limits.given()),
    )
