"""What tests of several parts need: records by the handful, and runs that add up."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from velox import (
    BUNDLE_DTYPE,
    REPORT_RECORD_DTYPE,
    TRANSACTION_DTYPE,
    Kind,
    OrderBook,
    Pipeline,
    get_include,
)
from velox.errors import BookError

Array = npt.NDArray[Any]

# The kinds that a book takes; the others are reports.
MARKET_KINDS = tuple(kind for kind in Kind if kind < Kind.PLACED)

# A sanitizer makes everything ten times slower: it gets a share of the rounds.
STRESS = float(os.environ.get("VELOX_STRESS", "1"))


def rounds(count: int) -> int:
    """How many rounds a stress test makes of those that it would."""
    return max(1, round(count * STRESS))


def orders(count: int, *, first_id: int = 1, **fields: Any) -> Array:
    """Adds of one lot at 100.0, with ids that ascend."""
    records = np.zeros(count, TRANSACTION_DTYPE)
    records["id"] = np.arange(first_id, first_id + count, dtype=np.uint64)
    records["price"] = 1_000_000
    records["size"] = 1
    for name, value in fields.items():
        records[name] = value
    return records


def numbered_bundles(count: int, *, first: int = 1) -> Array:
    """Bundles that differ in every field."""
    bundles = np.zeros(count, BUNDLE_DTYPE)
    numbers = np.arange(first, first + count, dtype=np.uint64)
    bundles["transactions"]["id"] = numbers[:, np.newaxis]
    bundles["count"] = numbers % 16 + 1
    bundles["reason"] = numbers % 4
    bundles["sealed_ts_ns"] = numbers
    return bundles


def numbered_reports(count: int, *, first: int = 1) -> Array:
    """Reports that differ in every field but the kind and the reserved ones."""
    reports = np.zeros(count, REPORT_RECORD_DTYPE)
    numbers = np.arange(first, first + count, dtype=np.uint64)
    for name in REPORT_RECORD_DTYPE.names or ():
        if name != "reserved":
            reports[name] = numbers.astype(REPORT_RECORD_DTYPE[name])
    reports["kind"] = Kind.FILLED
    return reports


def inside(bundles: Array) -> Array:
    """The transactions of bundles, in order."""
    slots = np.arange(16)[np.newaxis, :]
    chosen: Array = bundles["transactions"][slots < bundles["count"][:, np.newaxis]]
    return chosen


def pass_the_time_until(condition: Callable[[], bool]) -> None:
    """Offer the core to the threads under test until they have brought `condition` about."""
    while not condition():
        os.sched_yield()


def in_another_thread(function: Callable[[], Any]) -> Any:
    """What `function` returns, or raises, on a thread of its own."""
    outcome: list[tuple[bool, Any]] = []

    def body() -> None:
        try:
            outcome.append((True, function()))
        except Exception as error:
            outcome.append((False, error))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    ((fine, value),) = outcome
    if not fine:
        raise value
    return value


def assert_adds_up(pipeline: Pipeline, *, forwarding: bool = True) -> None:
    """The equations hold, nothing is left in a ring, and each ring was used to its end."""
    ledger = pipeline.ledger()
    ledger.check(forwarding=forwarding)
    for ingress in pipeline.ingresses:
        assert len(ingress.ring) == 0
        assert ingress.ring.closed
    assert len(pipeline.output.ring) == 0
    assert pipeline.output.ring.closed


def compiled(source: Path, folder: Path) -> ctypes.CDLL:
    """C strategies, compiled as a user would."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    target = folder / source.with_suffix(".so").name
    subprocess.run(
        [
            *(compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"),
            *("-shared", "-fPIC", f"-I{get_include()}", "-o", str(target), str(source)),
        ],
        check=True,
    )
    return ctypes.CDLL(str(target))


@contextmanager
def refused(kind: type[Exception], **fields: Any) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Expect an error of that kind whose fields have these values."""
    with pytest.raises(kind) as caught:
        yield caught
    found = {name: getattr(caught.value, name) for name in fields}
    assert found == fields, str(caught.value)


@contextmanager
def hangs_are_broken_off(after_s: float = 5.0) -> Iterator[None]:
    """Turn a wait that never ends into a failure; on the main thread, of code that sees signals."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError("it never ends")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def shared_books_are_built() -> bool:
    try:
        OrderBook(writers=2, base_price=1)
    except BookError:
        return False
    return True
