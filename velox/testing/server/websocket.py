"""The websocket of a Solana RPC node: subscriptions, and what they are told."""

from __future__ import annotations

import itertools
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any
from weakref import WeakSet

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode
from websockets.sync.server import ServerConnection, serve

from velox.errors import RpcError
from velox.runtime.threads import start_thread
from velox.testing.chain import COMMITMENTS, Block, Chain
from velox.testing.encoding import account_json
from velox.testing.faults import Fault
from velox.testing.rpc import argument, commitment_of, config_of, pubkey_of, signature_of
from velox.testing.server.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    failure,
    refuse,
    success,
)

__all__ = ["WebSocketServer"]

# A client that lets more pile up is cut off, as a node does.
MAX_UNSENT = 10_000
CLOSE_TIMEOUT_S, OPEN_TIMEOUT_S = 1.0, 2.0

LOGGER = logging.getLogger("velox.testing.websocket")
LOGGER.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class _Subscription:
    """What one is about. `depth` is how many blocks must lie above what it tells of."""

    kind: str
    depth: int = 0
    target: Any = None
    encoding: str = "base58"


class WebSocketServer:
    """Serves a listening socket until `close`, which leaves no thread behind.

    Notifications of a block are queued while the chain makes it, in the order of its executions,
    and sent by a thread for each connection: a slow client does not hold the chain up.

    Parameters
    ----------
    listener : socket.socket
        It listens already; `close` closes it.
    chain : Chain
    """

    def __init__(self, listener: socket.socket, chain: Chain) -> None:
        self.chain = chain
        self._connections: WeakSet[ServerConnection] = WeakSet()
        self._clients: set[_Client] = set()
        self._threads: WeakSet[threading.Thread] = WeakSet()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._closing = False
        self._server = serve(
            self._serve,
            sock=listener,
            compression=None,
            ping_interval=None,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            logger=LOGGER,
            create_connection=self._connection,  # type: ignore[arg-type]
        )
        chain.listeners.append(self._tell)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="velox-websocket", daemon=True
        )
        start_thread(self._thread)

    def close(self) -> None:
        with self.chain.lock:
            self._closing = True
            self.chain.listeners.remove(self._tell)
            clients = list(self._clients)
        for client in clients:
            client.close()
        # Those who never finished their handshake: before the server waits for them, and once it
        # takes no more.
        self._cut_all()
        self._server.shutdown()
        self._thread.join()
        for thread in self._cut_all():
            thread.join()
        for left in (self._server.shutdown_watcher, self._server.shutdown_notifier):
            # Sockets that are closed; before websockets 17, descriptors that nobody closes.
            if isinstance(left, int):
                os.close(left)

    def _cut_all(self) -> list[threading.Thread]:
        """End every connection without a word; the threads that serve them."""
        with self._lock:
            for connection in self._connections:
                cut(connection)
            return list(self._threads)

    def _connection(self, *arguments: Any, **settings: Any) -> ServerConnection:
        """Make a connection, on the thread that will serve it."""
        connection = ServerConnection(*arguments, **settings)
        with self._lock:
            self._connections.add(connection)
            self._threads.add(threading.current_thread())
        return connection

    def _serve(self, connection: ServerConnection) -> None:
        client = _Client(connection, self.chain, self._numbers, self._watch)
        try:
            with self.chain.lock:
                if self._closing:
                    return
                self._clients.add(client)
            client.listen()
        finally:
            with self.chain.lock:
                self._clients.discard(client)
                self._watch()
            client.finish()

    def _tell(self, chain: Chain) -> None:
        """Queue what the newest block brings. The chain's lock is held."""
        for client in self._clients:
            client.tell()

    def _watch(self) -> None:
        """Tell the chain which accounts somebody wants to hear of."""
        self.chain.watched = {
            each.target
            for client in self._clients
            for each in client.subscriptions.values()
            if each.kind == "account"
        }


def cut(connection: ServerConnection) -> None:
    """End a connection without a word."""
    with suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


