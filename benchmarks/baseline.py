"""Velox's whole pipeline on one thread against a plain C loop that does the same work.

::

    python -m benchmarks.baseline

Both go over one array of records again and again, in turns, on the same CPU; before anything is
timed, both must make the same bundles of it. A strategy is the same function to both, called
through a pointer. ``baseline.c`` says what the loop leaves out. It is compiled with ``cc`` (or what
``CC`` names) and the optimisation that Velox's modules get; with ``VELOX_NATIVE=1``, as there, for
this machine's own CPU.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import velox
from benchmarks import records
from benchmarks.sampling import Sample, alternate
from velox.bench import strategies
from velox.runtime.hardware import describe_machine

__all__ = ["VARIANTS", "Baseline", "Variant", "main", "measures"]

SOURCE = Path(__file__).with_name("baseline.c")
HISTOGRAMS = ("late", "transit", "hold", "delivery", "total")
PASSES = 100
Measure = Callable[[], float]
NO_TIMEOUT_NS = 10**10


@dataclass(frozen=True)
class Variant:
    """What is done with the records.

    Attributes
    ----------
    name : str
    shared : bool
        Whether the book is updated by compare-and-swap.
    strategy : str or None
        Of `velox.bench.strategies`; None: what was applied goes on as it is.
    most : int
        The most that is made of one record.
    """

    name: str
    shared: bool = False
    strategy: str | None = None
    most: int = 1

    def asked(self, state: npt.NDArray[np.int64]) -> velox.Strategy | None:
        """Return the strategy for a pipeline; `state` is what it keeps."""
        if self.strategy is None:
            return None
        return velox.Strategy(strategies.address(self.strategy), user_data=state)

    def made_of(self, applied: int, state: npt.NDArray[np.int64]) -> int:
        """Return how many transactions must come of so many, and of that state."""
        if self.strategy == "nothing":
            return 0
        return int(state[-1]) if self.strategy == "market_maker" else applied


VARIANTS = (
    Variant("one writer"),
    Variant("CAS", shared=True),
    Variant("strategy: nothing", strategy="nothing"),
    Variant("strategy: forward", strategy="forward"),
    Variant("strategy: market maker", strategy="market_maker", most=4),
)


def _state() -> npt.NDArray[np.int64]:
    return np.zeros(strategies.MARKET_MAKER_STATE, np.int64)


class Baseline:
    """The C loop, compiled for this process.

    Raises
    ------
    RuntimeError
        There is no C compiler, or it refused.
    """

    def __init__(self) -> None:
        command = shlex.split(os.environ.get("CC", "cc"))
        if shutil.which(command[0]) is None:
            raise RuntimeError(
                f"no C compiler: {command[0]!r} was not found; CC can name another compiler"
            )
        flags = ["-std=gnu11", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra"]
        if os.environ.get("VELOX_NATIVE") == "1":
            flags.append("-march=native")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder, "baseline.so")
            done = subprocess.run(
                [*command, *flags, str(SOURCE), "-o", str(library)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"{shlex.join(done.args)} failed:\n{done.stderr}")
            self._library = ctypes.CDLL(str(library))
        new = self._library.baseline_new
        new.restype = ctypes.c_void_p
        new.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_uint64, ctypes.c_int]
        self._library.baseline_free.argtypes = [ctypes.c_void_p]
        self._library.baseline_free.restype = None
        run = self._library.baseline_run
        run.restype = ctypes.c_uint64
        run.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_uint64,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        for name in ("applied", "rejected", "emitted", "crossed", "bundles", "delivered"):
            function = getattr(self._library, f"baseline_{name}")
            function.restype, function.argtypes = ctypes.c_uint64, [ctypes.c_void_p]
        self._library.baseline_recorded.restype = ctypes.c_uint64
        self._library.baseline_recorded.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        self._counter = velox.Clock().source in ("tsc", "cntvct")

    @contextmanager
    def _loop(self, timeout_ns: int) -> Iterator[int]:
        base_price = records.BASE_PRICE - 512 * records.TICK_SIZE
        loop = self._library.baseline_new(
            records.TICK_SIZE, base_price, timeout_ns, int(self._counter)
        )
        if not loop:
            raise MemoryError
        try:
            yield loop
        finally:
            self._library.baseline_free(loop)

    def _run(
        self,
        loop: int,
        transactions: npt.NDArray[np.void],
        passes: int,
        variant: Variant,
        bundles: npt.NDArray[np.void] | None = None,
    ) -> int:
        state = _state()
        asked = None if variant.strategy is None else strategies.address(variant.strategy)
        elapsed_ns: int = self._library.baseline_run(
            loop,
            transactions.ctypes.data,
            len(transactions),
            passes,
            int(variant.shared),
            asked,
            state.ctypes.data,
            None if bundles is None else bundles.ctypes.data,
        )
        made = passes * len(transactions)
        _require("applied", self._library.baseline_applied(loop), made)
        _require("rejected", self._library.baseline_rejected(loop), 0)
        emitted = variant.made_of(made, state)
        _require("emitted", self._library.baseline_emitted(loop), emitted)
        _require("delivered", self._library.baseline_delivered(loop), emitted)
        sealed = self._library.baseline_bundles(loop)
        for index, name in enumerate(HISTOGRAMS):
            expected = {"late": made, "delivery": sealed}.get(name, emitted)
            _require(name, self._library.baseline_recorded(loop, index), expected)
        return elapsed_ns

    def ns_a_transaction(
        self, transactions: npt.NDArray[np.void], passes: int, variant: Variant
    ) -> float:
        """Time it, and check that every transaction was applied, delivered and recorded."""
        with self._loop(timeout_ns=100_000) as loop:
            return self._run(loop, transactions, passes, variant) / (passes * len(transactions))

    def bundles(
        self, transactions: npt.NDArray[np.void], passes: int, variant: Variant
    ) -> npt.NDArray[np.void]:
        """Return every bundle that it makes, with nothing sealed by time."""
        most = -(-passes * len(transactions) * variant.most // 16)
        bundles = np.zeros(most, velox.BUNDLE_DTYPE)
        with self._loop(timeout_ns=NO_TIMEOUT_NS) as loop:
            self._run(loop, transactions, passes, variant, bundles)
            emitted = self._library.baseline_emitted(loop)
            _require("bundles", self._library.baseline_bundles(loop), -(-emitted // 16))
        return bundles[: -(-emitted // 16)]


def _require(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"the C loop: {what} is {found}, but must be {expected}")


def velox_ns_a_transaction(
    transactions: npt.NDArray[np.void],
    passes: int,
    variant: Variant,
    placement: Literal["shared", "paired"] = "shared",
) -> float:
    """Time the pipeline from the start of its threads to the last bundle taken."""
    state = _state()
    report = velox.Pipeline(
        velox.ReplayIngress(transactions, repeat=passes),
        strategy=variant.asked(state),
        books=_books(variant),
        config=_config(variant, placement=placement),
    ).run()
    made, ledger = passes * len(transactions), report.ledger
    if ledger.applied != made or ledger.delivered_transactions != variant.made_of(made, state):
        raise RuntimeError(f"the pipeline lost transactions:\n{ledger}")
    return report.elapsed_s * 1e9 / made


def velox_bundles(
    transactions: npt.NDArray[np.void], passes: int, variant: Variant
) -> npt.NDArray[np.void]:
    """Return every bundle that the pipeline makes, with nothing sealed by time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bundles.npy")
        velox.Pipeline(
            velox.ReplayIngress(transactions, repeat=passes),
            velox.CaptureOutput(path),
            strategy=variant.asked(_state()),
            books=_books(variant),
            config=_config(variant, bundle_timeout_ns=NO_TIMEOUT_NS),
        ).run()
        return np.load(path)


