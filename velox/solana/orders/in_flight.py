"""Transactions under way, and what may be concluded about them from what the chain says."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from velox.solana.journal.records import Signed
from velox.solana.orders.outcomes import Outcome

if TYPE_CHECKING:
    from velox.solana.net.rpc_types import Commitment, SignatureStatus
    from velox.solana.orders.queue import OrderBatch

__all__ = ["COMMITMENTS", "InFlight", "SubmissionBatch", "Verdict", "judge", "reason_of"]

#: How sure an execution is, ascending.
COMMITMENTS: Final[dict[Commitment, int]] = {"processed": 0, "confirmed": 1, "finalized": 2}
MAX_REASON = 120


class Verdict(Enum):
    """What the chain's word about a transaction amounts to."""

    WAIT = "wait"
    """It may execute yet, or its execution is not sure enough."""
    LANDED = "landed"
    FAILED = "failed"
    MISSING = "missing"
    """It can no longer execute, and nobody knows that it has."""


def judge(
    status: SignatureStatus | None,
    commitment: Commitment,
    *,
    last_valid: int,
    finalized: int | None,
    whole_history: bool,
) -> Verdict:
    """Say what a status means.

    Parameters
    ----------
    status : SignatureStatus or None
    commitment : {"processed", "confirmed", "finalized"}
        How sure an execution must be.
    last_valid : int
        The last block height at which the transaction may execute.
    finalized : int or None
        A finalized block height, read *before* the status; None if nobody asked.
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


class InFlight:
    """One signed transaction, journalled.

    Attributes
    ----------
    signed : Signed
    pack : OrderBatch
        The orders inside; one of an earlier process has no entries.
    volley : SubmissionBatch
        What it is sent with.
    seen : bool
        Whether any node said that it was executed.
    missing : int
        How many looks in a row found that it can no longer execute and is nowhere.
    status : SignatureStatus or None
        Its execution, while what it did in the market is still asked for.
    looks : int
        How often that was asked.
    """

    __slots__ = ("looks", "missing", "pack", "seen", "signed", "status", "volley")

    def __init__(self, signed: Signed, pack: OrderBatch, volley: SubmissionBatch) -> None:
        self.signed = signed
        self.pack = pack
        self.volley = volley
        self.seen = False
        self.missing = 0
        self.status: SignatureStatus | None = None
        self.looks = 0


class SubmissionBatch:
    """Transactions that are sent together: one, or a bundle that lands whole or not at all.

    Attributes
    ----------
    flights : list of InFlight
    attempt : int
        1, or how often its orders have been signed.
    ended : dict of InFlight to Outcome
        Those whose end is known.
    sends : int
        How often it went out, or may have.
    sent_height : int or None
        Block height at the last time; None of one that an earlier process may have sent.
    accepted : bool
        Whether anybody may have taken it; only if not is a refusal the reason of its end.
    refusal : str
        What the last endpoint that refused it said.
    broken : bool
        Whether an earlier process saw some of it end: the rest is not sent or signed by itself.
    """

    __slots__ = (
        "accepted",
        "attempt",
        "broken",
        "ended",
        "flights",
        "refusal",
        "sends",
        "sent_height",
    )

    def __init__(self, attempt: int) -> None:
        self.flights: list[InFlight] = []
        self.attempt = attempt
        self.ended: dict[InFlight, Outcome] = {}
        self.sends = 0
        self.sent_height: int | None = None
        self.accepted = False
        self.refusal = ""
        self.broken = False

    @property
    def over(self) -> bool:
        """bool: Whether the end of every flight is known."""
        return len(self.ended) == len(self.flights)

    @property
    def nothing_landed(self) -> bool:
        """bool: Whether none was executed, so that all of it may be signed anew."""
        expired = all(each is Outcome.EXPIRED for each in self.ended.values())
        return expired and not self.broken

    @property
    def last_valid(self) -> int:
        """int: The last block height at which all of it may land."""
        return min(each.signed.last_valid_block_height for each in self.flights)

    def goes(self, height: int, resend_blocks: int) -> bool:
        """Whether it is time to send it, at a block height.

        At once the first time; again after `resend_blocks`, and each time after twice as many.
        Nothing goes that somebody saw executed, or that is not whole any more.
        """
        if self.ended or self.broken or height > self.last_valid:
            return False
        if any(each.seen for each in self.flights):
            return False
        if self.sent_height is None:
            return True
        return height - self.sent_height >= resend_blocks << (self.sends - 1)


def reason_of(err: Any) -> str:
    """Write an error of the chain's as a few words.

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
