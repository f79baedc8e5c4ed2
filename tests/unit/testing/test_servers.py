"""The servers of a local cluster: requests that they refuse, and the load that they carry."""

from __future__ import annotations

import json
import resource
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("solders", reason="needs pip install -e '.[localnet]'")

from solders.account import Account
from solders.pubkey import Pubkey
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.unit.testing.localnet_support import Client, Wallet
from velox.testing import LocalCluster
from velox.testing import cluster as cluster_module
from velox.testing.server import http as http_module
from velox.testing.server import websocket as websocket_module

BODY = b'{"jsonrpc":"2.0","id":1,"method":"getHealth"}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
JSON = b"Content-Type: application/json\r\n"
HOST = b"Host: 127.0.0.1:8899\r\n"
POST = b"POST / HTTP/1.1\r\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(rate_per_s=None) as made:
        yield made


def exchange(cluster: LocalCluster, *parts: bytes) -> bytes:
    """Send bytes, and return everything that comes until the server closes or answers once."""
    with socket.create_connection(("127.0.0.1", cluster.port), timeout=30) as connection:
        connection.sendall(b"".join(parts))
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_plain_request_is_served(cluster: LocalCluster) -> None:
    answer = exchange(cluster, POST, HOST, JSON, LENGTH, b"\r\n", BODY)
    assert status(answer) == 200
    assert answer.endswith(b'"result":"ok","id":1}')


@pytest.mark.parametrize("target", [b"http://localhost:8899/", b"HTTP://127.0.0.1", b"/?a=b?c"])
def test_a_target_may_be_written_in_other_ways(cluster: LocalCluster, target: bytes) -> None:
    head = b"POST " + target + b" HTTP/1.1\r\n"
    answer = exchange(cluster, head, HOST, JSON, LENGTH, b"\r\n", BODY)
    assert answer.endswith(b'"result":"ok","id":1}')


@pytest.mark.parametrize("target", [b"//[", b"/%ff", b"*"])
def test_a_path_that_serves_nothing_has_an_answer(cluster: LocalCluster, target: bytes) -> None:
    head = b"POST " + target + b" HTTP/1.1\r\n"
    answer = exchange(cluster, head, HOST, JSON, LENGTH, b"\r\n", BODY)
    assert b'"code":-32601' in answer


def test_a_content_type_is_read_in_any_case(cluster: LocalCluster) -> None:
    json_of_another = b"Content-Type: Application/JSON ; charset=utf-8\r\n"
    answer = exchange(cluster, POST, HOST, json_of_another, LENGTH, b"\r\n", BODY)
    assert status(answer) == 200
    answer = exchange(cluster, POST, HOST, b"Content-Type: text/plain\r\n", LENGTH, b"\r\n", BODY)
    assert status(answer) == 415


def test_a_region_of_the_block_engine_has_a_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "MAX_REGIONS", 2)
    with LocalCluster(rate_per_s=None) as made:
        for region in ("ny", "tokyo", "x" * 32, "ny"):
            path = f"/{region}/api/v1/getTipAccounts"
            assert len(Client(made).call("getTipAccounts", path=path).result) == 8
        for region in ("x" * 33, "a/b", "%6e", "//"):
            head = b"POST /" + region.encode() + b"/api/v1/bundles HTTP/1.1\r\n"
            answer = exchange(made, head, HOST, JSON, LENGTH, b"\r\n", BODY)
            assert status(answer) == 404


# Hosts and origins


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"localhost", 200),
        (b"LOCALHOST:8899", 200),
        (b"127.0.0.1:1", 200),
        (b"[::1]:8899", 200),
        (b"example.com", 421),
        (b"127.0.0.1.example.com:8899", 421),
        (b"localhost.example.com", 421),
        (b"localhost@example.com", 421),
        (b"10.0.0.1", 421),
        (b"", 421),
    ],
)
def test_a_request_for_another_host_is_refused(
    cluster: LocalCluster, host: bytes, expected: int
) -> None:
    answer = exchange(cluster, POST, b"Host: " + host + b"\r\n", JSON, LENGTH, b"\r\n", BODY)
    assert status(answer) == expected


def test_a_request_without_one_host_is_refused(cluster: LocalCluster) -> None:
    assert status(exchange(cluster, POST, JSON, LENGTH, b"\r\n", BODY)) == 421
    assert status(exchange(cluster, POST, HOST, HOST, JSON, LENGTH, b"\r\n", BODY)) == 421


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:3000", 200),
        ("https://127.0.0.1", 200),
        ("http://[::1]:5173", 200),
        ("https://example.com", 403),
        ("http://localhost.example.com", 403),
        ("null", 403),
        ("file://", 403),
    ],
)
def test_a_page_of_another_site_is_refused_and_a_local_one_may_read(
    cluster: LocalCluster, origin: str, expected: int
) -> None:
    answer = Client(cluster).post(BODY, headers={"Origin": origin})
    assert answer.status == expected
    allowed = answer.headers.get("Access-Control-Allow-Origin")
    assert allowed == (origin if expected == 200 else None)
    if expected == 200:
        with connect(cluster.ws_url, origin=origin) as connection:
            connection.send(BODY)
            assert json.loads(connection.recv(timeout=30))["error"]["code"] == -32601
    else:
        with pytest.raises(InvalidStatus) as refused:
            connect(cluster.ws_url, origin=origin)
        assert refused.value.response.status_code == 403


