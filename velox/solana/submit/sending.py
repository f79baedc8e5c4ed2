"""Sends signed transactions, and keeps the answers."""

from __future__ import annotations

import random
from collections.abc import Callable

from solders.pubkey import Pubkey

from velox.errors import (
    BundleRejectedError,
    ConfigError,
    RateLimitedError,
    RpcError,
    TransportError,
    VeloxError,
)
from velox.solana.net.block_engine import BlockEngineClient, BundleError
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import Commitment
from velox.solana.net.tips import TipAccounts, TipPolicy
from velox.solana.orders.in_flight import SubmissionBatch, reason_of

__all__ = ["Sender"]


class Sender:
    """Sends to a block engine, or to an RPC node.

    Parameters
    ----------
    rpc : RpcClient
    engine : BlockEngineClient or None
        None sends to `rpc`.
    tip_policy : TipPolicy or None
        Required with an engine.
    skip_preflight : bool
        As in `SubmitOptions`.
    commitment : str
        As in `SubmitOptions`.
    fallback : bool
        As in `SubmitOptions`.
    note : callable
        Called with every error.
    clock : callable
        Monotonic ns.
    rng : random.Random, optional
        Chooses tip accounts.

    Raises
    ------
    ConfigError
        There is an engine, and no tip policy.
    TransportError, RpcError, RateLimitedError
        The engine does not return its tip accounts.
    """

    def __init__(
        self,
        rpc: RpcClient,
        engine: BlockEngineClient | None,
        tip_policy: TipPolicy | None,
        *,
        skip_preflight: bool,
        commitment: Commitment,
        fallback: bool,
        note: Callable[[VeloxError], None],
        clock: Callable[[], int],
        rng: random.Random | None,
    ) -> None:
        self._rpc = rpc
        self._engine = engine
        self._policy = tip_policy
        self._skip_preflight = skip_preflight
        self._commitment = commitment
        self._fallback = fallback
        self._note = note
        self._tips: TipAccounts | None = None
        if engine is not None:
            if tip_policy is None:
                raise ConfigError("tip_policy = None: a block engine requires a tip")
            self._tips = TipAccounts(engine.get_tip_accounts, rng=rng, clock=clock)

    @property
    def bundles(self) -> bool:
        """bool: Whether transactions can be sent as a Jito bundle."""
        return self._engine is not None

    def carries(self, submission: SubmissionBatch) -> bool:
        """Return whether it can be sent as a whole.

        An RPC node could land only a part of a bundle.
        """
        return self._engine is not None or len(submission.transactions) == 1

    @property
    def ready(self) -> bool:
        """bool: Whether a request may be made now."""
        return (self._engine or self._rpc).wait_s == 0

    def tip(self, now: int) -> tuple[Pubkey | None, int]:
        """Return the tip account and the lamports of the next submission."""
        if self._tips is None or self._policy is None:
            return None, 0
        return self._tips.choose(), self._policy.lamports(now)

    def send(self, submission: SubmissionBatch, height: int) -> int:
        """Send a submission once. It is then in flight, even if the endpoint refuses it.

        Parameters
        ----------
        submission : SubmissionBatch
            Notes that it was sent, unless the endpoint's rate limit had no room.
        height : int
            The block height.

        Returns
        -------
        int
            How many requests were made.
        """
        raws = [each.signed.raw for each in submission.transactions]
        requests, was_sent = 1, True
        try:
            if self._engine is None:
                (raw,) = raws
                self._send_to_node(raw)
            else:
                self._engine.send_bundle(raws)
            submission.accepted = True
        except RateLimitedError as error:
            # Nothing was sent.
            self._note(error)
            was_sent = False
        except TransportError as error:
            self._note(error)
            submission.accepted = True
        except RpcError as error:
            self._note(error)
            self._refused(submission, error)
        falls = self._fallback and self._engine is not None and not submission.accepted
        if falls and len(raws) == 1 and self._rpc.wait_s == 0:
            requests += 1
            try:
                self._send_to_node(raws[0])
                submission.accepted = True
            except (RateLimitedError, TransportError, RpcError) as error:
                self._note(error)
                submission.accepted |= isinstance(error, TransportError)
            was_sent = True
        if was_sent:
            submission.sends += 1
            submission.sent_height = height
        return requests

    def _send_to_node(self, raw: bytes) -> None:
        self._rpc.send_transaction(
            raw, skip_preflight=self._skip_preflight, preflight_commitment=self._commitment
        )

    def _refused(self, submission: SubmissionBatch, error: RpcError) -> None:
        """Keep the refusal.

        It becomes the reason of the outcome if no endpoint has accepted the submission.
        """
        if isinstance(error, BundleRejectedError):
            reason = error.reason
            if reason is BundleError.NO_TIP and self._tips is not None:
                self._tips.mark_stale()
            known = reason in (BundleError.ALREADY_PROCESSED, BundleError.DUPLICATE)
            submission.accepted |= known or error.__cause__ is not None
            refusal = reason.value if isinstance(reason, BundleError) else str(reason)
        else:
            err = error.data.get("err") if isinstance(error.data, dict) else None
            submission.accepted |= err == "AlreadyProcessed"
            refusal = reason_of(err if err is not None else error.message)
        submission.refusal = f"refused: {refusal}"
