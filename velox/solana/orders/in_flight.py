"""Signed transactions in flight, and the meaning of the chain's statuses of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from solders.hash import Hash
from solders.signature import Signature

from velox.solana.orders.outcomes import Outcome

if TYPE_CHECKING:
    from velox.solana.net.rpc_types import Commitment, SignatureStatus
    from velox.solana.orders.queue import OrderBatch
    from velox.solana.tx.spend import SpendSummary

__all__ = [
    "COMMITMENTS",
    "InFlight",
    "Signed",
    "SubmissionBatch",
    "TransactionPlan",
    "Verdict",
    "judge",
    "reason_of",
]

#: The commitment levels, in ascending order.
COMMITMENTS: Final[dict[Commitment, int]] = {"processed": 0, "confirmed": 1, "finalized": 2}
MAX_REASON = 120


class Verdict(Enum):
    """What is known about a transaction."""

    WAIT = "wait"
    """It may still execute, or its execution has not reached the commitment level."""
    LANDED = "landed"
    FAILED = "failed"
    MISSING = "missing"
    """It can no longer execute, and the whole history does not have it."""


def judge(
    status: SignatureStatus | None,
    commitment: Commitment,
    *,
    last_valid: int,
    finalized: int | None,
    whole_history: bool,
) -> Verdict:
    """Return the verdict on a status.

    Parameters
    ----------
    status : SignatureStatus or None
    commitment : {"processed", "confirmed", "finalized"}
        The level that an execution must reach.
    last_valid : int
        The last block height at which the transaction may execute.
    finalized : int or None
        A finalized block height, read *before* the status; None if it was not read.
    whole_history : bool
        Whether the whole history was searched for the status.

    Returns
    -------
    Verdict

    Examples
    --------
    >>> judge(None, "confirmed", last_valid=150, finalized=150, whole_history=True).value
    'wait'
    >>> judge(None, "confirmed", last_valid=150, finalized=151, whole_history=False).value
    'wait'
    >>> judge(None, "confirmed", last_valid=150, finalized=151, whole_history=True).value
    'missing'
    """
    if status is not None:
        if COMMITMENTS[status.confirmation_status] < COMMITMENTS[commitment]:
            return Verdict.WAIT
        return Verdict.LANDED if status.err is None else Verdict.FAILED
    if finalized is not None and finalized > last_valid and whole_history:
        return Verdict.MISSING
    return Verdict.WAIT


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionPlan:
    """The orders and cancels of one transaction.

    Attributes
    ----------
    orders : ndarray of TRANSACTION_DTYPE, shape (n,)
        The orders that it carries out.
    places : ndarray of TRANSACTION_DTYPE, shape (m,)
        What it places at a venue that numbers orders: the ADDs, then what is left of orders that
        are cancelled in part. Empty for other venues.
    cancels : tuple of int
        The venue's numbers of what it cancels.
    """

    orders: npt.NDArray[np.void]
    places: npt.NDArray[np.void]
    cancels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed(TransactionPlan):
    """A signed transaction: its plan, its bytes, and the data that is needed to follow it.

    Attributes
    ----------
    number : int
        Its number in the journal, ascending.
    attempt : int
        How often its orders have been signed; 1 the first time.
    last_valid_block_height : int
        The last block height at which the chain can execute it.
    blockhash : Hash
    raw : bytes
        Signatures and message.
    submission : int
        The number of the first transaction that is sent with it.
    submission_size : int
        How many transactions are sent together.
    """

    number: int
    attempt: int
    last_valid_block_height: int
    blockhash: Hash
    raw: bytes = field(repr=False)
    submission: int = 0
    submission_size: int = 1

    @property
    def signature(self) -> Signature:
        """Signature: The transaction's name on the chain."""
        return Signature.from_bytes(self.raw[1:65])


