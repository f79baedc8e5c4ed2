"""Each part of Velox in C, as `velox.bench` and `benchmarks.measures` measure it.

The loops run without the GIL and check their result before they say how long they took.
"""

from __future__ import annotations

from benchmarks import measures, records
from benchmarks.scaled import NsAnOperation
from velox import bench


class Components(NsAnOperation):
    """Everything that ``python -m velox bench`` measures."""

    param_names = ("component",)
    params = (list(bench.names()),)

    def setup(self, component: str) -> None:
        super().setup()
        bench.measure(component)

    def time_one_operation(self, component: str) -> None:
        self.add(bench.measure(component))


class Binance(NsAnOperation):
    """A record of the recorded Binance stream applied to a book that keeps every level."""

    param_names = ("levels",)
    params = ([1024, 8192, 65536],)

    def setup(self, levels: int) -> None:
        super().setup()
        if records.binance() is None:
            raise NotImplementedError("VELOX_DATA names no folder with the Binance stream")
        measures.book_binance(levels)

    def time_apply(self, levels: int) -> None:
        self.add(measures.book_binance(levels))


class Top(NsAnOperation):
    """The best prices, read while a thread changes them with one record in so many."""

    param_names = ("records a change",)
    params = ([1, measures.MARKET_MOVES, 28],)

    def time_read_under_a_full_speed_writer(self, every: int) -> None:
        self.add(measures.top_under_writer(20, every=every)[0])


class Counter(NsAnOperation):
    """The processor's counter, unscaled: what of `clock.now` is the hardware's."""

    def time_read(self) -> None:
        self.add(measures.counter())


class Flow(NsAnOperation):
    """A transaction of the synthetic market."""

    def time_generate(self) -> None:
        self.add(measures.flow())


class Feeds(NsAnOperation):
    """A recording read, from its bytes to records, a record."""

    param_names = ("format",)
    params = (["npy", "lobster", "binance", "okx"],)

    def setup(self, format: str) -> None:
        super().setup()
        if format != "npy" and not records.recorded(format):
            raise NotImplementedError(f"VELOX_DATA names no folder with {format} recordings")

    def time_load(self, format: str) -> None:
        self.add(measures.feed(format))
