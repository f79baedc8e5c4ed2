"""Learns of the fills that our own transactions do not show, and accounts for every atom.

Another trader who fills one of our resting orders does it in a transaction of their own. The
venue's account then has fewer atoms of ours. `FillWatch` compares what we hold there with what the
known fills and transfers explain. If the two differ, or one of our orders shrank, it reads the
transactions that named the account since the last time, oldest first, and takes our fills from
their logs. A node without that history gives no logs; the fills then come from the account itself.

What a trader holds is the sum of free deposits and of what its orders lock. On Manifest it changes
by fills, deposits and withdrawals alone, to the atom.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from solders.signature import Signature

from velox.core.records import Side
from velox.errors import RateLimitedError, RpcError, TransportError, VeloxError
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import SignatureInfo
from velox.solana.orders.reports import Reporter
from velox.solana.orders.working import RestingOrder
from velox.solana.submit.routing import Routes
from velox.solana.tx.carrier import Carrier, Fill, TransactionResult, VenueState
from velox.venue import Reason

__all__ = ["FillWatch", "Holding"]

# Reads of an account with the same difference, before it is given up. What has executed but is not
# known yet makes a difference too. It ends as soon as the node lists the transaction.
MOST_TRIES: Final = 20
# The same, if the log of one of our transactions was cut, which explains it.
STEADY_READS: Final = 8
# States that are compared again when more is known.
KEPT_STATES: Final = 32
# How far a state may be newer than the slot that the node named.
LATE_SLOTS: Final = 2
# Signatures in one answer, and the most answers for one scan.
PAGE: Final = 1000
MOST_PAGES: Final = 10
# How far the first state may be newer than the slot that the node named.
EARLY_SLOTS: Final = 4
# Signatures that are remembered as processed.
REMEMBERED: Final = 1 << 12
# The codes of nodes that keep no history of accounts.
_NO_HISTORY: Final = frozenset({-32601, -32010, -32011})
_NO_SIGNATURE: Final = Signature.default()


@dataclass(frozen=True, slots=True)
class Holding:
    """What a trader holds at a venue, and what it has traded, in atoms.

    Attributes
    ----------
    market : int
        The Velox market.
    base_atoms, quote_atoms : int
        What the known fills and transfers make of the first state.
    chain_base_atoms, chain_quote_atoms : int
        What the account held when it was last read.
    slot : int
        When that was.
    base_traded, quote_traded : int
        The sums of all fills since the start, with sign: what was bought is positive.
    verified : bool
        Whether the two agreed at that slot, and nothing has happened since.
    unexplained_base, unexplained_quote : int
        Differences that no transaction explains. A run with any has failed.
    """

    market: int
    base_atoms: int
    quote_atoms: int
    chain_base_atoms: int
    chain_quote_atoms: int
    slot: int
    base_traded: int
    quote_traded: int
    verified: bool
    unexplained_base: int = 0
    unexplained_quote: int = 0

    @property
    def holds(self) -> bool:
        """bool: Whether the sums of exact atoms equal the chain's."""
        return self.verified and not (self.unexplained_base or self.unexplained_quote)

    def __str__(self) -> str:
        text = (
            f"market {self.market}: traded {self.base_traded:+,} base and {self.quote_traded:+,} "
            f"quote atoms; holds {self.chain_base_atoms:,} and {self.chain_quote_atoms:,} at slot "
            f"{self.slot}"
        )
        if self.holds:
            return f"{text}, as the fills say"
        base = self.chain_base_atoms - self.base_atoms + self.unexplained_base
        quote = self.chain_quote_atoms - self.quote_atoms + self.unexplained_quote
        return f"{text}; {base:+,} and {quote:+,} atoms are not explained by any fill"


