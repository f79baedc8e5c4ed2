"""The websocket of a Solana RPC node: subscriptions and their notifications."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from velox.errors import RpcError
from velox.testing.chain import Chain
from velox.testing.faults import Fault
from velox.testing.rpc.params import argument
from velox.testing.rpc.subscriptions import KINDS, Subscription, news, subscribe
from velox.testing.server.guard import allows_host, allows_origin
from velox.testing.server.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    failure,
    is_identity,
    refuse,
    success,
)
from velox.testing.server.loop import BACKLOG, LoopThread

__all__ = ["WebSocketServer"]

# A client with more unsent notifications is disconnected, as a node does.
MAX_UNSENT = 10_000
MAX_UNSENT_BYTES = 64 << 20
# Subscriptions of one connection.
MAX_SUBSCRIPTIONS = 1_000
MAX_CONNECTIONS = 1_000
MAX_MESSAGE_BYTES = 1 << 20
CLOSE_TIMEOUT_S, OPEN_TIMEOUT_S = 1.0, 2.0

LOGGER = logging.getLogger("velox.testing.websocket")
LOGGER.addHandler(logging.NullHandler())


class WebSocketServer:
    """Serves a listening socket until `close`.

    All connections share the thread of a `LoopThread`. The notifications of a block are queued
    while the chain makes it, in the order of its executions, and sent later: a slow client does not
    delay the chain.

    Parameters
    ----------
    listener : socket.socket
        A listening socket; `close` closes it.
    chain : Chain
    thread : LoopThread
    """

    def __init__(self, listener: socket.socket, chain: Chain, thread: LoopThread) -> None:
        self.chain = chain
        self._clients: set[_Client] = set()
        self._numbers = itertools.count(1)
        self._closing = False
        self._thread = thread
        self._server: Server = thread.run(self._start(listener))
        chain.listeners.append(self._tell)

    async def _start(self, listener: socket.socket) -> Server:
        return await serve(
            self._serve,
            sock=listener,
            backlog=BACKLOG,
            process_request=self._admit,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            ping_interval=None,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            logger=LOGGER,
        )

    def close(self) -> None:
        """Send all queued notifications, end the websocket protocol, and close every connection."""
        with self.chain.lock:
            self._closing = True
            self.chain.listeners.remove(self._tell)
        self._thread.run(self._close())

    async def _close(self) -> None:
        with self.chain.lock:
            clients = list(self._clients)
        await asyncio.gather(*(client.close() for client in clients))
        self._server.close()
        await self._server.wait_closed()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake from a page of another site, or one connection too many."""
        if not allows_host(request.headers.get_all("Host")):
            return connection.respond(HTTPStatus.MISDIRECTED_REQUEST, "Host must name this machine")
        if not allows_origin(request.headers.get_all("Origin")):
            return connection.respond(HTTPStatus.FORBIDDEN, "Origin must be a page of this machine")
        if len(self._clients) >= MAX_CONNECTIONS:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        client = _Client(connection, self.chain, self._numbers, self._watch)
        with self.chain.lock:
            if self._closing:
                return
            self._clients.add(client)
        try:
            await client.listen()
        finally:
            with self.chain.lock:
                self._clients.discard(client)
                self._watch()
            client.finish()

    def _tell(self, chain: Chain) -> None:
        """Queue the news of the newest block. The chain's lock is held."""
        for client in self._clients:
            client.tell()

    def _watch(self) -> None:
        """Tell the chain which accounts and programs clients subscribed to."""
        subscriptions = [each for client in self._clients for each in client.subscriptions.values()]
        self.chain.watched = {each.target for each in subscriptions if each.kind == "account"}
        self.chain.watched_programs = {
            each.target for each in subscriptions if each.kind == "program"
        }


