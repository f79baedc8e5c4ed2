"""Handing signed transactions out, and keeping what is said to that."""

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
    """The way out: a block engine, or an RPC node.

    Parameters
    ----------
    rpc : RpcClient
    engine : BlockEngineClient or None
        None sends to `rpc`.
    tip_policy : TipPolicy or None
        Needed with an engine.
    skip_preflight, commitment, fallback
        As in `SubmitOptions`.
    note : callable
        Is told of every error.
    clock : callable
        Monotonic ns.
    rng : random.Random, optional
        Chooses tip accounts.

    Raises
    ------
    ConfigError
        An engine without a tip.
    TransportError, RpcError, RateLimitedError
        The engine does not say who is to be tipped.
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
                raise ConfigError("tip_policy = None: a block engine takes nothing without a tip")
            self._tips = TipAccounts(engine.get_tip_accounts, rng=rng, clock=clock)

    @property
    def bundles(self) -> bool:
        """bool: Whether several transactions can go together."""
        return self._engine is not None

    def carries(self, volley: SubmissionBatch) -> bool:
        """Whether it can be handed out as what it is: a node would land a part of a bundle."""
        return self._engine is not None or len(volley.flights) == 1

    @property
    def ready(self) -> bool:
        """bool: Whether a request may be made now."""
        return (self._engine or self._rpc).wait_s == 0

    def tip(self, now: int) -> tuple[Pubkey | None, int]:
        """Return whom the next volley tips, and how many lamports."""
        if self._tips is None or self._policy is None:
            return None, 0
        return self._tips.choose(), self._policy.lamports(now)

    def send(self, volley: SubmissionBatch, height: int) -> int:
        """Hand out, once, a volley that it carries. Whatever is answered, it is under way.

        Parameters
        ----------
        volley : SubmissionBatch
            Remembers that it was sent, unless the endpoint had no room for it.
        height : int
            The block height.

        Returns
        -------
        int
            How many requests that took.
        """
        raws = [each.signed.raw for each in volley.flights]
        requests, gone = 1, True
        try:
            if self._engine is None:
                (raw,) = raws
                self._send_to_node(raw)
            else:
                self._engine.send_bundle(raws)
            volley.accepted = True
        except RateLimitedError as error:
            # It was sent nowhere.
            self._note(error)
            gone = False
        except TransportError as error:
            self._note(error)
            volley.accepted = True
        except RpcError as error:
            self._note(error)
            self._refused(volley, error)
        falls = self._fallback and self._engine is not None and not volley.accepted
        if falls and len(raws) == 1 and self._rpc.wait_s == 0:
            requests += 1
            try:
                self._send_to_node(raws[0])
                volley.accepted = True
            except (RateLimitedError, TransportError, RpcError) as error:
                self._note(error)
                volley.accepted |= isinstance(error, TransportError)
            gone = True
        if gone:
            volley.sends += 1
            volley.sent_height = height
        return requests

    def _send_to_node(self, raw: bytes) -> None:
        self._rpc.send_transaction(
            raw, skip_preflight=self._skip_preflight, preflight_commitment=self._commitment
        )

    def _refused(self, volley: SubmissionBatch, error: RpcError) -> None:
        """Keep what was said: it is the reason, should it turn out that nobody took the volley."""
        if isinstance(error, BundleRejectedError):
            reason = error.reason
            if reason is BundleError.NO_TIP and self._tips is not None:
                self._tips.mark_stale()
            known = reason in (BundleError.ALREADY_PROCESSED, BundleError.DUPLICATE)
            volley.accepted |= known or error.__cause__ is not None
            said = reason.value if isinstance(reason, BundleError) else str(reason)
        else:
            err = error.data.get("err") if isinstance(error.data, dict) else None
            volley.accepted |= err == "AlreadyProcessed"
            said = reason_of(err if err is not None else error.message)
        volley.refusal = f"refused: {said}"