def test_a_websocket_for_another_host_is_refused(cluster: LocalCluster) -> None:
    handshake = (
        b"GET / HTTP/1.1\r\nHost: rebound.example.com\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", cluster.port + 1), timeout=30) as connection:
        connection.sendall(handshake)
        assert status(connection.recv(65_536)) == 421


def test_a_preflight_of_a_local_page_is_answered(cluster: LocalCluster) -> None:
    asked = b"Origin: http://localhost:3000\r\nAccess-Control-Request-Headers: solana-client\r\n"
    answer = exchange(cluster, b"OPTIONS / HTTP/1.1\r\n", HOST, asked, b"\r\n")
    assert status(answer) == 204
    assert b"Access-Control-Allow-Headers: solana-client\r\n" in answer
    assert b"Access-Control-Allow-Origin: http://localhost:3000\r\n" in answer
    assert b"Access-Control-Allow-Methods: GET, OPTIONS, POST\r\n" in answer


# Framing


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (POST + HOST + JSON + LENGTH + b"Transfer-Encoding: chunked\r\n", 400),
        (POST + HOST + JSON + LENGTH + LENGTH, 400),
        (POST + HOST + JSON + LENGTH + b"content-length: 0\r\n", 400),
        (POST + HOST + JSON + b"Content-Length: 5, 5\r\n", 400),
        (POST + HOST + JSON + b"Content-Length: +5\r\n", 400),
        (POST + HOST + JSON + b"Content-Length: 0x5\r\n", 400),
        (POST + HOST + JSON + b"Content-Length: 1_0\r\n", 400),
        (POST + HOST + JSON + b"Content-Length:\r\n", 400),
        (POST + HOST + JSON + b"Content-Length : 45\r\n", 400),
        (POST + HOST + JSON + b"X: a\r\n " + LENGTH, 400),
        (POST + HOST + JSON + b"X: a\r\n\tfolded\r\n" + LENGTH, 400),
        (POST + HOST + JSON + b"X: a\nContent-Length: 45\r\n", 400),
        (POST + HOST + JSON + b"X: a\rY: b\r\n" + LENGTH, 400),
        (POST + HOST + JSON + b"X: a\0b\r\n" + LENGTH, 400),
        (POST + HOST + JSON + b": nameless\r\n" + LENGTH, 400),
        (POST + HOST + JSON + b"no colon\r\n" + LENGTH, 400),
        (POST + HOST + JSON + b"Transfer-Encoding: chunked\r\n", 411),
        (POST + HOST + JSON, 411),
        (b"POST example.com HTTP/1.1\r\n" + HOST + JSON + LENGTH, 400),
        (b"POST http://[::1 HTTP/1.1\r\n" + HOST + JSON + LENGTH, 400),
        (b"POST file:///etc HTTP/1.1\r\n" + HOST + JSON + LENGTH, 400),
        (b"POST http://example.com/ HTTP/1.1\r\n" + HOST + JSON + LENGTH, 421),
        (b"POST http://localhost@example.com/ HTTP/1.1\r\n" + HOST + JSON + LENGTH, 421),
        (b"POST / HTTP/2.0\r\n" + HOST + JSON + LENGTH, 400),
        (b"POST  / HTTP/1.1\r\n" + HOST + JSON + LENGTH, 400),
        (b"POST / x HTTP/1.1\r\n" + HOST + JSON + LENGTH, 400),
        (b"POST /\r\n" + HOST + JSON + LENGTH, 400),
        (b"DELETE / HTTP/1.1\r\n" + HOST + JSON + LENGTH, 405),
        (POST + HOST + b"X: " + b"x" * 20_000 + b"\r\n", 431),
    ],
)
def test_a_head_that_is_ambiguous_or_broken_is_refused_once(
    cluster: LocalCluster, head: bytes, expected: int
) -> None:
    # What follows would be a second request for a reader that frames the first one differently.
    smuggled = POST + HOST + JSON + LENGTH + b"\r\n" + BODY
    answer = exchange(cluster, head, b"\r\n", smuggled)
    assert status(answer) == expected
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close\r\n" in answer