class _Client:
    """One connection: its subscriptions, and a task that sends what is queued."""

    def __init__(
        self,
        connection: ServerConnection,
        chain: Chain,
        numbers: Iterator[int],
        watch: Callable[[], None],
    ) -> None:
        self.subscriptions: dict[int, Subscription] = {}
        self._connection = connection
        self._chain = chain
        self._numbers = numbers
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        # The chain's threads append to it, the loop takes from it.
        self._unsent: deque[str] = deque()
        # Characters that were ever queued, and those that were sent. Each has one writer: whoever
        # holds the chain's lock, and the loop.
        self._queued = self._sent = 0
        self._wake = asyncio.Event()
        self._ending = False
        self._writer = self._loop.create_task(self._send())

    # The connection

    async def listen(self) -> None:
        """Answer requests until the client goes away."""
        with suppress(ConnectionClosed):
            async for message in self._connection:
                with self._chain.lock:
                    count = len(self.subscriptions)
                    answer = self._answer(message)
                    if answer is not None:
                        self._queue(answer)
                    if len(self.subscriptions) != count:
                        self._watch()
                    # A transaction may have landed before the client subscribed to it.
                    self._tell_signatures()

    def finish(self) -> None:
        """Stop sending."""
        self._writer.cancel()

    async def close(self) -> None:
        """Send what is queued, and say goodbye; disconnect a client that does not read."""
        self._ending = True
        self._wake.set()
        _, late = await asyncio.wait([self._writer], timeout=CLOSE_TIMEOUT_S)
        if late:
            self._cut()
        else:
            await self._connection.close(CloseCode.GOING_AWAY)

    def _cut(self) -> None:
        self._connection.transport.abort()

    async def _send(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                while self._unsent:
                    text = self._unsent.popleft()
                    await self._connection.send(text)
                    self._sent += len(text)
                if self._ending:
                    return
                self._wake.clear()
                if not self._unsent:
                    await self._wake.wait()

    def _queue(self, document: Mapping[str, Any]) -> None:
        """Queue a message. Any thread may call it that holds the chain's lock."""
        text = json.dumps(document, separators=(",", ":"))
        self._unsent.append(text)
        self._queued += len(text)
        unsent = len(self._unsent)
        # The loop may be closed while a block is made.
        with suppress(RuntimeError):
            if unsent > MAX_UNSENT or self._queued - self._sent > MAX_UNSENT_BYTES:
                self._loop.call_soon_threadsafe(self._cut)
            elif unsent == 1:
                self._loop.call_soon_threadsafe(self._wake.set)

    # Requests

    def _answer(self, message: str | bytes) -> dict[str, Any] | None:
        try:
            call = json.loads(message)
        except (ValueError, RecursionError):
            return failure(None, PARSE_ERROR, "Parse error")
        if (
            not isinstance(call, dict)
            or not isinstance(call.get("method"), str)
            or not is_identity(call.get("id"))
        ):
            return failure(None, INVALID_REQUEST, "Invalid request")
        if "id" not in call:
            return None  # a notification, such as the ping of web3.js: it has no answer
        identity, params = call["id"], call.get("params") or []
        try:
            if not isinstance(params, list):
                raise refuse(INVALID_PARAMS, "`params` should be an array")
            return success(identity, self._call(call["method"], params))
        except RpcError as error:
            return failure(identity, error.code, error.message, error.data)

    def _call(self, method: str, params: list[Any]) -> Any:
        kind = method.removesuffix("Subscribe")
        if kind != method and kind in KINDS:
            if len(self.subscriptions) >= MAX_SUBSCRIPTIONS:
                why = "Internal Error: Subscription refused. Node subscription limit reached"
                raise refuse(INTERNAL_ERROR, why)
            number = next(self._numbers)
            self.subscriptions[number] = subscribe(kind, params)
            return number
        kind = method.removesuffix("Unsubscribe")
        if kind != method and kind in KINDS:
            number = argument(params, 0)
            if not isinstance(number, int) or number not in self.subscriptions:
                raise refuse(INVALID_PARAMS, "Invalid subscription id.")
            return self.subscriptions.pop(number).kind == kind
        raise refuse(METHOD_NOT_FOUND, "Method not found")

    # Notifications

    def tell(self) -> None:
        """Queue the news of the newest block."""
        for number, subscription in list(self.subscriptions.items()):
            for result in news(self._chain, subscription):
                self._notify(number, subscription.kind, result)
        self._tell_signatures()

    def _tell_signatures(self) -> None:
        for number, subscription in list(self.subscriptions.items()):
            if subscription.kind != "signature":
                continue
            execution = self._chain.statuses.get(subscription.target)
            if execution is None or self._chain.confirmations(execution) < subscription.depth:
                continue
            # One notification ends the subscription.
            del self.subscriptions[number]
            if not self._chain.injector.meet(Fault.NOTIFICATION_LOST, subscription.target):
                slot = self._chain.blocks[-1 - subscription.depth].slot
                value = {"err": execution.err}
                self._notify(number, "signature", {"context": {"slot": slot}, "value": value})

    def _notify(self, number: int, kind: str, result: Any) -> None:
        self._queue(
            {
                "jsonrpc": "2.0",
                "method": f"{kind}Notification",
                "params": {"result": result, "subscription": number},
            }
        )
