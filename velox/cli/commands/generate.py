"""``velox generate``: write synthetic flow to a file for ``velox replay``."""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys
from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt

from velox.cli.options import DEFAULT_RATE, count, events_a_second, integer, path
from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals
from velox.core.flow import MarketFlow
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Side
from velox.errors import ConfigError
from velox.runtime.sidecar import refuse_foreign_sidecar, remove_sidecar
from velox.telemetry import replacing

__all__ = ["add_generate"]

CHUNK = 1 << 16


def add_generate(generate: argparse.ArgumentParser) -> None:
    """Give ``velox generate`` its options."""
    generate.add_argument(
        "--count",
        type=integer,
        required=True,
        metavar="N",
        help="records in the file; the first two clear the book",
    )
    generate.add_argument(
        "-o", "--output", required=True, type=path, metavar="PATH", help="the .npy file to write"
    )
    generate.add_argument(
        "--seed", type=count, default=0, metavar="N", help="seed of the flow (default: 0)"
    )
    generate.add_argument(
        "--rate",
        type=events_a_second,
        default=DEFAULT_RATE,
        metavar="N",
        help="records a second, by their timestamps (default: %(default)g)",
    )
    generate.add_argument(
        "--tick-size",
        type=integer,
        default=100,
        metavar="N",
        help="price step, in units of 1e-4 (default: %(default)s, a cent)",
    )
    generate.add_argument(
        "--base-price",
        type=integer,
        default=1_000_000,
        metavar="N",
        help="first price, in units of 1e-4 (default: %(default)s, which is 100)",
    )
    generate.add_argument(
        "--market",
        type=integer,
        default=0,
        metavar="N",
        help="id of the market, 0 to 255 (default: 0)",
    )
    generate.set_defaults(command=_generate)


def _generate(options: argparse.Namespace, signals: Signals) -> int:
    if options.output == "-":
        raise ConfigError("output = '-': a .npy file needs a name")
    if options.count < 3:
        raise ConfigError(
            f"count = {options.count}: must be at least 3, since two records clear the book"
        )
    flow = MarketFlow(
        options.seed,
        rate=options.rate,
        tick_size=options.tick_size,
        base_price=options.base_price,
        market=options.market,
        order_ids=True,
    )
    size = options.count * TRANSACTION_DTYPE.itemsize
    refuse_foreign_sidecar(options.output)
    with signals.immediate(), replacing(options.output) as file:
        _check_room(options.output, file, size)
        header = {
            "descr": np.lib.format.dtype_to_descr(TRANSACTION_DTYPE),
            "fortran_order": False,
            "shape": (options.count,),
        }
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in _chunks(flow, options.count, options.market):
            file.write(chunk.data)
        if os.path.isfile(options.output):
            # The file at this path is another one now.
            remove_sidecar(options.output)
    # A pipe such as /dev/stdout must receive only the records.
    Screen(sys.stdout if os.path.isfile(options.output) else sys.stderr).say(
        f"{options.output}: {options.count:,} records, {size / 1e6:,.1f} MB"
    )
    return GOOD


def _check_room(path: str, file: IO[bytes], size: int) -> None:
    """Raise OSError now if the file will not fit, not after minutes of writing."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return
    disk = os.fstatvfs(file.fileno())
    free = disk.f_bavail * disk.f_frsize
    if size > free:
        why = f"{os.strerror(errno.ENOSPC)}: {size / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free"
        raise OSError(errno.ENOSPC, why, path)


def _chunks(flow: MarketFlow, events: int, market: int) -> Iterator[npt.NDArray[np.void]]:
    """Yield two records that clear the book, so that the file can be repeated; then the flow."""
    clears = np.zeros(2, TRANSACTION_DTYPE)
    clears["kind"] = Kind.CLEAR
    clears["side"] = Side.BID, Side.ASK
    clears["flags"] = Flags.SNAPSHOT, Flags.SNAPSHOT | Flags.LAST
    clears["market"] = market
    yield clears
    left = events - len(clears)
    while left > 0:
        chunk = flow.generate(min(left, CHUNK))
        left -= len(chunk)
        yield chunk
