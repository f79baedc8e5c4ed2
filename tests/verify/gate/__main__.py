"""``python -m tests.verify.gate``: random orders and reports, and no limit is ever passed.

Behind the gate stands a sum that shares nothing with it: NumPy and Python's integers add up what
passed. After each chunk of orders they check every limit, and the account against the fills.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

import velox
from velox import Kind, Limits, MarketLimits

Array = npt.NDArray[Any]
SECOND = 10**9
CHUNK = 2048
CAPACITY = 4096


class Sum:
    """What passed a gate, added up by itself."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.gate = velox.RiskGate(velox.OrderTable(CAPACITY))
        self.inventory = self.cash = self.fees = 0
        self.live = np.zeros(0, velox.TRANSACTION_DTYPE)
        self.now = SECOND
        self.tokens = 0.0
        self.next_id = 1
        self.number = 0
        self.emitted = self.passed = 0
        self.new_limits()

    def new_limits(self) -> None:
        draw = self.random.integers
        self.limits = MarketLimits(
            max_order_lots=int(draw(1, 60)),
            max_notional=int(draw(1_000, 60_000)),
            collar=int(draw(0, 40)),
            max_position=int(draw(0, 5_000)),
            max_open_orders=int(draw(1, CAPACITY)),
        )
        self.rate = int(draw(10**5, 10**8))
        self.gate.set_limits(
            Limits(each=self.limits, orders_per_second=self.rate, order_burst=CHUNK)
        )
        self.tokens = min(self.tokens, CHUNK)

    def orders(self) -> Array:
        draw = self.random.integers
        rows = np.zeros(CHUNK, velox.TRANSACTION_DTYPE)
        rows["id"] = np.arange(self.next_id, self.next_id + CHUNK, dtype=np.uint64)
        self.next_id += CHUNK
        rows["side"] = draw(0, 2, CHUNK)
        # Bids under asks mostly, so that they do not meet.
        rows["price"] = 1_000 + np.where(rows["side"] == 0, -1, 1) * draw(-2, 45, CHUNK)
        rows["size"] = draw(0, 64, CHUNK)
        return rows

    def turn(self) -> None:
        if self.random.random() < 0.02:
            self.new_limits()
        elapsed = int(self.random.integers(0, 10**8))
        self.now += elapsed
        self.gate.begin(self.now)
        self.tokens = min(CHUNK, self.tokens + elapsed * self.rate / SECOND)
        bid = 1_000 - int(self.random.integers(1, 20))
        ask = 1_000 + int(self.random.integers(1, 20))
        self.gate.touch(0, bid, ask)
        rows = self.orders()
        reasons = self.gate.screen(rows)
        self.check(rows[reasons == 0], bid, ask)
        self.emitted += CHUNK
        self.live = np.concatenate([self.live, rows[reasons == 0]])
        self.hear()

    def check(self, rows: Array, bid: int, ask: int) -> None:
        limits = self.limits
        price, size = rows["price"], rows["size"].astype(np.int64)
        is_bid = rows["side"] == 0
        assert (size >= 1).all()
        assert (size <= limits.max_order_lots).all()
        assert (price * size <= limits.max_notional).all()
        assert (abs(price - np.where(is_bid, ask, bid)) <= limits.collar).all()
        for side, sign in ((0, 1), (1, -1)):
            own = self.live[self.live["side"] == side]["size"].sum(dtype=np.int64)
            open_lots = int(own) + np.cumsum(size[rows["side"] == side])
            worst = sign * self.inventory + open_lots
            assert (worst <= limits.max_position).all()
        assert len(rows) == 0 or len(self.live) + len(rows) <= limits.max_open_orders
        # The sum has fractions of an order, in floats; the gate has none.
        assert len(rows) <= self.tokens + 1e-3
        self.tokens = max(0.0, self.tokens - len(rows))
        everything = np.concatenate([self.live, rows])
        bids = everything[everything["side"] == 0]["price"]
        asks = everything[everything["side"] == 1]["price"]
        if len(rows) and len(bids) and len(asks):
            assert bids.max() < asks.min(), "our own orders meet"
        self.passed += len(rows)

    def hear(self) -> None:
        """Let most orders end, in several ways, and some twice."""
        ends = self.random.random(len(self.live)) < 0.9
        gone, self.live = self.live[ends], self.live[~ends]
        reports = np.zeros(len(gone), velox.REPORT_RECORD_DTYPE)
        for name in ("id", "side", "price", "size"):
            reports[name] = gone[name]
        kinds = [Kind.FILLED, Kind.CANCELLED, Kind.REJECTED, Kind.EXPIRED]
        reports["kind"] = self.random.choice(kinds, len(gone), p=[0.4, 0.4, 0.1, 0.1])
        reports["fee"] = self.random.integers(-3, 9, len(gone))
        reports["sequence"] = np.arange(self.number + 1, self.number + 1 + len(gone))
        self.number += len(gone)
        fills = reports[reports["kind"] == Kind.FILLED]
        signed = np.where(fills["side"] == 0, 1, -1) * fills["size"].astype(np.int64)
        self.inventory += int(signed.sum())
        self.cash -= int((signed * fills["price"]).sum())
        self.fees += int(fills["fee"].sum())
        outcomes = self.gate.report(reports)
        assert (outcomes == velox.ReportOutcome.TAKEN).all()
        again = self.gate.report(reports[: len(reports) // 8])
        assert (again == velox.ReportOutcome.DOUBLED).all()
        account = self.gate.orders.account(0)
        assert account[:3] == (self.inventory, self.cash, self.fees)
        assert account.open_bid + account.open_ask == int(self.live["size"].sum(dtype=np.int64))

    def close(self) -> None:
        """Check the ledger."""
        gate, counts = self.gate, self.gate.orders.counts()
        assert self.emitted == sum(gate.blocked.values()) + gate.passed
        assert gate.passed == self.passed == counts.sent
        assert counts.sent == counts.in_flight + counts.placed + counts.rejected
        assert counts.sent == counts.finished + counts.live
        assert counts.live == len(self.live)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.verify.gate", description=__doc__)
    parser.add_argument("--orders", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--seed", type=int, default=20)
    given = parser.parse_args()
    begin = time.monotonic()
    sum_ = Sum(given.seed)
    while sum_.emitted < given.orders:
        sum_.turn()
    sum_.close()
    blocked = {name: n for name, n in sum_.gate.blocked.items() if n}
    print(f"seed {given.seed}: {sum_.emitted:,} orders, {sum_.passed:,} passed, {blocked}")
    print(f"no limit was passed; {time.monotonic() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