@dataclass(slots=True)
class _Books:
    """The account of one route."""

    carrier: Carrier
    base: int
    quote: int
    since: int
    cursor: Signature | None
    state: VenueState
    slot: int
    # What happened since the last state that agreed: slot, base and quote atoms.
    changes: deque[tuple[int, int, int]] = field(default_factory=deque)
    # Own transactions whose log was cut: signature, slot, and the order that may have more fills.
    cut: list[tuple[Signature, int, int]] = field(default_factory=list)
    # Orders that the account no longer has, until fills explain them or not.
    vanished: list[tuple[RestingOrder, int]] = field(default_factory=list)
    base_traded: int = 0
    quote_traded: int = 0
    unexplained_base: int = 0
    unexplained_quote: int = 0
    due: bool = False
    # The last states that did not agree: slot, base and quote atoms.
    states: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=KEPT_STATES))
    has_history: bool = True

    def at(self, slot: int) -> tuple[int, int]:
        """Return what is expected at a slot."""
        some = [each for each in self.changes if each[0] <= slot]
        return self.base + sum(b for _, b, _ in some), self.quote + sum(q for _, _, q in some)

    def difference(self) -> tuple[int, int]:
        """Return what the account has beyond what is expected."""
        base, quote = self.at(self.slot)
        return self.state.base_atoms - base, self.state.quote_atoms - quote

    def steady(self) -> tuple[tuple[int, int], int]:
        """Return the difference that most of the last states have, and how many of them have it.

        A state may hold what executed up to `LATE_SLOTS` after the slot that the node named.
        """
        found: Counter[tuple[int, int]] = Counter()
        for slot, base_atoms, quote_atoms in self.states:
            expected = {self.at(slot + late) for late in range(LATE_SLOTS + 1)}
            found.update((base_atoms - base, quote_atoms - quote) for base, quote in expected)
        return found.most_common(1)[0] if found else ((0, 0), 0)

    def drop_early(self) -> bool:
        """Return whether what seems to lack was part of the first state already.

        A node may answer from a state that is newer than the slot that it names. The first
        transactions after that slot are then counted twice.
        """
        difference, base, quote = self.difference(), 0, 0
        for slot, base_atoms, quote_atoms in self.changes:
            if slot > self.since + EARLY_SLOTS:
                break
            base += base_atoms
            quote += quote_atoms
            if difference == (-base, -quote):
                return True
        return False

    def agree(self) -> None:
        """Take the present state as the new first one."""
        self.changes = deque(each for each in self.changes if each[0] > self.slot)
        self.base, self.quote = self.state.base_atoms, self.state.quote_atoms
        self.due = bool(self.changes)
        self.states.clear()
        # A state from before a transaction agrees without what its log does not show.
        self.cut = [each for each in self.cut if each[1] > self.slot]