def _config(variant: Variant, **changed: Any) -> velox.PipelineConfig:
    options = {"placement": "shared", "writers": 2 if variant.shared else 1} | changed
    return velox.PipelineConfig(**options)


def _books(variant: Variant) -> velox.OrderBook:
    return velox.OrderBook(
        1024,
        records.TICK_SIZE,
        base_price=records.BASE_PRICE - 512 * records.TICK_SIZE,
        writers=2 if variant.shared else 1,
    )


def check(baseline: Baseline, transactions: npt.NDArray[np.void], variant: Variant) -> None:
    """Raise unless both make the same bundles; the times in them are each one's own."""
    ours = velox_bundles(transactions, 2, variant)
    theirs = baseline.bundles(transactions, 2, variant)
    same = len(ours) == len(theirs)
    for name in ("count", "reason"):
        same = same and np.array_equal(ours[name], theirs[name])
    for name in ("id", "price", "size", "side", "kind", "flags", "market"):
        same = same and np.array_equal(ours["transactions"][name], theirs["transactions"][name])
    if not same:
        raise RuntimeError("the pipeline and the C loop do not make the same bundles")


def measures(passes: int = PASSES) -> dict[str, tuple[Measure, Measure]]:
    """Check every variant, and return what times each: Velox's and the loop's.

    Returns
    -------
    dict of str to (callable, callable)
        By the variant's name: each returns ns a transaction that came in.
    """
    baseline, transactions = Baseline(), records.synthetic()
    found = {}
    for variant in VARIANTS:
        check(baseline, transactions, variant)
        found[variant.name] = (
            lambda variant=variant: velox_ns_a_transaction(transactions, passes, variant),
            lambda variant=variant: _pinned_as_velox(
                lambda: baseline.ns_a_transaction(transactions, passes, variant)
            ),
        )
    return found


def _pinned_as_velox(measure: Measure) -> float:
    """Run it on the CPU that the pipeline's thread is pinned to."""
    cpu = velox.Pipeline(velox.PoissonIngress(), config=_config(VARIANTS[0])).plan.runners[0].cpu
    found: list[float] = []
    errors: list[BaseException] = []

    def body() -> None:
        if cpu is not None:
            with suppress(OSError):
                os.sched_setaffinity(0, {cpu})
        try:
            found.append(measure())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print ns a transaction of both, and the ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baseline", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=12, metavar="N", help="(12)")
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to see that it works"
    )
    options = parser.parse_args(arguments)
    passes, rounds = (2, 1) if options.quick else (PASSES, options.rounds)
    try:
        pairs = measures(passes)
    except RuntimeError as error:
        print(f"baseline: {error}", file=sys.stderr)
        return 1
    print(f"velox {velox.__version__}, {describe_machine()}")
    print(f"ns a transaction, median of {rounds} rounds in turns; both make the same bundles\n")
    print(f"{'variant':<24}{'velox':>10}{'C loop':>10}{'ratio':>8}")
    for variant, (ours, theirs) in pairs.items():
        found = alternate({"velox": ours, "C": theirs}, rounds, warm_up=not options.quick)
        ratio = Sample(
            tuple(a / b for a, b in zip(found["velox"].rounds, found["C"].rounds, strict=True))
        )
        steady = all(each.repeats for each in found.values())
        note = "" if steady or options.quick else "   does not repeat within 10 %"
        print(
            f"{variant:<24}{found['velox'].median:>10.2f}{found['C'].median:>10.2f}"
            f"{ratio.median:>8.2f}{note}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
