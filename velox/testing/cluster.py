"""A Solana cluster and a block engine in this process, for tests and experiments."""

from __future__ import annotations

import errno
import json
import random
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal

from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.errors import LocalnetError
from velox.runtime.threads import Latch, start_thread
from velox.testing.block_engine import BlockEngineService
from velox.testing.chain import Bundle, Chain
from velox.testing.crowd import Crowd
from velox.testing.faults import FaultInjector, FaultPlan, Strike
from velox.testing.market import MARKET_ADDRESS, market_program
from velox.testing.rpc.service import RpcService
from velox.testing.server.http import HttpServer
from velox.testing.server.jsonrpc import Reply, Request
from velox.testing.server.loop import BACKLOG, LoopThread
from velox.testing.server.websocket import WebSocketServer
from velox.testing.svm import Execution
from velox.testing.venue import LocalMarket, MarketPlan

__all__ = ["LocalCluster"]

HOST = "127.0.0.1"
ENGINE = "/api/v1/"
PAIRS_TRIED = 64
# A client may name any region of the block engine. Each has a memory of its own.
MAX_REGION_LETTERS, MAX_REGIONS = 32, 256
# Below the ports that Linux gives to clients. A client's old connection in TIME_WAIT keeps its
# port, and thousands of them leave hardly a free pair.
PORTS = range(10_000, 32_000, 2)
MAX_LAMPORTS = 2**63
# The longest sleep, in seconds: about thirty years.
MOST_S = 1e9


