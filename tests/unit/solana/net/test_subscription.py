"""A websocket tells of one transaction, and is not believed either."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response
from websockets.sync.server import serve

from tests.unit.solana.rpc_support import CONTEXT, SIGNATURE, cluster_of, moved
from velox.errors import RateLimitedError, RpcError, TransportError
from velox.solana.net.rpc import RpcClient, first_signature


@contextmanager
def socket_of(handler, process_request=None):
    """Yield a client whose websocket is served by `handler`."""
    with ExitStack() as stack:
        server = stack.enter_context(
            serve(handler, "127.0.0.1", 0, process_request=process_request)
        )
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        port = server.socket.getsockname()[1]
        yield stack.enter_context(
            RpcClient(
                "http://127.0.0.1:1", ws_url=f"ws://127.0.0.1:{port}", retries=0, timeout_s=5.0
            )
        )


def notification(subscription=23, value=None, **more):
    value = {"err": None} if value is None else value
    params = {"result": {"context": CONTEXT, "value": value}, "subscription": subscription}
    return json.dumps(
        {"jsonrpc": "2.0", "method": "signatureNotification", "params": params, **more}
    )


def accept(*messages, asked=None):
    """A websocket that subscribes and then sends these messages."""

    def handle(connection):
        call = json.loads(connection.recv())
        if asked is not None:
            asked.append(call)
        connection.send(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": 23}))
        for message in messages:
            connection.send(message)
        for _ in connection:  # until the client hangs up
            pass

    return handle


def test_a_subscription_tells_of_the_transaction():
    asked = []
    other = json.dumps({"jsonrpc": "2.0", "method": "slotNotification", "params": {}})
    with socket_of(accept(other, notification(), asked=asked)) as rpc:
        with rpc.signature_subscribe(SIGNATURE, "finalized") as subscription:
            told = subscription.wait(5.0)
    assert told is not None
    assert (told.slot, told.err) == (7, None)
    assert asked[0]["method"] == "signatureSubscribe"
    assert asked[0]["params"] == [str(SIGNATURE), {"commitment": "finalized"}]


def test_a_subscription_that_hears_nothing_says_so():
    with socket_of(accept()) as rpc:
        with rpc.signature_subscribe(SIGNATURE) as subscription:
            assert subscription.wait(0.01) is None
            assert subscription.wait(0.0) is None


def test_a_flood_of_other_news_does_not_hold_a_caller():
    other = json.dumps({"jsonrpc": "2.0", "method": "slotNotification", "params": {}})

    def flood(connection):
        call = json.loads(connection.recv())
        connection.send(json.dumps({"id": call["id"], "result": 23}))
        with suppress(ConnectionClosed):
            while True:
                connection.send(other)

    with socket_of(flood) as rpc:
        with rpc.signature_subscribe(SIGNATURE) as subscription:
            assert subscription.wait(0.1) is None
            assert subscription.wait(0.0) is None


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("{", "not usable JSON"),
        (b"\x00\x01", "not usable JSON"),
        ("[]", "must be an object"),
        ("{}", "has no 'method'"),
        (notification(params=5), "must be an object"),
        (notification(24), "a subscription that was not made"),
        (notification("23"), "must be an integer"),
        (notification(value={"slot": 5}), "has no 'err'"),
        (notification(value=5), "must be an object"),
        ("x" * (2 << 20), "ConnectionClosedError"),
    ],
)
def test_a_notification_that_cannot_be_believed_is_a_transport_error(message, why):
    with socket_of(accept(message)) as rpc:
        with rpc.signature_subscribe(SIGNATURE) as subscription:
            with pytest.raises(TransportError, match=why):
                subscription.wait(5.0)


def test_a_connection_that_ends_is_a_transport_error():
    def hang_up(connection):
        call = json.loads(connection.recv())
        connection.send(json.dumps({"id": call["id"], "result": 23}))

    with socket_of(hang_up) as rpc:
        with rpc.signature_subscribe(SIGNATURE) as subscription:
            with pytest.raises(TransportError, match="ConnectionClosed"):
                subscription.wait(5.0)


@pytest.mark.parametrize(
    ("answer", "expected", "why"),
    [
        ({"id": 1, "error": {"code": -32602, "message": "no"}}, RpcError, "error -32602: no"),
        ({"id": 1, "error": {"code": -32097, "message": "no"}}, RateLimitedError, "too many"),
        ({"id": 2, "result": 23}, TransportError, "answers request 2"),
        ({"id": 1, "result": "23"}, TransportError, "must be an integer"),
    ],
)
def test_a_subscription_that_is_refused_is_none(answer, expected, why):
    def refuse(connection):
        connection.recv()
        connection.send(json.dumps(answer))
        for _ in connection:
            pass

    with socket_of(refuse) as rpc:
        with pytest.raises(expected, match=why) as caught:
            rpc.signature_subscribe(SIGNATURE)
    assert caught.value.endpoint.startswith("ws://127.0.0.1:")


def test_a_redirected_websocket_is_refused():
    def redirect(connection, request):
        return Response(302, "Found", Headers(location="/elsewhere"), b"")

    with socket_of(accept(), redirect) as rpc:
        with pytest.raises(TransportError, match=r"redirect|302"):
            rpc.signature_subscribe(SIGNATURE)


def test_a_websocket_that_does_not_answer_the_handshake_does_not_hold_a_caller():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"ws://127.0.0.1:{server.getsockname()[1]}"
        with RpcClient("http://127.0.0.1:1", ws_url=url, timeout_s=0.1) as rpc:
            with pytest.raises(TransportError, match="signatureSubscribe: TimeoutError"):
                rpc.signature_subscribe(SIGNATURE)


def test_the_websocket_is_by_convention_on_the_next_port():
    def label(url: str) -> str:
        with RpcClient(url, allow_mainnet=True) as rpc:
            return rpc._socket.label

    assert label("http://127.0.0.1:8899") == "ws://127.0.0.1:8900"
    with RpcClient("http://127.0.0.1:65535") as rpc:
        with pytest.raises(TransportError, match="no port comes after 65535"):
            rpc.signature_subscribe(SIGNATURE)
    assert label("https://api.mainnet-beta.solana.com") == "wss://api.mainnet-beta.solana.com"


def test_a_subscription_to_a_local_cluster_tells_of_the_landing():
    with cluster_of() as (cluster, rpc):
        raw_transaction, _ = moved(cluster, rpc)
        with rpc.signature_subscribe(first_signature(raw_transaction), "processed") as subscription:
            rpc.send_transaction(raw_transaction)
            assert subscription.wait(0.0) is None
            cluster.tick()
            told = subscription.wait(5.0)
        assert told is not None
        assert (told.err, told.slot) == (None, cluster.slot)
