"""Orders as memos: text in the log of a Solana transaction. Nothing is executed.

The memo venue needs no market, no seat and no deposit. Use it to try the way to the chain, in
tests, and to keep a public record.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from velox.core.records import TRANSACTION_DTYPE, validate
from velox.errors import RecordError
from velox.solana.tx.carrier import Cancel, Carrier
from velox.solana.tx.instructions import MEMO_PROGRAM, memo
from velox.solana.tx.limits import MAX_COMPUTE_UNITS

__all__ = ["MEMO_PREFIX", "MemoCarrier", "decode_memo", "memos_in"]

# Names the format and its version.
MEMO_PREFIX: Final = b"velox1:"
# A record without its last field, the time at which the order came in.
MEMO_RECORD_BYTES: Final = 24


_LOGGED = re.compile(rf'^Program log: (?:Memo \(len \d+\): ")?({MEMO_PREFIX.decode()}[\w+/=]*)"?$')


class MemoCarrier(Carrier):
    """Writes orders of any market into memos. A CANCEL is a record like any other.

    The text is `MEMO_PREFIX`, then base 64 of the first 24 bytes of each record: id, price, size,
    side, kind, flags, market.
    """

    name = "memo"
    program = MEMO_PROGRAM

    def payload_bytes(self, orders: int, cancels: int = 0, hinted: int = 0) -> int:
        if cancels:
            raise RecordError(f"a memo has no cancels by number, got {cancels}", field="cancels")
        return len(MEMO_PREFIX) + MEMO_RECORD_BYTES * orders // 3 * 4

    def compute_units(self, orders: int, cancels: int = 0) -> int:
        # Version 4 of the program took 1300 units for 27 records. Earlier versions take some 350 a
        # byte: their documentation says 566 bytes for 200 000 units.
        return min(20_000 + 12_000 * orders, MAX_COMPUTE_UNITS)

    def payload(
        self,
        orders: npt.NDArray[np.void],
        cancels: Sequence[Cancel] = (),
        last_valid_slot: int = 0,
    ) -> bytes:
        self.payload_bytes(len(orders), len(cancels))
        validate(orders)
        whole = orders.view(np.uint8).reshape(-1, TRANSACTION_DTYPE.itemsize)
        return MEMO_PREFIX + base64.b64encode(whole[:, :MEMO_RECORD_BYTES].tobytes())

    def instruction(self, payer: Pubkey, payload: bytes) -> Instruction:
        return memo(payload, payer)


def memos_in(logs: Iterable[str]) -> list[str]:
    """Return the memos of `MemoCarrier` in a transaction's log, for `decode_memo`.

    Parameters
    ----------
    logs : iterable of str
        The log's lines. Some versions of the program quote the text; others give it its own line.
    """
    found = map(_LOGGED.search, logs)
    return [match[1] for match in found if match is not None]


def decode_memo(text: str | bytes) -> npt.NDArray[np.void]:
    """Return the records in a memo of `MemoCarrier`.

    Returns
    -------
    ndarray of TRANSACTION_DTYPE, shape (n,)
        `ingress_ts_ns` is 0: a memo does not carry it.

    Raises
    ------
    RecordError
        The text is not such a memo, or a record in it is invalid.
    """
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if not data.startswith(MEMO_PREFIX):
        raise RecordError(
            f"expected a memo that begins with {MEMO_PREFIX!r}, got {data[:16]!r}", field="prefix"
        )
    try:
        packed = base64.b64decode(data[len(MEMO_PREFIX) :], validate=True)
    except binascii.Error as error:
        raise RecordError(f"a memo's text is not base 64: {error}", field="base64") from None
    if len(packed) % MEMO_RECORD_BYTES:
        raise RecordError(
            f"a memo holds {len(packed)} bytes, which is not a multiple of {MEMO_RECORD_BYTES}",
            field="length",
        )
    orders = np.zeros(len(packed) // MEMO_RECORD_BYTES, TRANSACTION_DTYPE)
    whole = orders.view(np.uint8).reshape(-1, TRANSACTION_DTYPE.itemsize)
    whole[:, :MEMO_RECORD_BYTES] = np.frombuffer(packed, np.uint8).reshape(-1, MEMO_RECORD_BYTES)
    validate(orders)
    return orders
