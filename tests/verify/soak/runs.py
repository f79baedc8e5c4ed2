"""One run: a pipeline made, driven and stopped as drawn, and everything about it checked."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

import velox
from velox.errors import CaptureError, PipelineError, StrategyError
from velox.runtime.capture import HEADER_BYTES

from .draws import Draw
from .expected import (
    MOST_REGENERATED,
    Array,
    Expected,
    books_of,
    expect,
    flow_of,
    market_options,
    records_of,
    replayed,
    seed_of,
)
from .native import soak_strategy

__all__ = ["SoakError", "perform"]

# A run that has not come to its target by then is stopped where it is.
LONGEST_S = 0.5
LONGEST_AT_FULL_RATE_S = 20.0
# What a thread has to end that was interrupted as it started.
LONGEST_END_S = 10.0
# Transactions that one push takes, at most.
MOST_PUSHED = 3_000

VALUES = [name for name in velox.TRANSACTION_DTYPE.names or () if name != "ingress_ts_ns"]


class SoakError(AssertionError):
    """A result of a run is wrong."""


def require(holds: bool, what: str, *values: object) -> None:
    if not holds:
        raise SoakError(f"{what}: {', '.join(map(repr, values))}" if values else what)


class Pusher(threading.Thread):
    """Pushes a market into one lane until it is refused, or has pushed enough."""

    def __init__(self, draw: Draw, lane: int, ingress: velox.PushIngress) -> None:
        super().__init__(name=f"soak-pusher{lane}")
        self.ingress = ingress
        self.random = Random(f"{draw.seed}/{draw.index}/{lane}")
        self.records = records_of(draw, lane)
        self.most = min(MOST_PUSHED, draw.length)
        self.quota = 2 * draw.target + 100
        self.accepted: list[Array] = []
        self.refused = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.push()
        except BaseException as failure:
            self.failure = failure

    def push(self) -> None:
        pushed = 0
        position = 0
        while pushed < self.quota:
            end = position + self.random.randint(0, self.most)
            wanted = self.records[position:end]
            try:
                taken = self.ingress.push(wanted)
            except PipelineError:
                return
            self.accepted.append(wanted[:taken])
            self.refused += len(wanted) - taken
            pushed += len(wanted)
            position = end if end < len(self.records) else 0
        if self.random.random() < 0.5:
            self.ingress.close()


class Run:
    """A pipeline that is being driven, and its observed results."""

    def __init__(self, draw: Draw, directory: Path) -> None:
        self.draw = draw
        self.path = directory / "capture.npy"
        self.state = np.array([0, draw.fails_at, 0, max(draw.fan, 0)], np.uint64)
        self.state[2:3].view(np.int64)[0] = draw.failure
        self.output = self._output()
        self.ingresses = [self._ingress(lane) for lane in range(draw.lanes)]
        self.pipeline = velox.Pipeline(
            self.ingresses,
            self.output,
            strategy=None if draw.fan < 0 else velox.Strategy(soak_strategy(), self.state),
            books=books_of(draw),
            config=velox.PipelineConfig.from_mapping(draw.config),
        )
        self.pulled: list[Array] = []
        self.pushers: list[Pusher] = []
        self.error: BaseException | None = None
        self.polls = Random(f"{draw.seed}/{draw.index}/polls")

    def _output(self) -> velox.Output:
        kinds: dict[str, Callable[[], velox.Output]] = {
            "discard": velox.DiscardOutput,
            "capture": lambda: velox.CaptureOutput(self.path),
            "pull": velox.PullOutput,
        }
        return kinds[self.draw.output]()

    def _ingress(self, lane: int) -> velox.Ingress:
        draw = self.draw
        if draw.ingress == "push":
            return velox.PushIngress()
        if draw.ingress == "replay":
            return velox.ReplayIngress(records_of(draw, lane), draw.rate, draw.repeat)
        return velox.PoissonIngress(draw.rate, seed_of(draw, lane), **market_options(draw, lane))

    # Driving

    def drive(self, until_stopped: bool) -> None:
        """Start, run to the target or, `until_stopped`, to the end or an interrupt; stop."""
        draw, pipeline = self.draw, self.pipeline
        try:
            with file_size_limit(draw.disk_bytes):
                if until_stopped and draw.ingress != "push" and draw.output != "pull":
                    pipeline.run()
                else:
                    with pipeline:
                        self._start_pushers()
                        self._watch(until_stopped)
        except (StrategyError, CaptureError, ExceptionGroup) as error:
            self.error = error
        finally:
            # A second time is free, where the first was in order.
            pipeline.stop()

    def _start_pushers(self) -> None:
        for lane, ingress in enumerate(self.ingresses):
            if isinstance(ingress, velox.PushIngress):
                self.pushers.append(Pusher(self.draw, lane, ingress))
                self.pushers[-1].start()

    def _watch(self, until_stopped: bool) -> None:
        longest = LONGEST_AT_FULL_RATE_S if self.draw.full_rate else LONGEST_S
        end = time.monotonic() + longest
        while until_stopped or time.monotonic() < end:
            if self.pipeline.plan.placement == "invoker":
                ended = self.pipeline.step() == -1
            elif isinstance(self.output, velox.PullOutput):
                self._poll(self.output)
                ended = self.pipeline.wait(0)
            else:
                ended = self.pipeline.wait(0.0005)
            if ended or (self._reached() and not until_stopped):
                return

    def _reached(self) -> bool:
        seen = self.pipeline.statistics()
        order = (seen.generated, seen.pushed, seen.applied)
        if self.draw.fan < 0:
            order += (seen.emitted, seen.delivered_transactions)
        require(list(order) == sorted(order, reverse=True), "counters overtake", seen)
        return max(seen.pushed, seen.delivered_transactions) >= self.draw.target

    def _poll(self, output: velox.PullOutput) -> None:
        most = self.polls.choice([None, None, 1, 5, 100, 0])
        with output.poll(most) as bundles:
            if len(bundles):
                self.pulled.append(bundles.copy())

    # Checking

    def check(self) -> None:
        draw, pipeline = self.draw, self.pipeline
        self.ledger = ledger = pipeline.ledger()
        for pusher in self.pushers:
            pusher.join()
            require(pusher.failure is None, "a push failed", pusher.failure)
        if draw.interrupts and pipeline.state == "new":
            return
        require(pipeline.state == "stopped", "the pipeline has not stopped", pipeline.state)
        self._check_threads()
        ledger.check(forwarding=draw.fan < 0)
        if self.pushers:
            accepted = sum(len(each) for pusher in self.pushers for each in pusher.accepted)
            require(accepted == ledger.pushed, "push said otherwise", accepted, ledger.pushed)
        self._check_error()
        self._check_histograms()
        expected = self._expected()
        if expected is not None:
            self._check_counts(expected)
        bundles = self._delivered()
        if bundles is not None:
            self._check_delivered(bundles, expected)

    def _check_threads(self) -> None:
        end = time.monotonic() + (LONGEST_END_S if self.draw.interrupts else 0.0)
        while True:
            left = [each.name for each in threading.enumerate() if each.name.startswith("velox-")]
            # One that an interrupt caught as it was being started only has to find that out.
            if not left or time.monotonic() > end:
                break
            os.sched_yield()
        require(not left, "threads outlive the stop", left)

    def _check_error(self) -> None:
        draw, ledger = self.draw, self.ledger
        wanted = set()
        failed = bool(draw.fails_at) and ledger.applied >= draw.fails_at
        if failed:
            wanted.add(StrategyError)
        if ledger.undelivered_bundles:
            require(bool(draw.disk_bytes), "undelivered without a full disk", ledger)
            wanted.add(CaptureError)
        error = self.error
        found = set(map(type, error.exceptions if isinstance(error, ExceptionGroup) else [error]))
        found -= {type(None)}
        # Beside an interrupt an error is a note on it, or lost where the interrupt hit the harness.
        agree = found <= wanted if draw.interrupts else found == wanted
        require(agree, "errors raised, and due", error, wanted)
        calls = int(self.state[0])
        if draw.lanes == 1 and draw.fan >= 0:
            due = draw.fails_at if failed else ledger.applied
            require(calls == due, "calls of the strategy, and due", calls, due)

    def _check_histograms(self) -> None:
        ledger = self.ledger
        bundles = ledger.delivered_bundles + ledger.undelivered_bundles
        due = {
            "late": ledger.pushed,
            "transit": ledger.emitted,
            "hold": ledger.emitted,
            "delivery": bundles,
            "total": ledger.emitted,
        }
        counts = {name: each.count for name, each in self.pipeline.latency().items()}
        require(counts == due, "values in the histograms, and due", counts, due)

    def _expected(self) -> Expected | None:
        """Check the results that follow from the input, if the input is known exactly."""
        draw, ledger = self.draw, self.ledger
        alone = draw.lanes == 1 or (draw.markets == "own" and not draw.fails_at)
        if not alone or ledger.generated > MOST_REGENERATED:
            return None
        if self.pushers:
            nothing = np.zeros(0, velox.TRANSACTION_DTYPE)
            return expect(draw, [np.concatenate([nothing, *p.accepted]) for p in self.pushers])
        if ledger.dropped:
            return None
        if draw.ingress == "replay":
            return expect(
                draw,
                [
                    replayed(records_of(draw, lane), each.generated)
                    for lane, each in enumerate(self.ingresses)
                ],
            )
        return expect(
            draw,
            [
                flow_of(draw, lane).generate(each.generated)
                for lane, each in enumerate(self.ingresses)
            ],
        )

    def _check_counts(self, expected: Expected) -> None:
        ledger = self.ledger
        require(ledger.applied == expected.applied, "applied", ledger.applied, expected.applied)
        require(ledger.rejected == expected.rejected, "rejected", ledger, expected.rejected)
        emitted = sum(map(len, expected.emitted))
        require(ledger.emitted == emitted, "emitted", ledger.emitted, emitted)
        for market, book in expected.books.items():
            found = self.pipeline.books[market].snapshot()
            require(found.tobytes() == book.snapshot().tobytes(), "a book differs", market)

    def _delivered(self) -> Array | None:
        if isinstance(self.output, velox.PullOutput):
            if self.draw.interrupts:
                # One may have come between a poll and what the harness made of it.
                return None
            while not self.output.exhausted:
                self._poll(self.output)
            nothing = np.zeros(0, velox.BUNDLE_DTYPE)
            return np.concatenate([nothing, *self.pulled])
        if self.draw.output != "capture" or not self.path.exists():
            return None
        before = self.path.read_bytes()
        if self.draw.interrupts and not before and not self.ledger.generated:
            # Interrupted between the file's creation and its header: nothing ever ran.
            return None
        bundles: Array = np.load(self.path)
        size = HEADER_BYTES + bundles.nbytes
        require(len(before) == size, "bytes of a capture, and due", len(before), size)
        found = velox.recover_capture(self.path)
        require(found == len(bundles), "recovery finds other bundles", found, len(bundles))
        require(self.path.read_bytes() == before, "recovery changed a whole capture")
        return bundles

    def _check_delivered(self, bundles: Array, expected: Expected | None) -> None:
        ledger = self.ledger
        require(len(bundles) == ledger.delivered_bundles, "bundles kept", len(bundles), ledger)
        counts, reasons = bundles["count"], bundles["reason"]
        require(
            bool(((counts >= 1) & (counts <= 16)).all()), "counts of bundles", np.unique(counts)
        )
        require(bool(((counts == 16) == (reasons == velox.SealReason.SIZE)).all()), "reasons")
        sealed_ns = bundles["sealed_ts_ns"]
        require(bool((sealed_ns[1:] >= sealed_ns[:-1]).all()), "bundles sealed out of order")
        filled = np.arange(16) < counts[:, np.newaxis]
        blank = np.frombuffer(bundles["transactions"][~filled].tobytes(), np.uint8)
        require(not blank.any(), "an unfilled slot holds something")
        if not ledger.undelivered_bundles:
            found = {each.name.lower(): int((reasons == each).sum()) for each in velox.SealReason}
            require(found == ledger.bundles, "bundles by reason", found, ledger.bundles)
        transactions: Array = bundles["transactions"][filled]
        require(len(transactions) == ledger.delivered_transactions, "transactions kept", ledger)
        if expected is not None:
            self._check_transactions(transactions, expected)
        elif self.draw.ingress == "poisson" and self.draw.fan <= 0:
            self._check_ids(transactions)

    def _check_transactions(self, transactions: Array, expected: Expected) -> None:
        """Lane by lane: exactly the emitted records, in order. Only the times may differ."""
        for lane, emitted in enumerate(expected.emitted):
            mine = transactions
            if self.draw.lanes > 1:
                mine = transactions[transactions["market"] == lane]
            if not self.ledger.undelivered_bundles:
                require(len(mine) == len(emitted), "delivered of a lane", len(mine), len(emitted))
            require(
                values(mine).tobytes() == values(emitted[: len(mine)]).tobytes(),
                "a lane delivered something else",
                lane,
            )

    def _check_ids(self, transactions: Array) -> None:
        """If records were dropped: each transaction once, and in order within its lane."""
        lanes = transactions["id"] >> np.uint64(40)
        for lane in range(self.draw.lanes):
            ids = transactions["id"][lanes == lane]
            require(bool((ids[1:] > ids[:-1]).all()), "ids out of order", lane)


def values(transactions: Array) -> npt.NDArray[Any]:
    kept = np.zeros(len(transactions), [(n, velox.TRANSACTION_DTYPE[n]) for n in VALUES])
    for name in VALUES:
        kept[name] = transactions[name]
    return kept


@contextmanager
def file_size_limit(room: int) -> Iterator[None]:
    """Let files grow to a header and `room` bytes, as on a full disk; 0: no limit."""
    if room == 0:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HEADER_BYTES + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def perform(
    draw: Draw, directory: Path, drive: Callable[[Run], None] = lambda run: run.drive(False)
) -> int:
    """Do one run, and check it.

    Returns
    -------
    int
        Transactions that entered.

    Raises
    ------
    SoakError, Exception
        What went wrong.
    """
    run = Run(draw, directory)
    run.path.unlink(missing_ok=True)
    drive(run)
    sys.stdout.flush()
    run.check()
    return run.ledger.pushed
