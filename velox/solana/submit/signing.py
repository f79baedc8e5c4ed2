"""Orders to bytes that no other transaction of ours has: signed, or refused in a few words."""

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
from velox.solana.config import SubmitOptions
from velox.solana.net.rpc_types import Blockhash
from velox.solana.submit.routing import Route, TransactionPlan
from velox.solana.submit.sending import Sender

__all__ = ["Refusal", "TransactionSigner"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing was signed.

    Attributes
    ----------
    reason : str
    passing : bool
        Whether it is the signer's cap on what a minute may cost, in which there will be room again.
    """

    reason: str
    passing: bool = False


class TransactionSigner:
    """Signs what lanes plan.

    Parameters
    ----------
    dispatch : Sender
        Knows who is tipped.
    options : SubmitOptions
    note : callable
        Is told of every error.

    Attributes
    ----------
    recent : dict of Signature to int
        What may still execute, by its last valid height: the same bytes twice would be one
        transaction.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(
        self,
        dispatch: Sender,
        options: SubmitOptions,
        note: Callable[[VeloxError | str], None],
    ) -> None:
        self._dispatch = dispatch
        self._valid_slots = options.order_valid_slots
        self._unit_price = options.unit_price
        self._note = note
        self.recent: dict[Signature, int] = {}

    def sign(
        self, lane: Route, plan: TransactionPlan, blockhash: Blockhash, now: int, *, tips: bool
    ) -> bytes | Refusal:
        """Return the transaction of a plan.

        Parameters
        ----------
        lane : Route
        plan : TransactionPlan
            One of that lane's.
        blockhash : Blockhash
        now : int
            ns, for the tip policy.
        tips : bool
            Whether it is the one of its volley that tips.
        """
        try:
            return self._sign(lane, plan, blockhash, now, tips=tips)
        except SpendRefusedError as error:
            self._note(error)
            passing = error.rule == "max_spend_lamports_per_minute"
            return Refusal(str(error) if passing else f"not signed: {error.rule}", passing)
        except (TransactionTooLargeError, UnrepresentableError, RecordError) as error:
            self._note(error)
            return Refusal(f"not built: {type(error).__name__.removesuffix('Error')}")
        except Exception as error:
            # A signer or a tip policy of somebody else's; what it says may hold what it should not.
            reason = f"not signed: {type(error).__name__}"
            self._note(reason)
            return Refusal(reason)

    def _sign(
        self, lane: Route, plan: TransactionPlan, blockhash: Blockhash, now: int, *, tips: bool
    ) -> bytes:
        records, cancels = lane.payload(plan)
        tip_account, tip_lamports = self._dispatch.tip(now) if tips else (None, 0)
        unit_price = self._unit_price
        while True:
            built = lane.builder.build(
                records,
                cancels,
                blockhash=blockhash.hash,
                last_valid_block_height=blockhash.last_valid_block_height,
                tip_account=tip_account,
                tip_lamports=tip_lamports,
                last_valid_slot=blockhash.slot + self._valid_slots if self._valid_slots else 0,
                unit_price=unit_price,
            )
            if built.signature not in self.recent:
                self.recent[built.signature] = blockhash.last_valid_block_height
                return built.raw
            # The same orders once more: by the same bytes they would be executed once.
            unit_price += 1

    def forget(self, height: int, flying: Container[Signature]) -> None:
        """Forget what can no longer execute at a block height, and does not fly."""
        over = [signature for signature, last in self.recent.items() if last < height]
        for signature in over:
            if signature not in flying:
                del self.recent[signature]