class _Client:
    """One connection: its subscriptions, and a thread that sends it what is queued."""

    def __init__(
        self,
        connection: ServerConnection,
        chain: Chain,
        numbers: Iterator[int],
        watch: Callable[[], None],
    ) -> None:
        self.subscriptions: dict[int, _Subscription] = {}
        self._connection = connection
        self._chain = chain
        self._numbers = numbers
        self._watch = watch
        self._unsent: SimpleQueue[str | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._send, name="velox-websocket", daemon=True)
        self._writer.start()

    # The connection

    def listen(self) -> None:
        """Answer requests until the client goes away."""
        with suppress(ConnectionClosed):
            for message in self._connection:
                with self._chain.lock:
                    self._queue(self._answer(message))
                    self._watch()
                    # What was asked about may have happened already.
                    self._tell_signatures()

    def finish(self) -> None:
        self._unsent.put(None)
        self._writer.join()

    def close(self) -> None:
        """Say goodbye; a client that does not listen is cut off."""
        self._unsent.put(None)
        self._writer.join(CLOSE_TIMEOUT_S)
        if self._writer.is_alive():
            cut(self._connection)
        else:
            with suppress(WebSocketException, OSError):
                self._connection.close(CloseCode.GOING_AWAY)

    def _send(self) -> None:
        with suppress(WebSocketException, OSError):
            while (text := self._unsent.get()) is not None:
                self._connection.send(text)

    def _queue(self, document: Mapping[str, Any]) -> None:
        self._unsent.put(json.dumps(document, separators=(",", ":")))
        if self._unsent.qsize() > MAX_UNSENT:
            cut(self._connection)

    # Requests

    def _answer(self, message: str | bytes) -> dict[str, Any]:
        try:
            call = json.loads(message)
        except (ValueError, RecursionError):
            return failure(None, PARSE_ERROR, "Parse error")
        if not isinstance(call, dict) or not isinstance(call.get("method"), str):
            return failure(None, INVALID_REQUEST, "Invalid request")
        identity, params = call.get("id"), call.get("params") or []
        try:
            if not isinstance(params, list):
                raise refuse(INVALID_PARAMS, "`params` should be an array")
            return success(identity, self._call(call["method"], params))
        except RpcError as error:
            return failure(identity, error.code, error.message, error.data)

    def _call(self, method: str, params: list[Any]) -> Any:
        for kind, subscription in _KINDS.items():
            if method == f"{kind}Subscribe":
                number = next(self._numbers)
                self.subscriptions[number] = subscription(params)
                return number
            if method == f"{kind}Unsubscribe":
                number = argument(params, 0)
                if not isinstance(number, int) or number not in self.subscriptions:
                    raise refuse(INVALID_PARAMS, "Invalid subscription id.")
                return self.subscriptions.pop(number).kind == kind
        raise refuse(METHOD_NOT_FOUND, "Method not found")

    # Notifications

    def tell(self) -> None:
        for number, subscription in list(self.subscriptions.items()):
            block = self._chain.blocks[-1 - subscription.depth]
            for result in self._news(subscription, block):
                self._notify(number, subscription.kind, result)
        self._tell_signatures()

    def _news(self, subscription: _Subscription, block: Block) -> Iterator[Any]:
        """What a block, which has just come to the subscription's depth, brings to it."""
        if subscription.kind == "slot":
            root = self._chain.block("finalized").slot
            yield {"slot": block.slot, "parent": block.parent_slot, "root": root}
        elif subscription.kind == "root":
            yield block.slot
        elif subscription.kind == "logs":
            for each in block.executions:
                if subscription.target is None or subscription.target in each.keys:
                    value = {
                        "signature": str(each.signature),
                        "err": each.err,
                        "logs": list(each.logs),
                    }
                    yield {"context": {"slot": block.slot}, "value": value}
        elif subscription.kind == "account" and subscription.target in block.changed:
            account = block.changed[subscription.target]
            try:
                value = account_json(account, subscription.encoding, None)
            except ValueError:
                # Too long for base58, which a node then replaces.
                value = account_json(account, "base64", None)
            yield {"context": {"slot": block.slot}, "value": value}

    def _tell_signatures(self) -> None:
        for number, subscription in list(self.subscriptions.items()):
            if subscription.kind != "signature":
                continue
            execution = self._chain.statuses.get(subscription.target)
            if execution is None or self._chain.confirmations(execution) < subscription.depth:
                continue
            # There is one notification, and then no subscription.
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


def _depth(config: Mapping[str, Any]) -> int:
    return COMMITMENTS[commitment_of(config)]


def _signature(params: list[Any]) -> _Subscription:
    target = signature_of(argument(params, 0))
    return _Subscription("signature", _depth(config_of(params, 1)), target)


def _account(params: list[Any]) -> _Subscription:
    target, config = pubkey_of(argument(params, 0)), config_of(params, 1)
    encoding = config.get("encoding") or "base58"
    if encoding not in ("base58", "base64", "jsonParsed"):
        raise refuse(INVALID_PARAMS, f"Invalid params: unsupported encoding: {encoding}")
    return _Subscription("account", _depth(config), target, encoding)


def _logs(params: list[Any]) -> _Subscription:
    wanted, target = argument(params, 0), None
    if isinstance(wanted, dict):
        mentions = wanted.get("mentions")
        if not isinstance(mentions, list) or len(mentions) != 1:
            raise refuse(INVALID_PARAMS, "Invalid Request: Only 1 address supported")
        target = pubkey_of(mentions[0])
    elif wanted not in ("all", "allWithVotes"):
        raise refuse(INVALID_PARAMS, f"Invalid params: unknown variant `{wanted}`")
    return _Subscription("logs", _depth(config_of(params, 1)), target)


_KINDS: Mapping[str, Callable[[list[Any]], _Subscription]] = {
    "account": _account,
    "logs": _logs,
    "root": lambda params: _Subscription("root", COMMITMENTS["finalized"]),
    "signature": _signature,
    "slot": lambda params: _Subscription("slot"),
}
