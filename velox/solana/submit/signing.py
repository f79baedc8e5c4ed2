"""Builds and signs transactions with unique signatures."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from solders.signature import Signature

from velox.errors import (
    RecordError,
    SpendRefusedError,
    TransactionTooLargeError,
    UnrepresentableError,
    VeloxError,
)
from velox.solana.net.rpc_types import Blockhash
from velox.solana.orders.in_flight import TransactionPlan
from velox.solana.orders.queue import OrderBatch
from velox.solana.submit.options import SubmitOptions
from velox.solana.submit.routing import Route
from velox.solana.submit.sending import Sender
from velox.solana.tx.carrier import VenueState
from velox.solana.tx.limits import MAX_COMPUTE_UNITS
from velox.solana.tx.template import WireTransaction

__all__ = ["Refusal", "TransactionSigner"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was signed.

    Attributes
    ----------
    reason : str
    temporary : bool
        Whether the reason is the signer's spending limit for a minute, which will have room again.
    """

    reason: str
    temporary: bool = False


class TransactionSigner:
    """Signs the plans of routes.

    Parameters
    ----------
    sender : Sender
        Chooses the tip.
    options : SubmitOptions
    simulate : callable
        Returns the compute units that an unsigned transaction uses; None if that is not known.
    note : callable
        Called with every error.

    Attributes
    ----------
    recent : dict of Signature to int
        Signatures that may still execute, with the last block height of each. The same bytes
        twice would be one transaction.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(
        self,
        sender: Sender,
        options: SubmitOptions,
        simulate: Callable[[bytes], int | None],
        note: Callable[[VeloxError | str], None],
    ) -> None:
        self._sender = sender
        self._valid_slots = options.order_valid_slots
        self._unit_price = options.unit_price
        self._margin = options.compute_margin_percent
        self._simulate = simulate if options.compute == "simulation" else None
        self._note = note
        self.recent: dict[Signature, int] = {}

    def sign(
        self,
        route: Route,
        plan: TransactionPlan,
        batch: OrderBatch,
        blockhash: Blockhash,
        now: int,
        *,
        tips: bool,
        state: VenueState | None,
    ) -> WireTransaction | Refusal:
        """Return the signed transaction of a plan, or why there is none.

        Parameters
        ----------
        route : Route
        plan : TransactionPlan
            A plan of that route.
        batch : OrderBatch
            Its orders.
        blockhash : Blockhash
        now : int
            ns, for the tip policy.
        tips : bool
            Whether it pays the tip of its bundle.
        state : VenueState or None
            The venue's account, as it was last read.
        """
        try:
            return self._sign(route, plan, batch, blockhash, now, tips=tips, state=state)
        except SpendRefusedError as error:
            self._note(error)
            temporary = error.rule == "max_spend_lamports_per_minute"
            return Refusal(str(error) if temporary else f"not signed: {error.rule}", temporary)
        except (TransactionTooLargeError, UnrepresentableError, RecordError) as error:
            self._note(error)
            return Refusal(f"not built: {type(error).__name__.removesuffix('Error')}")
        except Exception as error:
            # From a signer or a tip policy outside Velox. Its message may hold secrets: drop it.
            reason = f"not signed: {type(error).__name__}"
            self._note(reason)
            return Refusal(reason)

    def _sign(
        self,
        route: Route,
        plan: TransactionPlan,
        batch: OrderBatch,
        blockhash: Blockhash,
        now: int,
        *,
        tips: bool,
        state: VenueState | None,
    ) -> WireTransaction:
        records, cancels = route.payload(plan, batch)
        tip_account, tip_lamports = self._sender.tip(now) if tips else (None, 0)
        unit_price = self._unit_price
        units: int | None = None
        if state is not None:
            units = self._limit(route.carrier.estimate_units(records, cancels, state), batch)
        simulates = self._simulate is not None
        while True:
            template = route.builder.patched(
                records,
                cancels,
                blockhash=blockhash.hash,
                last_valid_block_height=blockhash.last_valid_block_height,
                tip_account=tip_account,
                tip_lamports=tip_lamports,
                last_valid_slot=blockhash.slot + self._valid_slots if self._valid_slots else 0,
                unit_price=unit_price,
                compute_units=MAX_COMPUTE_UNITS if simulates else units,
            )
            if simulates and self._simulate is not None:
                simulates = False
                used = self._simulate(template.unsigned())
                units = units if used is None else self._limit(used, batch)
                continue
            built = template.sign(route.builder.signer)
            if built.signature not in self.recent:
                self.recent[built.signature] = blockhash.last_valid_block_height
                return built
            # The same orders were signed before. The chain executes the same bytes only once.
            unit_price += 1

    def _limit(self, units: int, batch: OrderBatch) -> int:
        """Return a compute limit: with the margin, and doubled for each time it was too low."""
        with_margin = units * (100 + self._margin) // 100
        return min(with_margin << batch.compute_failures, MAX_COMPUTE_UNITS)

    def forget(self, height: int, in_flight: Container[Signature]) -> None:
        """Drop signatures that can no longer execute at a block height and are not in flight."""
        over = [signature for signature, last in self.recent.items() if last < height]
        for signature in over:
            if signature not in in_flight:
                del self.recent[signature]
