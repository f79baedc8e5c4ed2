"""Sends one transaction, and follows it to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from velox.errors import RateLimitedError, RpcError, SubmitError, TransportError
from velox.solana.net.rpc import RpcClient
from velox.solana.orders.in_flight import COMMITMENTS, reason_of
from velox.solana.tx.template import WireTransaction

__all__ = ["send_and_follow"]

# Blocks after which the same bytes are sent again.
RESEND_BLOCKS: Final = 4
# Status requests in a row that must find it missing.
MISSING_LOOKS: Final = 2


def send_and_follow(
    rpc: RpcClient,
    built: WireTransaction,
    *,
    poll_s: float = 0.4,
    deadline_s: float = 90.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], int] = time.monotonic_ns,
) -> tuple[int, str]:
    """Send a transaction until its outcome is known.

    The same bytes are sent again while they are valid. They can be executed once only.

    Parameters
    ----------
    rpc : RpcClient
    built : WireTransaction
    poll_s : float
        Seconds between two status requests.
    deadline_s : float
        Seconds after which the outcome is unknown.
    sleep : callable
        Waits for so many seconds.
    clock : callable
        Monotonic ns.

    Returns
    -------
    slot : int
        The slot of its execution; 0 if it expired.
    reason : str
        Why it failed; empty if it was executed.

    Raises
    ------
    SubmitError
        Its outcome is not known at the deadline. The message has its signature.
    """
    until = clock() + round(deadline_s * 1e9)
    sent_at: int | None = None
    missing, last = 0, ""
    while clock() < until:
        try:
            height = rpc.get_block_height("confirmed")
            valid = height <= built.last_valid_block_height
            if valid and (sent_at is None or height - sent_at >= RESEND_BLOCKS):
                sent_at = height
                last = _send(rpc, built)
            finalized = 0
            slot = 0
            if not valid:
                slot, finalized = rpc.get_slot_and_height("finalized")
            (status,) = rpc.get_signature_statuses(
                [built.signature], search_history=not valid, least_slot=slot
            )
        except (TransportError, RpcError, RateLimitedError) as error:
            last = str(error)
        else:
            if status is not None:
                missing = 0
                if COMMITMENTS[status.confirmation_status] >= COMMITMENTS["confirmed"]:
                    return status.slot, "" if status.err is None else reason_of(status.err)
            elif finalized > built.last_valid_block_height:
                missing += 1
                if missing >= MISSING_LOOKS:
                    return 0, f"expired; {last}" if last else "expired"
        sleep(poll_s)
    raise SubmitError(f"{built.signature}: its outcome is not known; {last}")


def _send(rpc: RpcClient, built: WireTransaction) -> str:
    """Send it once; return why the node refused it, or nothing."""
    try:
        rpc.send_transaction(built.raw, skip_preflight=True)
    except (TransportError, RpcError, RateLimitedError) as error:
        return str(error)
    return ""
