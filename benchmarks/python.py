"""What Python pays to use the parts: each call crosses into C once."""

import numpy as np

import velox

RECORDS = 1024


class Ring:
    version = "1"

    def setup(self) -> None:
        self.ring = velox.TransactionRing()
        self.many = np.zeros(RECORDS, velox.TRANSACTION_DTYPE)
        self.one = self.many[:1].copy()
        assert self.ring.push(self.many) == len(self.ring.pop()) == RECORDS

    def time_push_and_pop_of_one(self) -> None:
        self.ring.push(self.one)
        self.ring.pop(1)

    def time_push_and_pop_of_1024(self) -> None:
        self.ring.push(self.many)
        self.ring.pop()


class Book:
    version = "1"

    def setup(self) -> None:
        self.flow = velox.MarketFlow(1).generate(100_000)
        self.book = velox.OrderBook(tick_size=100)
        assert self.book.apply(self.flow).applied == len(self.flow)

    def time_best_bid(self) -> None:
        _ = self.book.best_bid

    def time_depth_of_10(self) -> None:
        self.book.depth(10)

    def time_snapshot(self) -> None:
        self.book.snapshot()


class Import:
    version = "1"

    def timeraw_import(self) -> str:
        return "import velox"
