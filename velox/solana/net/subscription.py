"""Solana's websocket, as far as it is quicker than asking: word of one transaction."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from solders.signature import Signature
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from velox.solana.net.endpoint import Address, Answer, Peer, tls_context

if TYPE_CHECKING:
    from velox.solana.net.rpc import Commitment

__all__ = ["SignatureNotification", "SignatureSubscription", "websocket_of"]

_SUBSCRIBE: Final = "signatureSubscribe"
_LAST_PORT: Final = 65_535
# What websockets logs holds the path of the URL, where providers put their keys.
_SILENT: Final = logging.Logger("velox.solana.net.subscription", logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True)
class SignatureNotification:
    """The word of a node that a transaction reached the commitment that was asked for.

    Attributes
    ----------
    slot : int
        The slot at which it did.
    err : object or None
        None if it succeeded.
    """

    slot: int
    err: object | None


class SignatureSubscription:
    """A subscription to the outcome of one transaction, over a websocket of its own.

    It is quicker than asking, and no more than a hint: a connection may end, and then
    `RpcClient.get_signature_statuses` is to be asked. One thread uses it.

    Parameters
    ----------
    peer : Peer
        The node's websocket.
    signature : solders.signature.Signature
        The transaction.
    commitment : {"processed", "confirmed", "finalized"}
        What it has to reach.
    timeout_s : float
        Seconds for the connection and for the subscription, each.

    Raises
    ------
    RpcError, RateLimitedError, TransportError
        No subscription.
    """

    def __init__(
        self, peer: Peer, signature: Signature, commitment: Commitment, timeout_s: float
    ) -> None:
        self._peer = peer
        self._exit = ExitStack()
        self._connection = self._connect(timeout_s)
        try:
            params = [str(signature), {"commitment": commitment}]
            request = {"jsonrpc": "2.0", "id": 1, "method": _SUBSCRIBE, "params": params}
            with self._failing():
                self._connection.send(json.dumps(request))
            document = self._receive(time.monotonic() + timeout_s)
            if document is None:
                raise peer.failure(_SUBSCRIBE, f"no answer within {timeout_s:g} s")
            self._subscription = peer.result(_SUBSCRIBE, 1, document).integer()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"SignatureSubscription({self._peer.label!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End it; the node forgets it with the connection."""
        self._exit.close()

    def wait(self, timeout_s: float) -> SignatureNotification | None:
        """Wait for the notification.

        Parameters
        ----------
        timeout_s : float
            Seconds.

        Returns
        -------
        SignatureNotification or None
            None if there was none in that time.

        Raises
        ------
        TransportError
            The connection ended, or what came over it cannot be believed.
        """
        deadline = time.monotonic() + timeout_s
        while (document := self._receive(deadline)) is not None:
            answer = Answer(self._peer, _SUBSCRIBE, document, "notification")
            if answer["method"].value == "signatureNotification":
                return self._notification(answer["params"])
            if time.monotonic() >= deadline:  # a flood of others does not hold the caller
                break
        return None

    def _notification(self, params: Answer) -> SignatureNotification:
        if params["subscription"].integer() != self._subscription:
            raise params.wrong("is of a subscription that was not made")
        told = params["result"]
        return SignatureNotification(told["context"]["slot"].integer(), told["value"]["err"].value)

    def _connect(self, timeout_s: float) -> ClientConnection:
        address = self._peer.address
        if address.port is not None and address.port > _LAST_PORT:
            raise self._peer.failure(_SUBSCRIBE, f"no port comes after {_LAST_PORT}: set ws_url")
        context = tls_context() if address.scheme == "wss" else None
        with self._failing():
            # A socket of our own: to the host that was checked, and not to be redirected.
            default = 443 if address.scheme == "wss" else 80
            connection = socket.create_connection(
                (address.host, address.port or default), timeout_s
            )
            connection.settimeout(None)
            return self._exit.enter_context(
                connect(
                    f"{address.label}{address.target()}",
                    sock=connection,
                    ssl=context,
                    compression=None,
                    proxy=None,
                    open_timeout=timeout_s,
                    close_timeout=1.0,
                    max_size=1 << 20,
                    max_queue=16,
                    user_agent_header="velox",
                    logger=_SILENT,
                )
            )

    def _receive(self, deadline: float) -> Any:
        """Return the next document, or None once the deadline, by `time.monotonic`, is past."""
        with self._failing():
            try:
                content = self._connection.recv(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return None
        return self._peer.parse(_SUBSCRIBE, content)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn what the websocket raises into a `TransportError`."""
        try:
            yield
        except (WebSocketException, OSError, ValueError) as error:  # ValueError: a redirect
            why = f"{type(error).__name__}: {error}"
        else:
            return
        raise self._peer.failure(_SUBSCRIBE, why)


def websocket_of(address: Address) -> Address:
    return Address(
        {"http": "ws", "https": "wss"}[address.scheme],
        address.host,
        None if address.port is None else address.port + 1,
        address.path,
        address.query,
    )