class LocalCluster:
    """A validator over a real Solana virtual machine, its RPC, its websocket and a block engine.

    It listens on 127.0.0.1 only, from construction until `close`. It is a context manager. A
    cluster that is no longer referenced closes itself. Any thread may call any method.

    Parameters
    ----------
    slots : "manual" or "real"
        Whether time passes by `tick`, `advance` and `sleep`, or by itself.
    slot_ns : int
        The length of a slot, in nanoseconds.
    faults : FaultPlan, optional
        The faults to inject; none by default.
    programs : mapping of Pubkey to bytes or path, optional
        Programs to load: the bytes of an ELF file, or its path.
    port : int
        The port of the RPC and the block engine. The websocket takes the next one. 0 finds a free
        pair.
    seed : int
        Determines blockhashes, the faucet, tip accounts, the market and its crowd.
    rate_per_s : float or None
        Requests a second that the block engine takes from one client; None for no limit.
    market : bool or MarketPlan
        Whether the chain has a market with a crowd; see the property `market`. A plan sets their
        properties.

    Attributes
    ----------
    url, ws_url, block_engine_url : str
        Its URLs. Clients of a block engine append ``/api/v1/…`` themselves.
    faucet : Keypair
        Has 100 million SOL, and pays airdrops.

    Raises
    ------
    LocalnetError
        A setting is out of range, a port is in use, or a program cannot be loaded.

    Examples
    --------
    >>> from velox.testing import LocalCluster
    >>> with LocalCluster(slots="manual") as cluster:
    ...     before = cluster.block_height
    ...     cluster.tick(3)
    ...     cluster.block_height - before
    3
    """

    def __init__(
        self,
        *,
        slots: Literal["manual", "real"] = "manual",
        slot_ns: int = 400_000_000,
        faults: FaultPlan | None = None,
        programs: Mapping[Pubkey, bytes | str | Path] = MappingProxyType({}),
        port: int = 0,
        seed: int = 0,
        rate_per_s: float | None = 1.0,
        market: bool | MarketPlan = False,
    ) -> None:
        _check_settings(slots=slots, slot_ns=slot_ns, faults=faults, port=port, seed=seed)
        _check_market(rate_per_s, market)
        self._manual = slots == "manual"
        self._rate_per_s = rate_per_s
        self._now_ns = 0
        self._injector = FaultInjector(faults)
        self._chain = Chain(self._injector, slot_ns, seed)
        self._first_slot = self._chain.head.slot
        self.faucet: Keypair = self._chain.faucet
        if market and MARKET_ADDRESS not in programs:
            self.add_program(MARKET_ADDRESS, market_program())
        for pubkey, program in programs.items():
            self.add_program(pubkey, program)
        self._market: LocalMarket | None = None
        self._crowd: Crowd | None = None
        if market:
            plan = MarketPlan() if isinstance(market, bool) else market
            with self._chain.lock:
                self._market = LocalMarket(self._chain, plan)
                if plan.crowd_rate_per_s:
                    self._crowd = Crowd(self._chain, self._market, plan)
        self._rpc = RpcService(self._chain)
        self._engines: dict[str, BlockEngineService] = {}
        with ExitStack() as stack:
            http, websocket = _listeners(port)
            stack.callback(http.close)
            stack.callback(websocket.close)
            self.port: int = http.getsockname()[1]
            self.url = self.block_engine_url = f"http://{HOST}:{self.port}"
            self.ws_url = f"ws://{HOST}:{self.port + 1}"
            thread = LoopThread("velox-localnet")
            stack.callback(thread.close)
            post, get = _weakly(self._post), _weakly(self._get)
            stack.callback(HttpServer(http, post, get, thread).close)
            stack.callback(WebSocketServer(websocket, self._chain, thread).close)
            if not self._manual:
                stack.callback(_start_ticking(self._chain))
            self._stack = stack.pop_all()
        # Its own threads do not keep it alive.
        self._forgotten = weakref.finalize(self, _close_elsewhere, self._stack)
        self._forgotten.atexit = False

    def close(self) -> None:
        """Stop serving, and end every thread. A second call does nothing."""
        self._forgotten.detach()
        self._stack.close()

    def __enter__(self) -> LocalCluster:
        if not self._forgotten.alive:
            raise LocalnetError("enter: the cluster is closed")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def region_url(self, region: str) -> str:
        """Return the URL of a region of the block engine, which has its own limits and memory."""
        if not region.isalnum() or region == "api":
            raise LocalnetError(f"region = {region!r}: must be letters and digits")
        return f"{self.url}/{region}"

    # Time

    def tick(self, count: int = 1) -> None:
        """Make `count` blocks now, and land the transactions that are due."""
        _refuse_negative("count", count)
        with self._chain.lock:
            self._chain.tick(count)

    def advance(self, nanoseconds: int) -> None:
        """Let time pass in manual mode, and make the blocks of the slots that begin in it."""
        if not self._manual:
            raise LocalnetError("advance: time passes by itself if slots = 'real'")
        _refuse_negative("nanoseconds", nanoseconds)
        with self._chain.lock:
            self._now_ns = self.clock() + nanoseconds
            while self._head_ns() + self._chain.slot_ns <= self._now_ns:
                self._chain.tick()

    def clock(self) -> int:
        """Return the cluster's time in nanoseconds: by `tick` and `advance`, or monotonic."""
        return max(self._now_ns, self._head_ns()) if self._manual else time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Call `advance` in manual mode, and `time.sleep` otherwise."""
        if not isinstance(seconds, int | float) or not 0 <= seconds <= MOST_S:
            raise LocalnetError(f"seconds = {seconds!r}: must be 0 to 1e9")
        if self._manual:
            self.advance(round(seconds * 1e9))
        else:
            time.sleep(seconds)

    @property
    def slot(self) -> int:
        """The slot of the newest block."""
        return self._chain.head.slot

    @property
    def block_height(self) -> int:
        """The height of the newest block, which does not count skipped slots."""
        return self._chain.head.height

    def _head_ns(self) -> int:
        """Return when the newest block's slot began, in manual time."""
        return (self._chain.head.slot - self._first_slot) * self._chain.slot_ns

    # Accounts and programs

    def fund(self, pubkey: Pubkey, lamports: int) -> None:
        """Add lamports to an account at once, out of nothing."""
        if not isinstance(lamports, int) or not 0 <= lamports < MAX_LAMPORTS:
            raise LocalnetError(f"lamports = {lamports!r}: must be 0 to 2**63 - 1")
        with self._chain.lock:
            self._chain.svm.fund(pubkey, lamports)

    def account(self, pubkey: Pubkey) -> Account | None:
        """Return an account; None if it does not exist."""
        with self._chain.lock:
            return self._chain.svm.account(pubkey)

    def program_accounts(self, program: Pubkey) -> list[tuple[Pubkey, Account]]:
        """Return the accounts that a program owns, sorted by their keys."""
        with self._chain.lock:
            return self._chain.svm.program_accounts(program)

    def set_account(self, pubkey: Pubkey, account: Account | None) -> None:
        """Set an account; None deletes it."""
        with self._chain.lock:
            self._chain.svm.set_account(pubkey, account)

    def add_program(self, pubkey: Pubkey, program: bytes | str | Path) -> None:
        """Load a program: an ELF file's bytes, or its path."""
        source = program if isinstance(program, bytes) else Path(program)
        with self._chain.lock:
            self._chain.svm.add_program(pubkey, source)

    @property
    def market(self) -> LocalMarket:
        """The market: a book on the chain, where `LocalMarket.admit` gives traders a seat.

        Raises
        ------
        LocalnetError
            The cluster was made without a market.
        """
        if self._market is None:
            raise LocalnetError("market: the cluster has none; make it with market=True")
        return self._market

    @property
    def crowd(self) -> Crowd | None:
        """The counterparties on the market; None if there are none."""
        return self._crowd

    def rotate_tip_accounts(self) -> None:
        """Replace the tip accounts: transfers to the old ones no longer count as tips."""
        with self._chain.lock:
            self._chain.rotate_tip_accounts()

    # What happened

    @property
    def executions(self) -> tuple[Execution, ...]:
        """Every transaction that the chain has executed, in order."""
        with self._chain.lock:
            return tuple(self._chain.executions)

    @property
    def statuses(self) -> Mapping[Signature, Execution]:
        """The executions by signature."""
        with self._chain.lock:
            return MappingProxyType(dict(self._chain.statuses))

    @property
    def bundles(self) -> Mapping[str, Bundle]:
        """Every bundle that the block engine has accepted, by id."""
        with self._chain.lock:
            return MappingProxyType(dict(self._chain.bundles))

    @property
    def tip_accounts(self) -> tuple[Pubkey, ...]:
        with self._chain.lock:
            return tuple(self._chain.tip_accounts)

    @property
    def strikes(self) -> tuple[Strike, ...]:
        """The faults that were injected, in order."""
        return tuple(self._injector.strikes)

    # Serving

    def _post(self, request: Request) -> Reply:
        region, engine, path = request.path.partition(ENGINE)
        if not engine:
            return self._rpc.answer(request)
        name = region.removeprefix("/")
        if name and (not name.isalnum() or len(name) > MAX_REGION_LETTERS):
            return _not_found()
        return self._engine(name).answer(
            Request(engine + path, request.query, request.headers, request.body, request.client)
        )

    def _get(self, request: Request) -> Reply:
        if request.path == "/health":
            return Reply(body=b"ok", content_type="text/plain")
        if request.path == f"{ENGINE}bundles/tip_floor":
            with self._chain.lock:
                return Reply(body=json.dumps(self._engine("").tip_floor()).encode())
        return _not_found()

    def _engine(self, region: str) -> BlockEngineService:
        with self._chain.lock:
            if region not in self._engines:
                if len(self._engines) >= MAX_REGIONS:
                    # The oldest one forgets its clients' rates, and nothing else.
                    del self._engines[next(iter(self._engines))]
                self._engines[region] = BlockEngineService(
                    self._chain, region, self.clock, self._rate_per_s
                )
            return self._engines[region]