class InFlight:
    """One signed transaction that is in the journal.

    Attributes
    ----------
    signed : Signed
    spend : SpendSummary
        The fee and the tip that it pays.
    batch : OrderBatch
        Its orders. A transaction of an earlier process has no entries.
    submission : SubmissionBatch
        The transactions that are sent together with it.
    seen : bool
        Whether a node has reported its execution.
    missing : int
        How many status requests in a row found `Verdict.MISSING`.
    status : SignatureStatus or None
        Its execution, while its result at the venue is still being read.
    looks : int
        How often that was tried.
    compute_units : int
        Its compute limit; 0 if it is not known.
    paid : int or None
        The lamports that the payer paid for its execution; None if that is not known.
    """

    __slots__ = (
        "batch",
        "compute_units",
        "looks",
        "missing",
        "paid",
        "seen",
        "signed",
        "spend",
        "status",
        "submission",
    )

    def __init__(
        self,
        signed: Signed,
        spend: SpendSummary,
        batch: OrderBatch,
        submission: SubmissionBatch,
        compute_units: int = 0,
    ) -> None:
        self.signed = signed
        self.spend = spend
        self.batch = batch
        self.submission = submission
        self.seen = False
        self.missing = 0
        self.status: SignatureStatus | None = None
        self.looks = 0
        self.compute_units = compute_units
        self.paid: int | None = None


class SubmissionBatch:
    """Transactions that are sent together: one, or a Jito bundle, of which all land or none.

    Attributes
    ----------
    transactions : list of InFlight
    attempt : int
        How often its orders have been signed; 1 the first time.
    ended : dict of InFlight to Outcome
        The outcomes known so far.
    sends : int
        How often it was sent, or may have been.
    sent_height : int or None
        Block height when it was last sent; None if an earlier process may have sent it.
    accepted : bool
        Whether an endpoint may have accepted it. If not, `refusal` is the reason of its end.
    refusal : str
        The last refusal.
    broken : bool
        Whether an earlier process saw a part of it end. The rest is then not sent or signed again.
    """

    __slots__ = (
        "accepted",
        "attempt",
        "broken",
        "ended",
        "refusal",
        "sends",
        "sent_height",
        "transactions",
    )

    def __init__(self, attempt: int) -> None:
        self.transactions: list[InFlight] = []
        self.attempt = attempt
        self.ended: dict[InFlight, Outcome] = {}
        self.sends = 0
        self.sent_height: int | None = None
        self.accepted = False
        self.refusal = ""
        self.broken = False

    @property
    def only_cancels(self) -> bool:
        """bool: Whether it cancels orders and places none."""
        return all(
            each.signed.cancels and not len(each.signed.places) for each in self.transactions
        )

    @property
    def over(self) -> bool:
        """bool: Whether every outcome is known."""
        return len(self.ended) == len(self.transactions)

    @property
    def nothing_landed(self) -> bool:
        """bool: Whether nothing was executed, so that all orders may be signed again."""
        expired = all(each is Outcome.EXPIRED for each in self.ended.values())
        return expired and not self.broken

    @property
    def last_valid(self) -> int:
        """int: The last block height at which all of it can land."""
        return min(each.signed.last_valid_block_height for each in self.transactions)

    def is_due(self, height: int, resend_blocks: int) -> bool:
        """Return whether to send it at a block height.

        It is sent at once the first time. It is sent again after `resend_blocks`, then after twice
        as many, and so on. It is not sent once a part of it was executed or has ended.
        """
        if self.ended or self.broken or height > self.last_valid:
            return False
        if any(each.seen for each in self.transactions):
            return False
        if self.sent_height is None:
            return True
        return height - self.sent_height >= resend_blocks << (self.sends - 1)


def reason_of(err: Any) -> str:
    """Return an error of the chain as a short text.

    Examples
    --------
    >>> reason_of({"InstructionError": [3, {"Custom": 6}]})
    'InstructionError(3, Custom(6))'
    >>> reason_of("AccountNotFound")
    'AccountNotFound'
    """
    return _words(err)[:MAX_REASON]


def _words(value: Any) -> str:
    if isinstance(value, dict) and len(value) == 1:
        ((name, inner),) = value.items()
        listed = inner if isinstance(inner, list) else [inner]
        return f"{name}({', '.join(map(_words, listed))})"
    return value if isinstance(value, str) else json.dumps(value, default=str)