class FillWatch:
    """Finds fills by others, and keeps the sums of what we hold.

    Parameters
    ----------
    rpc : RpcClient
    routes : Routes
    reporter : Reporter
        Takes the reports.
    commitment : {"confirmed", "finalized"}
    busy : callable
        Returns whether one of our transactions is in flight on a route.
    doubt : callable
        Has the account of a route read at the next poll.
    note : callable
        Called with every error.

    Notes
    -----
    Thread-safety: one thread. Any thread may call `holdings`.
    """

    def __init__(
        self,
        rpc: RpcClient,
        routes: Routes,
        reporter: Reporter,
        *,
        commitment: Literal["confirmed", "finalized"],
        busy: Callable[[int], bool],
        doubt: Callable[[int], None],
        note: Callable[[VeloxError | str], None],
    ) -> None:
        self._rpc = rpc
        self._routes = routes
        self._reporter = reporter
        self._commitment: Literal["confirmed", "finalized"] = commitment
        self._busy = busy
        self._doubt = doubt
        self._note = note
        self._trader = routes.trader
        self._books: dict[int, _Books] = {}
        self._cursors: dict[int, tuple[Signature | None, bool]] = {}
        self._done: OrderedDict[Signature, None] = OrderedDict()

    def prepare(self, route: int) -> None:
        """Note the newest transaction of a venue. Call it before the account is first read."""
        account = self._routes[route].carrier.account
        assert account is not None
        newest, has_history = None, True
        try:
            found = self._rpc.get_signatures_for_address(
                account, limit=1, commitment=self._commitment
            )
            newest = found[0].signature if found else None
        except RpcError as error:
            if error.code not in _NO_HISTORY:
                raise
            has_history = False
        self._cursors[route] = newest, has_history

    def begin(self, route: int, state: VenueState, slot: int) -> None:
        """Take the first state of an account."""
        cursor, has_history = self._cursors.pop(route)
        self._books[route] = _Books(
            self._routes[route].carrier,
            state.base_atoms,
            state.quote_atoms,
            slot,
            cursor,
            state,
            slot,
            has_history=has_history,
        )

    def signed(self, signature: Signature) -> None:
        """Note one of our transactions: its fills come from its own result."""
        # Before the accounts are read, it is not known which have a history.
        if not self._books or any(each.has_history for each in self._books.values()):
            self._remember(signature)

    def landed(
        self, route: int, signature: Signature, slot: int, result: TransactionResult
    ) -> None:
        """Take in the result of one of our transactions."""
        books = self._books.get(route)
        if books is None:
            return
        self._change(books, slot, result)
        if result.truncated:
            number = result.placed[-1].sequence if result.placed else 0
            for fill in result.fills:
                number = fill.sequence if not fill.maker else number
            books.cut.append((signature, slot, number))
        # An order may have been filled before it was cancelled.
        books.due = True
        self._doubt(route)

    def read(
        self,
        route: int,
        state: VenueState,
        slot: int,
        changed: Sequence[tuple[RestingOrder, int]],
    ) -> None:
        """Take in a state of the account.

        Parameters
        ----------
        route : int
        state : VenueState
        slot : int
            When it was read.
        changed : sequence of (RestingOrder, int)
            Resting orders with other lots than were known, and their lots before.
        """
        books = self._books.get(route)
        if books is None:
            return
        before = books.state
        books.state, books.slot = state, slot
        for order, _ in changed:
            number = order.sequence or 0
            if number not in state.orders:
                books.vanished.append((order, number))
        if changed:
            books.due = True
        if self._agrees(route, books):
            return
        books.due = True
        self._doubt(route)
        try:
            if books.has_history:
                self._scan(books)
            else:
                self._derive(route, books, before, [order for order, _ in changed])
        except (TransportError, RateLimitedError, RpcError) as error:
            self._note(error)
            return
        # What is in flight may explain the rest.
        if not (self._agrees(route, books) or self._busy(route)):
            self._give_up(books)

    def _give_up(self, books: _Books) -> None:
        """Note a difference that nothing explains, once enough states have it."""
        if books.drop_early():
            books.agree()
            return
        books.states.append((books.slot, books.state.base_atoms, books.state.quote_atoms))
        difference, times = books.steady()
        if difference == (0, 0):
            return
        if books.cut and times >= STEADY_READS and self._summarise(books, *difference):
            books.states.clear()
            return
        if times < MOST_TRIES:
            return
        base, quote = difference
        books.unexplained_base += base
        books.unexplained_quote += quote
        self._note(
            f"market {books.carrier.market}: {base:+,} base and {quote:+,} quote atoms are not "
            "explained by any fill"
        )
        books.base += base
        books.quote += quote
        books.states.clear()

    def _agrees(self, route: int, books: _Books) -> bool:
        if self._busy(route) and books.due:
            # Fills and cancels may hide each other.
            return False
        if books.difference() != (0, 0):
            return False
        if not self._busy(route):
            self._end_vanished(books)
            books.agree()
            if books.due:
                self._doubt(route)
        return True

    def _end_vanished(self, books: _Books) -> None:
        """Report orders that ended without a fill: they expired, or another program ended them."""
        for order, number in books.vanished:
            left = self._reporter.ids.left(order.market, number)
            if left:
                last = self._reporter.ids.last_valid_slot(order.market, number)
                self._reporter.ended(
                    order, number, left, books.carrier, books.slot, expired=0 < last < books.slot
                )
        books.vanished.clear()

    def _scan(self, books: _Books) -> None:
        """Read the transactions of others since the last scan, oldest first."""
        for info in self._new_signatures(books):
            if info.signature not in self._done and not info.failed and info.slot > books.since:
                found = self._rpc.get_transaction(info.signature, self._commitment)
                if found is None:
                    # The node that listed it knows it. This one will.
                    return
                result = books.carrier.result(found.logs or (), found.return_data, 0, self._trader)
                for fill in result.fills:
                    self._reporter.filled(fill, books.carrier, found.slot, info.signature)
                self._change(books, found.slot, result)
                if result.truncated:
                    self._note(
                        f"transaction {info.signature}: its log was cut, fills may be missing"
                    )
                self._remember(info.signature)
            books.cursor = info.signature

    def _new_signatures(self, books: _Books) -> list[SignatureInfo]:
        account, found = books.carrier.account, list[SignatureInfo]()
        assert account is not None
        before: Signature | None = None
        for _ in range(MOST_PAGES):
            page = self._rpc.get_signatures_for_address(
                account,
                limit=PAGE,
                before=before,
                until=books.cursor,
                commitment=self._commitment,
            )
            found += page
            if len(page) < PAGE or page[-1].slot <= books.since:
                break
            before = page[-1].signature
        found.reverse()
        return found

    def _derive(
        self, route: int, books: _Books, before: VenueState, changed: list[RestingOrder]
    ) -> None:
        """Take the fills of resting orders from the sizes that shrank."""
        fills: list[Fill] = []
        for order in changed:
            number = order.sequence or 0
            left = books.state.orders.get(number)
            was = self._reporter.ids.left(order.market, number)
            old = before.orders.get(number)
            if was is None and old is not None:
                was = old.base_atoms
            atoms = (was or 0) - (left.base_atoms if left is not None else 0)
            if atoms <= 0:
                continue
            if left is None and old is not None and 0 < old.last_valid_slot < books.slot:
                # It has expired. The account does not tell whether it was filled before.
                continue
            quote = books.carrier.quote_of(order.side, order.price, atoms)
            fills.append(Fill(number, Side(order.side), order.price, atoms, quote, True))
        if fills and not self._busy(route):
            # Rounding of single fills is not known. The sum is, and the last takes the difference.
            _, quote = books.difference()
            sign = [-1 if each.side == 0 else 1 for each in fills]
            rest = quote - sum(s * each.quote_atoms for s, each in zip(sign, fills, strict=True))
            if abs(rest) <= 2 * len(fills) + sum(each.base_atoms for each in fills) // 1000:
                last = fills[-1]
                fills[-1] = last._replace(quote_atoms=last.quote_atoms + sign[-1] * rest)
        for fill in fills:
            self._reporter.filled(fill, books.carrier, books.slot, _NO_SIGNATURE)
        self._change(books, books.slot, TransactionResult(fills=fills))

    def _summarise(self, books: _Books, base: int, quote: int) -> bool:
        """Report what a cut log does not show as one fill of the order that has it."""
        if base * quote >= 0:
            return False
        signature, slot, number = books.cut[-1]
        price = books.carrier.price_of(abs(base), abs(quote))
        fill = Fill(number, Side.ASK if base < 0 else Side.BID, price, abs(base), abs(quote), False)
        self._reporter.filled(fill, books.carrier, slot, signature, Reason.SUMMARISED)
        self._change(books, slot, TransactionResult(fills=[fill]))
        books.cut.clear()
        return True

    @staticmethod
    def _change(books: _Books, slot: int, result: TransactionResult) -> None:
        base = quote = 0
        for fill in result.fills:
            sign = 1 if fill.side == 0 else -1
            base += sign * fill.base_atoms
            quote -= sign * fill.quote_atoms
        books.base_traded += base
        books.quote_traded += quote
        if slot > books.since:
            base += result.base_moved
            quote += result.quote_moved
            if base or quote:
                books.changes.append((slot, base, quote))

    def _remember(self, signature: Signature) -> None:
        self._done[signature] = None
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)

    @property
    def settled(self) -> bool:
        """bool: Whether every account agreed with the fills when it was last read."""
        return not any(each.due for each in self._books.values())

    def holdings(self) -> list[Holding]:
        """Return what we hold at each venue that has an account."""
        found = []
        for books in list(self._books.values()):
            base, quote = books.at(1 << 64)
            found.append(
                Holding(
                    books.carrier.market or 0,
                    base,
                    quote,
                    books.state.base_atoms,
                    books.state.quote_atoms,
                    books.slot,
                    books.base_traded,
                    books.quote_traded,
                    (base, quote) == (books.state.base_atoms, books.state.quote_atoms),
                    books.unexplained_base,
                    books.unexplained_quote,
                )
            )
        return found