def _not_found() -> Reply:
    return Reply(HTTPStatus.NOT_FOUND, b"Not Found", content_type="text/plain")


def _check_settings(
    *, slots: object, slot_ns: object, faults: object, port: object, seed: object
) -> None:
    """Refuse settings of a `LocalCluster` that are out of range."""
    if slots not in ("manual", "real"):
        raise LocalnetError(f"slots = {slots!r}: must be 'manual' or 'real'")
    if not isinstance(slot_ns, int) or slot_ns < 1_000_000:
        raise LocalnetError(f"slot_ns = {slot_ns!r}: must be 1000000 or more")
    if not isinstance(port, int) or not 0 <= port < 65_535:
        raise LocalnetError(f"port = {port!r}: must be 0 to 65534")
    if not isinstance(seed, int):
        raise LocalnetError(f"seed = {seed!r}: must be an integer")
    if faults is not None and not isinstance(faults, FaultPlan):
        raise LocalnetError(f"faults = {faults!r}: must be a FaultPlan, or None")


def _check_market(rate_per_s: float | None, market: object) -> None:
    if not isinstance(market, bool | MarketPlan):
        raise LocalnetError(f"market = {market!r}: must be true, false or a MarketPlan")
    if rate_per_s is not None and not 0 < rate_per_s <= 1e9:
        raise LocalnetError(f"rate_per_s = {rate_per_s!r}: must be above 0 to 1e9, or None")


def _start_ticking(chain: Chain) -> Callable[[], None]:
    """Make a block each slot, on a thread; return a function that ends the thread."""
    closing = Latch()
    thread = threading.Thread(
        target=_keep_ticking, args=(chain, closing), name="velox-slots", daemon=True
    )
    start_thread(thread)

    def stop() -> None:
        closing.set()
        thread.join()

    return stop


def _keep_ticking(chain: Chain, closing: Latch) -> None:
    """Make a block each slot. If the thread is late, slots are skipped."""
    begin = time.monotonic_ns()
    while not closing.wait(max(0, begin + chain.slot_ns - time.monotonic_ns()) / 1e9):
        slots = max(1, (time.monotonic_ns() - begin) // chain.slot_ns)
        begin += slots * chain.slot_ns
        chain.advance(slots)


def _weakly(method: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
    """Return a method that does not keep its object alive."""
    reference = weakref.WeakMethod(method)

    def call(request: Request) -> Reply:
        alive = reference()
        return Reply(lost=True) if alive is None else alive(request)

    return call


def _close_elsewhere(stack: ExitStack) -> None:
    """Close a cluster that is no longer referenced, on a new thread: it may run on its own."""
    threading.Thread(target=stack.close, name="velox-closing", daemon=True).start()


def _refuse_negative(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 0:
        raise LocalnetError(f"{name} = {value!r}: must be an integer, 0 or more")


def _listeners(port: int) -> tuple[socket.socket, socket.socket]:
    """Return two listening sockets at neighbouring ports."""
    if port:
        return _pair(port)
    chosen = random.SystemRandom().sample(PORTS, PAIRS_TRIED)
    for each in chosen:
        with suppress(LocalnetError):
            return _pair(each)
    raise LocalnetError(f"no two free ports side by side on {HOST} in {PAIRS_TRIED} tries")


def _pair(port: int) -> tuple[socket.socket, socket.socket]:
    first = _bind(port)
    try:
        return first, _bind(port + 1)
    except (LocalnetError, OverflowError):
        first.close()
        raise


def _bind(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Allows a port with old connections in TIME_WAIT, not one that is being served.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
        # Only a listening socket keeps other processes off its port.
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
        raise LocalnetError(f"port {port} of {HOST} {why}") from error
    return made
