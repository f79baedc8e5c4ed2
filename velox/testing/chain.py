"""Slots, blocks, and the transactions that land in them."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from solders.account import Account
from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.solana.submit.blockhash import BLOCKHASH_VALID_BLOCKS
from velox.solana.tx.limits import MIN_TIP_LAMPORTS
from velox.solana.tx.template import bundle_id
from velox.testing.faults import Fault, FaultInjector
from velox.testing.received import Received
from velox.testing.svm import Execution, Svm

__all__ = ["COMMITMENTS", "MAX_AGE", "Block", "Bundle", "Chain"]

# A blockhash is valid in the block after its own and in 150 more: a ring of 151.
MAX_AGE = BLOCKHASH_VALID_BLOCKS
# How many blocks must be on top of a block for each commitment.
COMMITMENTS = MappingProxyType({"processed": 0, "confirmed": 1, "finalized": 32})
# For how many blocks a status is known without a search of the history.
STATUS_BLOCKS = 300
# How long a block engine remembers a bundle.
BUNDLE_MEMORY_NS = 300_000_000_000
BLOCKS_KEPT = 512
# Slots and block heights differ on every real chain. Here, too, so that tests notice a confusion.
GENESIS_HEIGHT = 1_000
GENESIS_TIME_S = 1_750_000_000
TIP_ACCOUNTS = 8


@dataclass(slots=True)
class Block:
    """One block.

    Attributes
    ----------
    slot, parent_slot, height : int
    blockhash : Hash
        The hash that transactions of the following blocks may name.
    time_s : int
        Unix time.
    executions : list of Execution
        In order.
    changed : dict of Pubkey to Account
        The watched accounts that it may have written, in their state after it.
    """

    slot: int
    parent_slot: int
    height: int
    blockhash: Hash
    time_s: int
    executions: list[Execution] = field(default_factory=list)
    changed: dict[Pubkey, Account | None] = field(default_factory=dict)


@dataclass(slots=True)
class Bundle:
    """One bundle that a block engine has accepted.

    Attributes
    ----------
    id : str
    transactions : tuple of Received
    regions : set of str
        The regions of the block engine that were sent it. Others do not know it.
    accepted_slot : int
    landed_slot : int or None
    failure : str or None
        Why it did not land; None if it landed or still may.
    disowned : bool
        Whether the block engine always reports it as ``Invalid``.
    """

    id: str
    transactions: tuple[Received, ...]
    regions: set[str]
    accepted_slot: int
    landed_slot: int | None = None
    failure: str | None = None
    disowned: bool = False


@dataclass(slots=True)
class _Waiting:
    """Transactions that were accepted and have not landed yet."""

    due_slot: int
    transactions: tuple[Received, ...]
    bundle: Bundle | None = None
    first_alone: bool = False


class Chain:
    """A chain of one validator. `tick` makes a block.

    Accepted transactions land in the next block, in the order of acceptance. `lock` guards
    everything, and every change holds it from beginning to end. So another thread sees the chain
    only between two changes.

    Parameters
    ----------
    injector : FaultInjector
    slot_ns : int
        Length of a slot in chain time.
    seed : int
        Blockhashes, the faucet and tip accounts come from it.
    """

    def __init__(self, injector: FaultInjector, slot_ns: int, seed: int) -> None:
        self.lock = threading.RLock()
        self.svm = Svm()
        self.injector = injector
        self.slot_ns = slot_ns
        self.executions: list[Execution] = []
        self.statuses: dict[Signature, Execution] = {}
        self.bundles: dict[str, Bundle] = {}
        self.tip_accounts: list[Pubkey] = []
        self.retired_tip_accounts: list[Pubkey] = []
        self.listeners: list[Callable[[Chain], None]] = []
        self.watched: set[Pubkey] = set()
        self.watched_programs: set[Pubkey] = set()
        self._seed = seed
        self._tip_sets = 0
        self._messages: set[Hash] = set()
        self._waiting: list[_Waiting] = []
        # What lands again once its fork is given up, by the height at which that happens.
        self._forks: list[tuple[int, _Waiting]] = []
        self._tips: deque[int] = deque(maxlen=1_000)
        self._ring: dict[Hash, int] = {}
        self.genesis_hash = self._hash("genesis")
        self.blocks: deque[Block] = deque(maxlen=BLOCKS_KEPT)
        first = self.svm.genesis_slot
        for age in range(MAX_AGE, -1, -1):
            self._append(first + MAX_AGE - age, GENESIS_HEIGHT - age)
        self.faucet = self.keypair("faucet")
        self.svm.fund(self.faucet.pubkey(), 10**17)
        # Twice, so that some accounts are retired from the start.
        self.rotate_tip_accounts()
        self.rotate_tip_accounts()

    # Time

    @property
    def head(self) -> Block:
        return self.blocks[-1]

    def block(self, commitment: str) -> Block:
        """Return the newest block of a commitment, a key of `COMMITMENTS`."""
        return self.blocks[-1 - COMMITMENTS[commitment]]

    def tick(self, count: int = 1) -> None:
        """Make `count` blocks, and land the transactions that are due."""
        for _ in range(count):
            with self.lock:
                self.advance(1)

    def advance(self, slots: int) -> None:
        """Make one block, `slots` slots after the last. The slots between are skipped."""
        with self.lock:
            slot = self.head.slot + slots
            if strike := self.injector.meet(Fault.SKIPPED_SLOTS, slot):
                slot += 1 + self.injector.choose(strike, self.injector.plan.skip_slots)
            block = self._append(slot, self.head.height + 1)
            self._give_forks_up(block)
            due = [each for each in self._waiting if each.due_slot <= slot]
            self._waiting = [each for each in self._waiting if each.due_slot > slot]
            for each in due:
                self._land(each, block)
            for listener in self.listeners:
                listener(self)

    def time_s(self, slot: int) -> int:
        """Return the Unix time of a slot, in seconds."""
        return GENESIS_TIME_S + (slot - self.svm.genesis_slot) * self.slot_ns // 1_000_000_000

    def _append(self, slot: int, height: int) -> Block:
        block = Block(
            slot=slot,
            parent_slot=self.blocks[-1].slot if self.blocks else slot,
            height=height,
            blockhash=self._hash(f"block {height}"),
            time_s=self.time_s(slot),
        )
        self.svm.enter_slot(slot, block.time_s)
        self.blocks.append(block)
        self._ring[block.blockhash] = height
        if len(self._ring) > MAX_AGE + 1:
            del self._ring[next(iter(self._ring))]
        return block

    def _hash(self, purpose: str) -> Hash:
        return Hash.from_bytes(hashlib.sha256(f"velox {self._seed} {purpose}".encode()).digest())

    def keypair(self, purpose: str) -> Keypair:
        """Return the key that the chain's seed gives for a purpose."""
        return Keypair.from_seed(bytes(self._hash(purpose)))

    # Blockhashes, signatures, tips

    def last_valid_height(self, blockhash: Hash) -> int | None:
        """Return the last block height at which a blockhash is valid; None if it has passed."""
        height = self._ring.get(blockhash)
        return None if height is None else height + MAX_AGE

    def objection(self, received: Received) -> str | None:
        """Return why a transaction cannot land: it landed already, or its blockhash is too old."""
        if received.signature in self.statuses or received.message_hash in self._messages:
            return "AlreadyProcessed"
        if received.blockhash in self._ring:
            return None
        nonce = received.advances_nonce
        if nonce is not None and self.svm.nonce(nonce) == received.blockhash:
            return None
        return "BlockhashNotFound"

    def confirmations(self, execution: Execution) -> int:
        """Return how many blocks are on top of an execution's block."""
        return self.head.height - execution.block_height

    def status(self, signature: Signature, *, search_history: bool) -> Execution | None:
        """Return the execution of a signature; None if it is unknown, or old and not searched."""
        execution = self.statuses.get(signature)
        if execution is None or search_history:
            return execution
        return execution if self.confirmations(execution) <= STATUS_BLOCKS else None

    def rotate_tip_accounts(self) -> None:
        """Replace the tip accounts by eight others."""
        self.retired_tip_accounts = self.tip_accounts
        names = [f"tip {self._tip_sets} {i}" for i in range(TIP_ACCOUNTS)]
        self._tip_sets += 1
        self.tip_accounts = [self.keypair(name).pubkey() for name in names]
        for each in self.tip_accounts:
            # Without this, a small tip would create an account below the rent-exempt minimum.
            self.svm.fund(each, self.svm.rent_exemption(0))

    @property
    def landed_tips(self) -> list[int]:
        """The tips of the latest bundles, in lamports."""
        return list(self._tips)

    # Acceptance

    def waits(self, received: Received) -> bool:
        """Return whether this transaction was accepted and has not landed yet."""
        return any(
            each.signature == received.signature
            for waiting in self._waiting
            for each in waiting.transactions
        )

    def accept(self, received: Received) -> None:
        """Accept one transaction, which lands by itself."""
        with self.lock:
            self._wait(_Waiting(0, (received,)), received.signature)

    def accept_without_faults(self, received: Received) -> None:
        """Accept one transaction, which lands in the next block without faults."""
        with self.lock:
            self._waiting.append(_Waiting(self.head.slot + 1, (received,)))

    def accept_bundle(self, transactions: tuple[Received, ...], region: str) -> Bundle:
        """Accept a bundle, of which all transactions land or none.

        A waiting bundle is accepted once.
        """
        with self.lock:
            name = bundle_id([each.signature for each in transactions])
            known, regions = self.bundles.get(name), {region}
            if known is not None:
                known.regions |= regions
                if any(each.bundle is known for each in self._waiting):
                    return known
                regions = known.regions
            bundle = Bundle(name, transactions, regions, self.head.slot)
            self.bundles[name] = bundle
            bundle.disowned = self.injector.meet(Fault.INVALID_YET_LANDED, name) is not None
            waiting = _Waiting(0, transactions, bundle)
            if len(transactions) > 1 and self.injector.meet(Fault.FIRST_LANDS_ALONE, name):
                waiting.first_alone = True
            self._wait(waiting, name)
            return bundle

    def _wait(self, waiting: _Waiting, name: object) -> None:
        waiting.due_slot = self.head.slot + 1
        if self.injector.meet(Fault.DROPPED, name):
            return
        if strike := self.injector.meet(Fault.DELAYED, name):
            waiting.due_slot += 1 + self.injector.choose(strike, self.injector.plan.delay_slots)
        self._waiting.append(waiting)

    # Landing

    def _land(self, waiting: _Waiting, block: Block) -> None:
        bundle = waiting.bundle
        if bundle is None or waiting.first_alone:
            # After an uncled block, anyone can send the transactions of a bundle one by one.
            first = waiting.transactions[0]
            if self.objection(first) is None and not self._forks_away(waiting, block):
                execution = self._execute(first, block, bundle)
                if isinstance(execution, Execution):
                    self._commit([execution], block)
            if bundle is not None:
                bundle.failure = "UncledBlock"
        else:
            self._land_whole(bundle, block)

    def _forks_away(self, waiting: _Waiting, block: Block) -> bool:
        """Return whether a transaction fails on a fork, and lands again after the fork is gone."""
        (first, *rest) = waiting.transactions
        strike = None
        if waiting.bundle is None and not rest:
            strike = self.injector.meet(Fault.FORKED, first.signature)
        if strike is None:
            return False
        self.statuses[first.signature] = self.svm.failure_elsewhere(first, block.slot, block.height)
        length = 1 + self.injector.choose(strike, self.injector.plan.fork_blocks)
        self._forks.append((block.height + length, waiting))
        return True

    def _give_forks_up(self, block: Block) -> None:
        over = [waiting for height, waiting in self._forks if height <= block.height]
        self._forks = [each for each in self._forks if each[0] > block.height]
        for waiting in over:
            del self.statuses[waiting.transactions[0].signature]
        # What was executed on a fork only may land in the next block.
        self._waiting += over

    def _land_whole(self, bundle: Bundle, block: Block) -> None:
        before: dict[Pubkey, Account | None] = {}
        executions, failure = self._try(bundle, block, before)
        tip = sum(self._tip(each) for each in executions)
        if failure is None and tip < MIN_TIP_LAMPORTS:
            failure = "StateAuctionBidRejected"
        if failure is None:
            self._commit(executions, block)
            self._tips.append(tip)
            bundle.landed_slot = block.slot
        else:
            self.svm.restore(before)
            bundle.failure = failure

    def _try(
        self, bundle: Bundle, block: Block, before: dict[Pubkey, Account | None]
    ) -> tuple[list[Execution], str | None]:
        """Execute a bundle up to the first failure; return the executions and the failure."""
        executions: list[Execution] = []
        for received in bundle.transactions:
            failure = self.objection(received)
            if failure is None:
                self.svm.keep(received, before)
                execution = self._execute(received, block, bundle)
                if isinstance(execution, Execution) and execution.err is None:
                    executions.append(execution)
                    continue
                failure = "SimulationFailure"
            return executions, failure
        return executions, None

    def _execute(self, received: Received, block: Block, bundle: Bundle | None) -> Any:
        name = None if bundle is None else bundle.id
        return self.svm.execute(received, block.slot, block.height, name)

    def _tip(self, execution: Execution) -> int:
        """Return what a transaction gave to tip accounts, in lamports."""
        return sum(
            after - before
            for key, before, after in zip(
                execution.keys, execution.balances_before, execution.balances_after, strict=True
            )
            if key in self.tip_accounts
        )

    def _commit(self, executions: list[Execution], block: Block) -> None:
        for each in executions:
            self.executions.append(each)
            self.statuses[each.signature] = each
            block.executions.append(each)
            self._messages.add(each.message_hash)
            for key in self.watched.intersection(each.keys):
                block.changed[key] = self.svm.account(key)
            if self.watched_programs:
                for key in each.keys:
                    account = self.svm.account(key)
                    if account is not None and account.owner in self.watched_programs:
                        block.changed[key] = account
