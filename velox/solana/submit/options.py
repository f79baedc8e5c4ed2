"""The settings of a submitter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from velox.core.integers import INT32_MAX
from velox.settings import check_choice, check_integers, check_types, refusal
from velox.solana.net.rpc_types import OutcomeCommitment

__all__ = ["SubmitOptions"]

# How the compute units of a transaction are estimated.
ComputeEstimate: TypeAlias = Literal["account", "simulation"]
# What closing does with resting orders.
OnExit: TypeAlias = Literal["cancel", "leave"]
# What the start does with orders on the market that the journal does not know.
UnknownOrders: TypeAlias = Literal["refuse", "adopt", "cancel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """The settings of a `Submitter`; the table ``[submit]``.

    Attributes
    ----------
    window : int
        Transactions in flight at once.
    attempts : int
        How often an order may be signed. With more than 1, a placed order may be a minute old.
    atomic : bool
        Whether up to five transactions share a Jito bundle: all of them land, or none.
    commitment : {"confirmed", "finalized"}
        The level at which an execution counts. ``finalized`` cannot be undone. To undo a
        ``confirmed`` execution, validators with a third of the stake would have to be slashed.
    poll_ns : int
        Time between two status requests, at most 10 s.
    watch_ns : int
        Time between two reads of a market's account while our orders rest on it, at most 60 s.
        Fills by others are learned of within this time. Without doubt it is 64 `poll_ns` at most.
    resend_blocks : int
        Blocks after which the same bytes are sent again; then twice as many, and so on.
    order_valid_slots : int
        Slots after which an order expires on the market, counted from its blockhash; 0 for never.
        The default is ten minutes in slots of 400 ms.
    on_exit : {"cancel", "leave"}
        What happens to resting orders when the submitter is closed, for whatever reason: they are
        cancelled, or left in the book.
    unit_price : int
        Priority fee, in millionths of a lamport for one compute unit.
    compute : {"account", "simulation"}
        Where the compute limit of a transaction comes from. ``account`` estimates it from the
        venue's account: the size of the book and the levels that the orders cross. ``simulation``
        asks the node for each transaction, which takes a round trip; if the node finds an error,
        the estimate is used.
    compute_margin_percent : int
        Added to the limit, since the book may change before the transaction lands.
    compute_retries : int
        How often the orders of a transaction that ran out of compute units are sent again, each
        time with twice the limit.
    skip_preflight : bool
        Whether the node forwards a transaction without a simulation.
    rpc_fallback : bool
        Whether transactions that the block engine refuses go to the RPC node, where they are public
        before they land. Not with `atomic`: an RPC node takes no bundles.
    unknown_orders : {"refuse", "adopt", "cancel"}
        What to do with resting orders of the payer that the journal does not know, before the first
        order is sent. ``refuse`` ends the start. ``adopt`` makes them working orders without an id,
        which a CANCEL with the id 0 finds by market, side and price. ``cancel`` cancels them.
    isolate : bool
        Whether the orders of a failed transaction are signed again one by one, once the failure is
        *finalized*, for any `commitment`. A market executes a whole transaction or nothing. One
        order that would cross, or the cancel of a filled order, fails all orders with it. If False,
        all of them end as `FAILED`.

    Raises
    ------
    ConfigError
        A value cannot be used.
    """

    window: int = 32
    attempts: int = 1
    atomic: bool = False
    commitment: OutcomeCommitment = "confirmed"
    poll_ns: int = 400_000_000
    watch_ns: int = 2_000_000_000
    resend_blocks: int = 4
    order_valid_slots: int = 1500
    on_exit: OnExit = "cancel"
    unit_price: int = 0
    compute: ComputeEstimate = "account"
    compute_margin_percent: int = 25
    compute_retries: int = 3
    skip_preflight: bool = True
    rpc_fallback: bool = False
    isolate: bool = False
    unknown_orders: UnknownOrders = "refuse"

    def __post_init__(self) -> None:
        check_integers(
            self,
            {
                "window": (1, 1 << 16),
                "attempts": (1, 1 << 16),
                # A blockhash is valid for 30 to 60 s.
                "poll_ns": (0, 10_000_000_000),
                "watch_ns": (0, 60_000_000_000),
                "resend_blocks": (1, 1 << 16),
                "order_valid_slots": (0, INT32_MAX),
                "unit_price": (0, 1 << 40),
                "compute_margin_percent": (0, 1000),
                "compute_retries": (0, 8),
            },
        )
        check_types(self, {bool: ("atomic", "skip_preflight", "rpc_fallback", "isolate")})
        check_choice(self, "commitment", get_args(OutcomeCommitment))
        check_choice(self, "compute", get_args(ComputeEstimate))
        check_choice(self, "on_exit", get_args(OnExit))
        check_choice(self, "unknown_orders", get_args(UnknownOrders))
        if self.atomic and self.rpc_fallback:
            raise refusal(self, "rpc_fallback", True, "cannot be combined with atomic = true")