def test_requests_may_follow_each_other_at_once(cluster: LocalCluster) -> None:
    whole = POST + HOST + JSON + LENGTH + b"\r\n" + BODY
    assert exchange(cluster, whole, whole, whole).count(b'"result":"ok"') == 3


def test_a_connection_closes_when_the_client_asks_for_it(cluster: LocalCluster) -> None:
    whole = POST + HOST + JSON + LENGTH + b"Connection: close\r\n\r\n" + BODY
    answer = exchange(cluster, whole, whole)
    assert answer.count(b"HTTP/1.1 200") == 1
    old = b"POST / HTTP/1.0\r\n" + HOST + JSON + LENGTH + b"\r\n" + BODY
    assert exchange(cluster, old, old).count(b"HTTP/1.1 200") == 1


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(cluster: LocalCluster) -> None:
    with socket.create_connection(("127.0.0.1", cluster.port), timeout=30) as connection:
        connection.sendall(POST + HOST + JSON + LENGTH + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert status(connection.recv(65_536)) == 200


# Many connections


@pytest.fixture
def descriptors() -> Iterator[int]:
    """As many descriptors as the system allows; their number is a limit of these tests."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 25_000 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield max(soft, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("offset", [0, 1], ids=["http", "websocket"])
@pytest.mark.parametrize("wanted", [1_500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_idle_connections_make_no_thread(descriptors: int, wanted: int, offset: int) -> None:
    count = min(wanted, descriptors - 2 * http_module.MAX_CONNECTIONS - 500)
    with LocalCluster() as cluster:
        threads = threading.active_count()
        idle = [
            socket.create_connection(("127.0.0.1", cluster.port + offset)) for _ in range(count)
        ]
        try:
            assert Client(cluster).call("getHealth").result == "ok"
            assert threading.active_count() == threads
        finally:
            for each in idle:
                # A reset leaves no connection in TIME_WAIT, which would keep its port.
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.close()


def test_the_connection_that_is_idle_for_longest_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_module, "MAX_CONNECTIONS", 2)
    whole = POST + HOST + JSON + LENGTH + b"\r\n" + BODY
    with LocalCluster() as cluster:
        first, second, third = (
            socket.create_connection(("127.0.0.1", cluster.port), timeout=30) for _ in range(3)
        )
        with first, second, third:
            for each in (second, third):
                each.sendall(whole)
                assert status(each.recv(65_536)) == 200
            assert first.recv(1) == b""


def ask(connection: Any, method: str, *params: Any, identity: Any = 1) -> Any:
    call = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
    connection.send(json.dumps(call))
    return json.loads(connection.recv(timeout=30))


def test_a_subscription_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_module, "MAX_SUBSCRIPTIONS", 2)
    with LocalCluster() as cluster, connect(cluster.ws_url) as client:
        numbers = [ask(client, "rootSubscribe")["result"] for _ in range(2)]
        assert "limit reached" in ask(client, "rootSubscribe")["error"]["message"]
        assert ask(client, "rootUnsubscribe", numbers[0])["result"] is True
        assert ask(client, "rootSubscribe")["result"] > numbers[1]


def test_a_client_that_does_not_read_is_cut_off_by_the_bytes_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket_module, "MAX_UNSENT_BYTES", 4 << 20)
    with LocalCluster() as cluster, connect(cluster.ws_url, max_queue=1) as client:
        key = Pubkey.from_bytes(bytes([7]) * 32)
        cluster.set_account(key, Account(10**9, bytes(1 << 20), key))
        config = {"encoding": "base64", "commitment": "processed"}
        assert ask(client, "accountSubscribe", str(key), config)["result"]
        wallet = Wallet(cluster)
        # What the kernel holds is not counted, and it is less than this.
        for _ in range(40):
            Client(cluster).send(wallet.sign(wallet.pay(key, 1)), skipPreflight=True)
            cluster.tick()
        with pytest.raises(ConnectionClosed):
            while True:
                client.recv(timeout=30)


@pytest.mark.parametrize("identity", [True, 1.5, float("nan"), {"a": 1}, [1]])
def test_a_call_is_identified_by_an_integer_a_string_or_null(
    cluster: LocalCluster, identity: Any
) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": identity, "method": "getHealth"}).encode()
    refused = Client(cluster).post(body)
    assert refused.error["code"] == -32600
    with connect(cluster.ws_url) as client:
        answer = ask(client, "slotSubscribe", identity=identity)
        assert (answer["error"]["code"], answer["id"]) == (-32600, None)


def test_a_subscriber_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_module, "MAX_CONNECTIONS", 1)
    with LocalCluster() as cluster, connect(cluster.ws_url) as only:
        only.send(BODY)
        only.recv(timeout=30)
        with pytest.raises(InvalidStatus) as refused:
            connect(cluster.ws_url)
        assert refused.value.response.status_code == 503
