"""What every feed gives: transactions, their instruments, and what the book must then be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from velox.core.instrument import Instrument
from velox.runtime.checks import ChecksumChecks, DepthChecks

__all__ = ["Recording"]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recorded feed, ready to be replayed.

    The transactions can be replayed back to back any number of times: wherever a book is opened
    they clear both of its sides first. Arrays are read-only, so that threads may share them.

    Attributes
    ----------
    transactions : ndarray, shape (n,), dtype TRANSACTION_DTYPE
        `ingress_ts_ns` is the event's time in the recording, in nanoseconds. `Flags.LAST` marks
        the last record of each venue event, `Flags.SNAPSHOT` the records that open a book.
    instruments : tuple of Instrument
        One a market, with ids 0, 1, 2… in order of appearance.
    checks : DepthChecks, ChecksumChecks or None
        What the venue says the book must be, at given positions of `transactions`.
    skipped : int
        Lines of input left out under ``on_error="skip"``.
    problems : tuple of str
        Why: the first few of them.
    source : tuple of pathlib.Path
        The files.
    """

    transactions: npt.NDArray[np.void]
    instruments: tuple[Instrument, ...]
    checks: DepthChecks | ChecksumChecks | None
    skipped: int
    problems: tuple[str, ...]
    source: tuple[Path, ...]

    def __post_init__(self) -> None:
        self.transactions.setflags(write=False)

    def __len__(self) -> int:
        return len(self.transactions)
