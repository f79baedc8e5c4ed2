"""The interface of a carrier.

A carrier encodes orders as one Solana instruction and decodes the result.

A venue that takes orders on Solana is one subclass of `Carrier`, in a folder of its own under
``venues/``. Routing, signing, reconciliation and reports use only the attributes and methods of
this interface.

There are two kinds of venue, told apart by `Carrier.numbers_orders`:

- A venue that only records orders. It places nothing and numbers nothing; a CANCEL is a record
  like any other. Such a carrier implements the four abstract methods.
- A venue that runs an order book. It gives each order that it places a number, and cancels go by
  that number. Such a carrier also sets `market`, `lot_atoms` and `max_orders_per_answer`, and
  implements `result`. If the resting orders can be read from an account, it sets `account` and
  implements `read_account`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from velox.venue import Reason

if TYPE_CHECKING:
    import numpy.typing as npt
    from solders.instruction import Instruction
    from solders.pubkey import Pubkey

    from velox.core.records import Side

__all__ = [
    "Cancel",
    "Carrier",
    "Fill",
    "OrderNumber",
    "TransactionResult",
    "VenueOrder",
    "VenueState",
]


class Cancel(NamedTuple):
    """An order to cancel at the venue. If the order is gone, the whole transaction fails.

    Attributes
    ----------
    sequence : int
        The number that the venue gave the order, u64.
    hint : int or None
        The place of the order in the venue's account, u32, which saves the program a search.
    """

    sequence: int
    hint: int | None = None


class OrderNumber(NamedTuple):
    """The number that a venue gave an order.

    Attributes
    ----------
    sequence : int
        The number, u64.
    rests : bool
        Whether any of the order is in the book. False if it was filled at once, or expired.
    hint : int or None
        As in `Cancel`; None if the venue gives none, or the order does not rest.
    """

    sequence: int
    rests: bool
    hint: int | None = None


class Fill(NamedTuple):
    """A fill of one of our orders.

    Attributes
    ----------
    sequence : int
        The venue's number of our order.
    side : Side
        The side of our order.
    price : int
        In units of 1e-4 quote units for one base unit, rounded down if the venue's is finer.
    base_atoms, quote_atoms : int
        The exact amounts.
    maker : bool
        Whether our order rested in the book.
    """

    sequence: int
    side: Side
    price: int
    base_atoms: int
    quote_atoms: int
    maker: bool


class TransactionResult(NamedTuple):
    """The result of an executed transaction at the venue.

    Attributes
    ----------
    placed : sequence of OrderNumber or None
        The number of each order that the transaction placed, in the transaction's order. None if
        the numbers could not be read, or if the venue gives none.
    fills : sequence of Fill
        Fills of our orders in this transaction.
    unread : int
        Events of the venue's program whose layout is not known.
    truncated : bool
        Whether the node cut the log, so that fills may be missing.
    base_moved, quote_moved : int
        Atoms that the trader deposited, less those that it withdrew.
    """

    placed: Sequence[OrderNumber] | None = None
    fills: Sequence[Fill] = ()
    unread: int = 0
    truncated: bool = False
    base_moved: int = 0
    quote_moved: int = 0


class VenueOrder(NamedTuple):
    """One of our resting orders, as the venue's account has it.

    Attributes
    ----------
    sequence : int
        The venue's number of it.
    side : int
        0 for a bid, 1 for an ask.
    price : int
        In units of 1e-4, rounded down if the venue's is finer.
    base_atoms : int
        What is left of it.
    quote_atoms : int
        What a bid has locked, and what an ask would get if it were filled whole.
    hint : int or None
        As in `Cancel`.
    last_valid_slot : int
        0 for never.
    """

    sequence: int
    side: int
    price: int
    base_atoms: int
    quote_atoms: int
    hint: int | None = None
    last_valid_slot: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueState:
    """What a venue's account tells a trader, at one slot.

    Attributes
    ----------
    orders : mapping of int to VenueOrder
        The trader's resting orders, by the venue's number.
    resting : int
        The resting orders of all traders.
    seated : bool
        Whether the trader may trade there.
    base_atoms, quote_atoms : int
        What the trader has at the venue: its free deposits and what its orders have locked.
    free_base_atoms, free_quote_atoms : int
        Its free deposits.
    book : object
        What the carrier needs of the others' orders for `Carrier.estimate_units`.
    """

    orders: Mapping[int, VenueOrder]
    resting: int = 0
    seated: bool = True
    base_atoms: int = 0
    quote_atoms: int = 0
    free_base_atoms: int = 0
    free_quote_atoms: int = 0
    book: object = None


class Carrier(ABC):
    """Encodes orders into one instruction, and reads the result of the instruction.

    Transactions are built by patching bytes. So only the number of orders and cancels may decide
    the length of the instruction's data, and the accounts must not depend on the orders.

    Attributes
    ----------
    name : str
        Short, for messages.
    program : Pubkey
        The program that the instruction calls. The signer's policy must allow it.
    market : int or None
        The Velox market whose orders it carries, 0 to 255. None carries the orders of every market
        that no other carrier has.
    numbers_orders : bool
        Whether the venue places orders and numbers them. If so, `payload` receives the orders to
        place and the numbers to cancel. If not, it receives the records unchanged, CANCELs
        included.
    max_orders_per_answer : int or None
        The most orders whose numbers fit one answer of the program; None for no limit.
    lot_atoms : int
        Base atoms in one lot; 0 if the venue does not count in atoms.
    account : Pubkey or None
        The account that holds the resting orders; None if they cannot be read.

    Notes
    -----
    A carrier keeps no state between calls. Any thread may use it.
    """

    name: str
    program: Pubkey
    market: int | None = None
    numbers_orders: bool = False
    max_orders_per_answer: int | None = None
    lot_atoms: int = 0
    account: Pubkey | None = None

    @abstractmethod
    def payload_bytes(self, orders: int, cancels: int = 0, hinted: int = 0) -> int:
        """Return the length of the data for so many orders and cancels, in bytes.

        Parameters
        ----------
        orders, cancels : int
        hinted : int
            How many of the cancels have a hint.

        Raises
        ------
        RecordError
            The venue cannot carry this shape.
        """

    @abstractmethod
    def compute_units(self, orders: int, cancels: int = 0) -> int:
        """Return the compute unit limit to set if no account was read: an upper estimate."""

    @abstractmethod
    def payload(
        self,
        orders: npt.NDArray[np.void],
        cancels: Sequence[Cancel] = (),
        last_valid_slot: int = 0,
    ) -> bytes:
        """Return the data of the instruction.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)
        cancels : sequence of Cancel
            Orders to cancel, by the numbers that the venue gave them.
        last_valid_slot : int
            The orders expire after this slot, u32; 0 for never.

        Raises
        ------
        RecordError
            A record or a cancel cannot be carried; `index` and `field` name it.
        UnrepresentableError
            The venue's format cannot hold a price or a size exactly.
        """

    @abstractmethod
    def instruction(self, payer: Pubkey, payload: bytes) -> Instruction:
        """Return the instruction with this data, signed by `payer`."""

    def representable(self, orders: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Return which orders the venue's format holds exactly; all of them by default.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)
            With a valid side, and a price and a size over zero.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        return np.ones(len(orders), np.bool_)

    def result(
        self, logs: Iterable[str], return_data: bytes | None, placed: int, trader: Pubkey
    ) -> TransactionResult:
        """Read the result of an executed transaction. Needed if `numbers_orders`.

        Parameters
        ----------
        logs : iterable of str
            The transaction's log lines; empty if the node keeps none.
        return_data : bytes or None
            The return data of the transaction's last instruction.
        placed : int
            How many orders the transaction placed.
        trader : Pubkey
            Who signed it.
        """
        return TransactionResult()

    def estimate_units(
        self,
        orders: npt.NDArray[np.void],
        cancels: Sequence[Cancel],
        state: VenueState,
    ) -> int:
        """Return the compute units that a transaction needs at a venue in a known state.

        The submitter adds a margin, because the state may change before the transaction lands.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)
        cancels : sequence of Cancel
        state : VenueState
        """
        return self.compute_units(len(orders), len(cancels))

    def check_account(self, data: bytes, trader: Pubkey) -> None:  # noqa: B027 - a venue need not have one
        """Refuse an account that contradicts the carrier, or on which `trader` cannot trade.

        The submitter calls it before the first order. By default everything is accepted.

        Parameters
        ----------
        data : bytes
            The data of the account.
        trader : Pubkey

        Raises
        ------
        MarketError
            The message names both values.
        RecordError
            The account is not of this venue, or is damaged.
        """

    def only_cancels(self, payload: bytes) -> bool:
        """Return whether the data of an instruction cancels orders and does nothing else.

        A signer that was killed still signs such transactions.
        """
        return False

    def most_rent(self, payload: bytes) -> int:
        """Return the most lamports that an instruction takes from the payer beside the fees."""
        return 0

    def explain(self, code: int) -> str:
        """Return the meaning of an error code of the program; empty if it is not known.

        Parameters
        ----------
        code : int
            The number of a ``Custom`` error.
        """
        return ""

    def reason(self, code: int) -> Reason:
        """Return the reason of the reports of a transaction that failed with an error code."""
        return Reason.OTHER

    def price_of(self, base_atoms: int, quote_atoms: int) -> int:
        """Return the price of a fill in units of 1e-4, rounded down; 0 if it is not known."""
        return 0

    def quote_of(self, side: int, price: int, base_atoms: int) -> int:
        """Return about how many quote atoms a fill at a price of ours has, to one atom."""
        return 0

    def read_account(self, data: bytes, trader: Pubkey) -> VenueState:
        """Return what the account tells `trader`. Needed if `account` is set.

        Parameters
        ----------
        data : bytes
            The data of the account.
        trader : Pubkey

        Raises
        ------
        RecordError
            The account is not of this venue, or is damaged.
        """
        raise NotImplementedError(f"{self.name}: account is set, so read_account must be defined")
