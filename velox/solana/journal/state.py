"""The state of a journal: the sum of its records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np
from solders.signature import Signature

from velox.errors import JournalError
from velox.solana.journal.records import (
    RESTING_DTYPE,
    Array,
    Capture,
    Header,
    Record,
    Remains,
    Summary,
)
from velox.solana.orders.in_flight import Signed
from velox.solana.orders.outcomes import Outcome

__all__ = ["JournalState"]

# The most rows in one summary. More rows take several.
ROWS_A_SUMMARY: Final = 1 << 16
# Signatures are kept for twice the life of a blockhash, and filtered after so many new ones.
RECENT_BLOCKS: Final = 300
RECENT: Final = 1024


@dataclass(slots=True)
class JournalState:
    """The open work of a journal: transactions in flight, and resting orders.

    Attributes
    ----------
    header : Header or None
        None in a new journal.
    transactions : dict of int to Signed
        Transactions without an outcome, by number.
    ended : dict of Outcome to int
        Counts of ended transactions.
    resting : dict of (int, int) to void of RESTING_DTYPE
        Resting orders by market and number, oldest first.
    next_number : int
    recent : dict of Signature to int
        Signatures of the newest transactions, ended or not, with the last block height of each.
        Signing the same bytes again would not make another transaction.
    captures : dict of bytes to int
        The captures that were begun, by SHA-256, with their number of bundles.
    slot : int
        The newest in which a transaction was executed.
    """

    header: Header | None = None
    transactions: dict[int, Signed] = field(default_factory=dict)
    ended: dict[Outcome, int] = field(default_factory=dict)
    resting: dict[tuple[int, int], np.void] = field(default_factory=dict)
    next_number: int = 0
    recent: dict[Signature, int] = field(default_factory=dict)
    captures: dict[bytes, int] = field(default_factory=dict)
    slot: int = 0

    def note(self, record: Record, *, path: object, offset: int | None) -> None:
        """Add a record to the state.

        Raises
        ------
        JournalError
            The record contradicts an earlier one.
        """
        if isinstance(record, Header):
            if self.header is not None:
                raise JournalError("the journal has a second header", path=path, offset=offset)
            self.header = record
        elif isinstance(record, Signed):
            if record.number < self.next_number:
                raise JournalError(
                    f"transaction {record.number} occurs twice", path=path, offset=offset
                )
            self.transactions[record.number] = record
            self.next_number = record.number + 1
            self.recent[record.signature] = record.last_valid_block_height
            if len(self.recent) % RECENT == 0:
                self.forget()
        elif isinstance(record, Summary):
            self.next_number = max(self.next_number, record.next_number)
            self.slot = max(self.slot, record.slot)
            for outcome, count in record.ended.items():
                self.ended[outcome] = self.ended.get(outcome, 0) + count
            self.recent.update(record.recent)
            self._rest(record.rests)
        elif isinstance(record, Remains):
            self._remain(record.rows)
        elif isinstance(record, Capture):
            self.captures[record.digest] = record.bundles
        else:
            if self.transactions.pop(record.number, None) is None:
                raise JournalError(
                    f"transaction {record.number} ends, but it is not in flight",
                    path=path,
                    offset=offset,
                )
            self.ended[record.outcome] = self.ended.get(record.outcome, 0) + 1
            self.slot = max(self.slot, record.slot)
            for number in record.gone:
                self.resting.pop(number, None)
            self._rest(record.rests)

    def _rest(self, rows: Array) -> None:
        for row in rows:
            self.resting[int(row["market"]), int(row["sequence"])] = row

    def _remain(self, rows: Array) -> None:
        for row in rows:
            former = self.resting.pop((int(row["market"]), int(row["sequence"])), None)
            if former is not None and row["lots"]:
                left = np.array([former], RESTING_DTYPE)
                left["lots"] = row["lots"]
                self._rest(left)

    def forget(self) -> None:
        """Drop the signatures that can no longer execute."""
        oldest = max(self.recent.values(), default=0) - RECENT_BLOCKS
        self.recent = {each: last for each, last in self.recent.items() if last >= oldest}

    def records(self) -> Iterator[Record]:
        """Yield records that give a new journal this state."""
        self.forget()
        if self.header is not None:
            yield self.header
        yield from (Capture(*each) for each in self.captures.items())
        yield from self.transactions.values()
        yield Summary(self.next_number, self.slot, self.ended)
        names = iter(self.recent.items())
        while part := dict(islice(names, ROWS_A_SUMMARY)):
            yield Summary(self.next_number, recent=part)
        rows = iter(self.resting.values())
        while some := list(islice(rows, ROWS_A_SUMMARY)):
            yield Summary(self.next_number, rests=np.array(some, RESTING_DTYPE))
