"""A Solana cluster and a block engine in this process, for tests and for trying things out."""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
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
from velox.testing.faults import FaultInjector, FaultPlan, Strike
from velox.testing.rpc.service import RpcService
from velox.testing.server.http import HttpServer
from velox.testing.server.jsonrpc import Reply, Request
from velox.testing.server.loop import BACKLOG, LoopThread
from velox.testing.server.websocket import WebSocketServer
from velox.testing.svm import Execution

__all__ = ["LocalCluster"]

HOST = "127.0.0.1"
ENGINE = "/api/v1/"
PAIRS_TRIED = 64
MAX_LAMPORTS = 2**63
# The longest sleep, in seconds: some thirty years.
MOST_S = 1e9


class LocalCluster:
    """A validator over a real Solana virtual machine, its RPC, its websocket and a block engine.

    It listens on 127.0.0.1 alone, from construction until `close`; as a context manager it closes
    itself, and so it does, a little later, once nobody refers to it any more. All methods may be
    called from any thread.

    Parameters
    ----------
    slots : "manual" or "real"
        Whether time passes when `tick`, `advance` and `sleep` say so, or by itself.
    slot_ns : int
        Length of a slot, nanoseconds.
    faults : FaultPlan, optional
        What goes wrong. Nothing, without it.
    programs : mapping of Pubkey to bytes or path, optional
        Programs to load: the bytes of an ELF file, or its path.
    port : int
        Of the RPC and the block engine; the websocket is at the next one. 0 finds a free pair.
    seed : int
        Blockhashes, the faucet and tip accounts come from it.
    rate_per_s : float or None
        Requests a second that the block engine takes from one client. None does not limit them.

    Attributes
    ----------
    url, ws_url, block_engine_url : str
        Where to reach it. Clients of a block engine append ``/api/v1/…`` themselves.
    faucet : Keypair
        Rich.

    Raises
    ------
    LocalnetError
        A setting that cannot be used, a port that is taken, a program that cannot be loaded.

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
    ) -> None:
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
        if rate_per_s is not None and not 0 < rate_per_s <= 1e9:
            raise LocalnetError(f"rate_per_s = {rate_per_s!r}: must be above 0 to 1e9, or None")
        self._manual = slots == "manual"
        self._rate_per_s = rate_per_s
        self._now_ns = 0
        self._injector = FaultInjector(faults)
        self._chain = Chain(self._injector, slot_ns, seed)
        self._first_slot = self._chain.head.slot
        self.faucet: Keypair = self._chain.faucet
        for pubkey, program in programs.items():
            self.add_program(pubkey, program)
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
        # No thread of its own keeps it alive.
        self._forgotten = weakref.finalize(self, _close_elsewhere, self._stack)
        self._forgotten.atexit = False

    def close(self) -> None:
        """Stop serving, and every thread. A second call does nothing."""
        self._forgotten.detach()
        self._stack.close()

    def __enter__(self) -> LocalCluster:
        if not self._forgotten.alive:
            raise LocalnetError("enter of a cluster that is closed")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def region_url(self, region: str) -> str:
        """A region of the block engine, with limits and a memory of its own."""
        if not region.isalnum() or region == "api":
            raise LocalnetError(f"region = {region!r}: must be letters and digits")
        return f"{self.url}/{region}"

    # Time

    def tick(self, count: int = 1) -> None:
        """Make `count` blocks now, and land what waits for them."""
        _refuse_negative("count", count)
        with self._chain.lock:
            self._chain.tick(count)

    def advance(self, nanoseconds: int) -> None:
        """Let time pass in manual mode, and make the blocks whose slots begin in it."""
        if not self._manual:
            raise LocalnetError("advance: time passes by itself where slots = 'real'")
        _refuse_negative("nanoseconds", nanoseconds)
        with self._chain.lock:
            self._now_ns = self.clock() + nanoseconds
            while self._head_ns() + self._chain.slot_ns <= self._now_ns:
                self._chain.tick()

    def clock(self) -> int:
        """Nanoseconds of the cluster's own time: those of `tick` and `advance`, or monotonic."""
        return max(self._now_ns, self._head_ns()) if self._manual else time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """`advance` in manual mode, `time.sleep` otherwise."""
        if not isinstance(seconds, int | float) or not 0 <= seconds <= MOST_S:
            raise LocalnetError(f"seconds = {seconds!r}: must be 0 to 1e9")
        if self._manual:
            self.advance(round(seconds * 1e9))
        else:
            time.sleep(seconds)

    @property
    def slot(self) -> int:
        """The newest block's."""
        return self._chain.head.slot

    @property
    def block_height(self) -> int:
        """The newest block's; it does not count the slots that were skipped."""
        return self._chain.head.height

    def _head_ns(self) -> int:
        """When the newest block's slot began, in manual time."""
        return (self._chain.head.slot - self._first_slot) * self._chain.slot_ns

    # Accounts and programs

    def fund(self, pubkey: Pubkey, lamports: int) -> None:
        """Give lamports to an account, out of nothing and at once."""
        if not isinstance(lamports, int) or not 0 <= lamports < MAX_LAMPORTS:
            raise LocalnetError(f"lamports = {lamports!r}: must be 0 to 2**63 - 1")
        with self._chain.lock:
            self._chain.svm.fund(pubkey, lamports)

    def account(self, pubkey: Pubkey) -> Account | None:
        with self._chain.lock:
            return self._chain.svm.account(pubkey)

    def set_account(self, pubkey: Pubkey, account: Account | None) -> None:
        """Put an account in place, or away with None."""
        with self._chain.lock:
            self._chain.svm.set_account(pubkey, account)

    def add_program(self, pubkey: Pubkey, program: bytes | str | Path) -> None:
        """Load a program: an ELF file's bytes, or its path."""
        source = program if isinstance(program, bytes) else Path(program)
        with self._chain.lock:
            self._chain.svm.add_program(pubkey, source)

    def rotate_tip_accounts(self) -> None:
        """Retire the tip accounts: what pays them no longer counts as a tip."""
        with self._chain.lock:
            self._chain.rotate_tip_accounts()

    # What happened

    @property
    def executions(self) -> tuple[Execution, ...]:
        """Every transaction that the chain has executed, in order: the truth of any test."""
        with self._chain.lock:
            return tuple(self._chain.executions)

    @property
    def statuses(self) -> Mapping[Signature, Execution]:
        """The same by signature."""
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
        """The faults that struck, in order."""
        return tuple(self._injector.strikes)

    # Serving

    def _post(self, request: Request) -> Reply:
        region, engine, path = request.path.partition(ENGINE)
        if not engine:
            return self._rpc.answer(request)
        return self._engine(region.strip("/")).answer(
            Request(engine + path, request.query, request.headers, request.body, request.client)
        )

    def _get(self, request: Request) -> Reply:
        if request.path == "/health":
            return Reply(body=b"ok", content_type="text/plain")
        if request.path == f"{ENGINE}bundles/tip_floor":
            with self._chain.lock:
                return Reply(body=json.dumps(self._engine("").tip_floor()).encode())
        return Reply(HTTPStatus.NOT_FOUND, b"Not Found", content_type="text/plain")

    def _engine(self, region: str) -> BlockEngineService:
        with self._chain.lock:
            if region not in self._engines:
                self._engines[region] = BlockEngineService(
                    self._chain, region, self.clock, self._rate_per_s
                )
            return self._engines[region]


def _start_ticking(chain: Chain) -> Callable[[], None]:
    """Make a block each slot, on a thread; what is returned ends that."""
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
    """A block each slot; slots that a late thread missed are skipped, as a leader's are."""
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
    """Close a cluster that is forgotten, which may have happened on a thread of its own."""
    threading.Thread(target=stack.close, name="velox-closing", daemon=True).start()


def _refuse_negative(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 0:
        raise LocalnetError(f"{name} = {value!r}: must be an integer, 0 or more")


def _listeners(port: int) -> tuple[socket.socket, socket.socket]:
    """Two listening sockets at neighbouring ports; nobody can come in between."""
    for _ in range(1 if port else PAIRS_TRIED):
        first = _bind(port)
        try:
            return first, _bind(first.getsockname()[1] + 1)
        except (LocalnetError, OverflowError):
            first.close()
            if port:
                raise
    raise LocalnetError(f"no two free ports side by side on {HOST} in {PAIRS_TRIED} tries")


def _bind(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A port whose last connections linger can be taken, one that is served cannot.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
        # Only a socket that listens keeps others off its port.
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
        raise LocalnetError(f"port {port} of {HOST} {why}") from error
    return made
