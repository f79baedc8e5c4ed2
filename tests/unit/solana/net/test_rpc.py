"""The RPC client, against servers that misbehave in every way."""

from __future__ import annotations

import base64
import gzip
import ipaddress
import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import traceback
from urllib.parse import unquote

import httpcore
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solders.signature import Signature

from tests.unit.solana.fake_server import FakeServer, body, document, error, raw, result, send
from tests.unit.solana.rpc_support import (
    BLOCKHASH,
    CONTEXT,
    HASH,
    KEY,
    RAW,
    SIGNATURE,
    client_of,
    cluster_of,
    failure,
    moved,
)
from velox.errors import (
    ConfigError,
    EndpointRefusedError,
    RateLimitedError,
    RpcError,
    SolanaError,
    TransportError,
)
from velox.solana.net.address import Address, Secret, require_loopback
from velox.solana.net.answer import retry_after_s
from velox.solana.net.deadline import DeadlineBackend, time_left_s, time_limit
from velox.solana.net.endpoint import Endpoint
from velox.solana.net.rate_limit import RetryPolicy
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import (
    Account,
    Blockhash,
    SignatureStatus,
    Simulation,
    TransactionInfo,
    first_signature,
)
from velox.testing import Fault, FaultPlan, Lie

# What it understands.


def test_every_method_reads_what_a_node_answers():
    account = {
        "lamports": 5,
        "owner": str(KEY),
        "data": [base64.b64encode(b"held").decode(), "base64"],
        "executable": False,
        "rentEpoch": 2**64 - 1,
    }
    returned = {"programId": str(KEY), "data": ["AQI=", "base64"]}
    simulated = {
        "err": {"InstructionError": [0, {"Custom": 6}]},
        "logs": ["a", "b"],
        "unitsConsumed": 9,
        "returnData": returned,
    }
    meta = {
        "err": None,
        "fee": 5000,
        "logMessages": ["a"],
        "computeUnitsConsumed": 9,
        "returnData": returned,
    }
    cases = [
        (lambda rpc: rpc.get_latest_blockhash(), BLOCKHASH, Blockhash(HASH, 157, 7)),
        (lambda rpc: rpc.get_block_height("finalized"), 2**64 - 1, 2**64 - 1),
        (lambda rpc: rpc.get_slot(), 0, 0),
        (lambda rpc: rpc.get_genesis_hash(), str(HASH), HASH),
        (lambda rpc: rpc.get_balance(KEY), {"context": CONTEXT, "value": 5}, 5),
        (
            lambda rpc: rpc.get_account_info(KEY),
            {"context": CONTEXT, "value": account},
            Account(5, KEY, b"held", False, 7),
        ),
        (lambda rpc: rpc.get_account_info(KEY), {"context": CONTEXT, "value": None}, None),
        (lambda rpc: rpc.send_transaction(RAW), str(SIGNATURE), SIGNATURE),
        (
            lambda rpc: rpc.simulate_transaction(RAW),
            {"context": CONTEXT, "value": simulated},
            Simulation(simulated["err"], ("a", "b"), 9, b"\x01\x02", 7),
        ),
        (
            lambda rpc: rpc.simulate_transaction(RAW),
            {"context": CONTEXT, "value": {"err": None, "logs": None}},
            Simulation(None, (), None, None, 7),
        ),
        (
            lambda rpc: rpc.get_transaction(SIGNATURE),
            {"slot": 3, "blockTime": None, "meta": meta, "transaction": ["", "base64"]},
            TransactionInfo(3, None, 5000, ("a",), 9, b"\x01\x02"),
        ),
        (lambda rpc: rpc.get_transaction(SIGNATURE), None, None),
    ]
    with client_of(result(None)) as (fake, rpc, _):
        for ask, answer, expected in cases:
            fake.answers(result(answer))
            assert ask(rpc) == expected


def test_statuses_come_one_for_each_signature_in_order():
    rooted = {"slot": 3, "confirmations": None, "err": None, "confirmationStatus": "finalized"}
    failed = {"slot": 4, "confirmations": 1, "err": "X", "confirmationStatus": "confirmed"}
    old = {"slot": 5, "confirmations": 0, "err": None, "status": {"Ok": None}}
    values = {"context": CONTEXT, "value": [rooted, None, failed, old]}
    with client_of(result(values)) as (fake, rpc, _):
        assert rpc.get_signature_statuses([SIGNATURE] * 4, search_history=True) == [
            SignatureStatus(3, None, None, "finalized"),
            None,
            SignatureStatus(4, 1, "X", "confirmed"),
            SignatureStatus(5, 0, None, "processed"),
        ]
        assert fake.requests[0].call["params"][1] == {"searchTransactionHistory": True}
        assert rpc.get_signature_statuses([]) == []
        assert len(fake.requests) == 1
        with pytest.raises(ConfigError, match=r"^signatures: 257"):
            rpc.get_signature_statuses([SIGNATURE] * 257)
        assert len(rpc.get_signature_statuses([SIGNATURE] * 4, least_slot=7)) == 4
        with pytest.raises(TransportError, match="is 7; at least 8"):
            rpc.get_signature_statuses([SIGNATURE] * 4, least_slot=8)
        with pytest.raises(TransportError, match="has 4 statuses for 2 signatures"):
            rpc.get_signature_statuses([SIGNATURE] * 2)


@pytest.mark.parametrize("more", [{}, {"confirmationStatus": None}])
def test_a_status_that_does_not_say_how_sure_it_is_is_a_lie(more):
    values = {"context": CONTEXT, "value": [{"slot": 5, "err": None, **more}]}
    with client_of(result(values)) as (fake, rpc, _):
        with pytest.raises(TransportError, match=r"result\.value\[0\]: has no 'confirmations'"):
            rpc.get_signature_statuses([SIGNATURE])
        # Old nodes say how many blocks are on top, and null once there are enough.
        values["value"][0]["confirmations"] = None
        fake.answers(result(values))
        (status,) = rpc.get_signature_statuses([SIGNATURE])
        assert status == SignatureStatus(5, None, None, "finalized")


def test_a_transaction_is_sent_in_base64_and_without_retries_of_the_node():
    with client_of(result(str(SIGNATURE))) as (fake, rpc, _):
        rpc.send_transaction(RAW, skip_preflight=True)
        rpc.send_transaction(RAW, max_retries=None)
        first, second = (request.call["params"] for request in fake.requests)
    assert base64.b64decode(first[0]) == RAW
    assert first[1] == {
        "encoding": "base64",
        "skipPreflight": True,
        "preflightCommitment": "confirmed",
        "maxRetries": 0,
    }
    assert "maxRetries" not in second[1]


def test_connections_are_used_again():
    with FakeServer(result(1)) as fake:
        endpoint = Endpoint(fake.url)
        assert [endpoint.call("getSlot").integer() for _ in range(3)] == [1, 1, 1]
        numbers = [request.call["id"] for request in fake.requests]
        assert len(set(numbers)) == 3
        assert endpoint.transport.open_connections == 1
        endpoint.close()


def test_threads_share_a_client():
    def answer(handler, request):
        reply = {"jsonrpc": "2.0", "id": request.call["id"], "result": request.call["id"]}
        send(handler, json.dumps(reply).encode())

    with client_of(answer) as (fake, rpc, _):
        threads = [
            threading.Thread(target=lambda: [rpc.get_slot() for _ in range(25)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(request.call["id"] for request in fake.requests) == [*range(1, 101)]


# What it is not taken in by.


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (body(b""), "not usable JSON"),
        (body(b"<html>hello\x1b[31m</html>"), "not usable JSON: <html>hello .31m</html>"),
        (body(b"\xff\xfe\x00"), "not usable JSON"),
        (body(b'{"jsonrpc":"2.0","id":1,"result":NaN}'), "not usable JSON"),
        (body(b'{"id":1,"result":' + b"9" * 5000 + b"}"), "not usable JSON"),
        (body(b"[" * 100_000), "not usable JSON"),
        (body(b'{"id":1,"result":' + b"[" * 200 + b"]" * 200 + b"}"), "not usable JSON"),
        (document([]), "neither a result nor an error"),
        (document("slot"), "neither a result nor an error"),
        (document({"id": 1}), "neither a result nor an error"),
        (document({"id": 1, "error": None}), "neither a result nor an error"),
        (document({"id": 2, "result": 5}), "answers request 2, not 1"),
        (document({"id": None, "result": 5}), "answers request None, not 1"),
        (document({"id": True, "result": 5}), "answers request True, not 1"),
        (document({"id": "1", "result": 5}), "answers request '1', not 1"),
        (document({"id": 9, "error": {"code": -1, "message": "x"}}), "answers request 9, not 1"),
        (result("5"), "result: must be an integer from 0 to 18446744073709551615, not '5'"),
        (result(-1), "not '-1'"),
        (result(2**64), "not '18446744073709551616'"),
        (result(5.0), "not '5.0'"),
        (result(True), "not 'True'"),
        (result(None), "not null"),
        (result([5]), "not an array"),
        (result({"slot": 5}), "not an object"),
        (body(b"busy", status=503), "status 503: busy"),
        (document({"id": 1, "result": 5}, status=500), 'status 500: {"id": 1, "result": 5}'),
        (body(b"", status=204), "status 204"),
        (body(b"", status=302, location="http://127.0.0.1:1/"), "redirect refused .status 302"),
        (body(b"", status=307, location="/"), "redirect refused .status 307"),
        (body(gzip.compress(b" " * 10_000_000), content_encoding="gzip"), "compressed"),
        (raw(b""), "RemoteProtocolError"),
        (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "RemoteProtocolError"),
        (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"), "RemoteProtocolError"),
        (raw(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n{}"), "RemoteProtocolError"),
        (raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), "RemoteProtocolE"),
        (raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000), "RemoteProtocolError"),
        (raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "RemoteProtocolError"),
        (raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "RemoteProtocolError"),
        (raw(b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\n\r\n{}"), "compressed"),
    ],
)
def test_an_answer_that_cannot_be_believed_is_a_transport_error_that_says_why(behaviour, why):
    caught = failure(behaviour)
    assert isinstance(caught, TransportError)
    assert caught.method == "getSlot"
    with pytest.raises(TransportError, match=why):
        raise caught
    assert str(caught).isprintable()
    assert len(str(caught)) < 400


def test_an_answer_beyond_the_bound_is_not_read_to_its_end():
    def endless(handler, _):
        handler.send_response(200)
        handler.send_header("content-length", str(1 << 40))
        handler.end_headers()
        while True:  # until the client hangs up
            handler.wfile.write(bytes(1 << 16))

    with FakeServer(endless) as fake:
        endpoint = Endpoint(fake.url, max_response_bytes=1 << 20)
        with pytest.raises(TransportError, match="more than 1048576 bytes"):
            endpoint.call("getSlot")
        fake.answers(result(5))
        assert endpoint.call("getSlot").integer() == 5
        endpoint.close()


@pytest.mark.parametrize("part", ["status line", "headers", "body"])
def test_a_byte_now_and_then_does_not_hold_a_caller(part):
    starts = {
        "status line": b"",
        "headers": b"HTTP/1.1 200 OK\r\nx-slow: ",
        "body": b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
    }

    def drip(handler, _):
        handler.wfile.write(starts[part])
        while not fake.released.wait(0.01):
            handler.wfile.write(b"H" if part == "status line" else b"x")

    with client_of(drip, timeout_s=0.3) as (fake, rpc, _):
        with pytest.raises(TransportError, match=r"no answer within 0\.3 s"):
            rpc.get_slot()


def test_a_server_that_says_nothing_does_not_hold_a_caller():
    def silence(handler, _):
        fake.released.wait()

    with client_of(silence, timeout_s=0.1) as (fake, rpc, _):
        with pytest.raises(TransportError, match=r"no answer within 0\.1 s"):
            rpc.get_slot()


def test_more_callers_than_connections_are_not_held_either():
    def silence(handler, _):
        fake.released.wait()

    with client_of(silence, timeout_s=0.1) as (fake, rpc, _):
        ends = []

        def ask():
            try:
                rpc.get_slot()
            except TransportError as caught:
                ends.append(caught.why)

        threads = [threading.Thread(target=ask) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ends == ["no answer within 0.1 s"] * 40


def test_an_answer_that_came_before_its_request_is_not_taken_for_the_next():
    def twice(handler, request):
        for number in (request.call["id"], request.call["id"]):
            send(handler, json.dumps({"id": number, "result": 5}).encode())

    with client_of(twice) as (_, rpc, _):
        assert rpc.get_slot() == 5
        with pytest.raises(TransportError, match=r"answers request 1, not 2|RemoteProtocolError"):
            rpc.get_slot()


def test_a_server_that_speaks_no_tls_is_a_transport_error():
    with client_of(result(5)) as (fake, _, _):
        url = fake.url.replace("http", "https")
        with RpcClient(url, retries=0) as rpc:
            with pytest.raises(TransportError, match="getSlot: ConnectError"):
                rpc.get_slot()


def test_a_server_that_is_silent_in_the_handshake_of_tls_does_not_hold_a_caller():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        with RpcClient(url, retries=0, timeout_s=0.1) as rpc:
            with pytest.raises(TransportError, match=r"no answer within 0\.1 s"):
                rpc.get_slot()


def test_a_connection_that_is_too_late_for_its_handshake_is_closed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        stream = DeadlineBackend().connect_tcp(host, port, time.monotonic() + 5)
        connection = stream.get_extra_info("socket")
        with pytest.raises(httpcore.ConnectTimeout):
            stream.start_tls(ssl.create_default_context(), host, time.monotonic() - 1)
        assert connection.fileno() == -1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with FakeServer(result(5), context=context) as fake:
        assert fake.url.startswith("https:")
        with RpcClient(fake.url, retries=0) as rpc:
            with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
                rpc.get_slot()
        assert not fake.requests


def test_a_port_that_nobody_listens_on_is_a_transport_error():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with RpcClient(f"http://127.0.0.1:{port}", retries=0) as rpc:
        with pytest.raises(TransportError, match=f"^http://127.0.0.1:{port}: getSlot: Connect"):
            rpc.get_slot()


def test_another_signature_than_that_of_the_bytes_is_a_lie():
    with client_of(result(str(Signature.default()))) as (_, rpc, _):
        with pytest.raises(TransportError, match="is not the signature that was sent"):
            rpc.send_transaction(RAW)


@pytest.mark.parametrize("transaction", [b"", bytes(65), bytes([200]) + bytes(64), RAW[:64]])
def test_bytes_without_a_signature_are_not_sent(transaction):
    with client_of(result(None)) as (fake, rpc, _):
        with pytest.raises(ConfigError, match="transaction: "):
            rpc.send_transaction(transaction)
        assert not fake.requests
    assert first_signature(RAW) == SIGNATURE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=90),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
ASK = [
    (lambda rpc: rpc.get_latest_blockhash(), BLOCKHASH),
    (lambda rpc: rpc.get_slot(), 5),
    (lambda rpc: rpc.get_genesis_hash(), str(HASH)),
    (
        lambda rpc: rpc.get_account_info(KEY),
        {
            "context": CONTEXT,
            "value": {"lamports": 5, "owner": str(KEY), "data": ["", "base64"], "executable": True},
        },
    ),
    (lambda rpc: rpc.send_transaction(RAW), str(SIGNATURE)),
    (
        lambda rpc: rpc.simulate_transaction(RAW),
        {
            "context": CONTEXT,
            "value": {"err": None, "logs": ["x"], "returnData": {"data": ["", "base64"]}},
        },
    ),
    (
        lambda rpc: rpc.get_signature_statuses([SIGNATURE]),
        {
            "context": CONTEXT,
            "value": [
                {"slot": 3, "confirmations": 1, "err": None, "confirmationStatus": "finalized"}
            ],
        },
    ),
    (
        lambda rpc: rpc.get_transaction(SIGNATURE),
        {"slot": 3, "meta": {"err": None, "fee": 5, "logMessages": ["x"]}},
    ),
]


def bend(value, data):
    """Replace one place of a JSON document."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        if data.draw(st.integers(0, 3)) == 0:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: bend(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        which = data.draw(st.integers(0, len(value) - 1))
        return [bend(item, data) if i == which else item for i, item in enumerate(value)]
    return data.draw(JSON)


@pytest.fixture(scope="module")
def liar():
    with client_of(result(None)) as (fake, rpc, _):
        yield fake, rpc


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.sampled_from(range(len(ASK))), whole=st.booleans(), data=st.data())
def test_any_json_is_read_or_refused_by_a_typed_error(liar, which, whole, data):
    fake, rpc = liar
    ask, honest = ASK[which]
    if whole:
        fake.answers(document(data.draw(JSON)))
    else:
        fake.answers(result(bend(honest, data)))
    try:
        ask(rpc)
    except (TransportError, RpcError, RateLimitedError) as caught:
        assert str(caught).isprintable()
        assert len(str(caught)) < 400


# Errors of the node, and rates.


def test_an_error_keeps_code_words_and_data():
    caught = failure(error(-32002, "simulation failed", {"err": "X", "logs": ["l"]}))
    assert isinstance(caught, RpcError)
    assert (caught.code, caught.message) == (-32002, "simulation failed")
    assert caught.data == {"err": "X", "logs": ["l"]}
    assert str(caught).endswith("getSlot: error -32002: simulation failed")


@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_an_error_is_one_under_any_status_and_without_an_id(status):
    caught = failure(error(-32602, "no", status=status, id=None))
    assert isinstance(caught, RpcError)
    assert caught.code == -32602


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("-1", "x", (None, "x")),
        (True, "x", (None, "x")),
        (10**1000, "x", (None, "x")),
        (-1, None, (-1, "null")),
        (-1, {"a": 1}, (-1, '{"a": 1}')),
        (-1, "a\x00\x1b[2Jb\nc\ud800", (-1, "a  [2Jb c?")),
        (-1, "x" * 5000, (-1, "x" * 300 + "…")),
    ],
)
def test_an_odd_error_is_an_error_all_the_same(code, message, expected):
    caught = failure(error(code, message))
    assert isinstance(caught, RpcError)
    assert (caught.code, caught.message) == expected


def test_an_error_that_is_a_string_is_an_error():
    caught = failure(document({"id": 1, "error": "went away"}))
    assert isinstance(caught, RpcError)
    assert (caught.code, caught.message) == (None, "went away")


class Clock:
    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now


def dated(after, date=None):
    """Too many requests, by a server whose clock says `date`; without one it has none."""
    head = f"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nretry-after: {after}\r\n"
    return raw((head + (f"date: {date}\r\n" if date else "") + "\r\n").encode())


@pytest.mark.parametrize(
    ("behaviour", "after"),
    [
        (body(b"slow down", status=429), None),
        (body(b"", status=429, retry_after="3"), 3.0),
        (body(b"", status=429, retry_after="9" * 40), 60.0),
        (dated("Wed, 21 Oct 2026 07:28:07 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"), 7.0),
        (dated("Wed, 21 Oct 2026 07:28:07 GMT", "Wed, 21 Oct 2026 08:28:00 +0100"), 7.0),
        (dated("Wed, 21 Oct 2026 07:28:07 -0000", "Wed, 21 Oct 2026 07:28:00 GMT"), 7.0),
        (dated("Thu, 22 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"), 60.0),
        (dated("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:29:00 GMT"), 0.0),
        (dated("Fri, 31 Dec 9999 23:59:59 GMT", "yesterday"), 60.0),
        (dated("Fri, 31 Dec 9999 23:59:59 GMT"), 60.0),
        (dated("Sat, 01 Jan 2000 00:00:00 GMT"), 0.0),
        (dated("in a while"), None),
        (dated("99 Foo 2026 99:99:99 GMT"), None),
        (error(-32097, "Rate limit exceeded. Retry after 250 ms", status=429, id=None), 0.25),
        (error(-32097, "Network congested. Endpoint is globally rate limited."), None),
        (error(-32429, "max usage reached. Retry after 999999999ms"), 60.0),
    ],
)
def test_too_many_requests_is_told_apart_whatever_it_comes_as(behaviour, after):
    caught = failure(behaviour)
    assert isinstance(caught, RateLimitedError)
    assert caught.retry_after_s == after


@given(after=st.text("0123456789 ,:+-.GMTWedOctJan()", max_size=40))
def test_any_retry_after_is_a_wait_or_none(after):
    wait_s = retry_after_s("", {"retry-after": after, "date": after[::-1]})
    assert wait_s is None or 0 <= wait_s <= 60


def test_a_node_is_to_be_left_alone_once_it_has_no_room_or_gives_no_answer():
    clock = Clock()
    behaviours = (
        body(b"", status=429, retry_after="30"),
        body(b"", status=502),
        result("a lie is an answer"),
        error(-32602, "and so is a refusal"),
        result(8),
    )
    with client_of(*behaviours, clock=clock) as (fake, rpc, _):
        for least, most in [(30.0, 30.0), (0.5, 1.0), (0, 0), (0, 0)]:
            with pytest.raises(SolanaError):
                rpc.get_slot()
            assert least <= rpc.wait_s <= most
            clock.now += round(rpc.wait_s * 10**9)
        assert rpc.get_slot() == 8
        assert rpc.wait_s == 0
        fake.answers(body(b"", status=429))
        with pytest.raises(RateLimitedError):
            rpc.send_transaction(RAW)
        assert 0.25 <= rpc.wait_s <= 0.5
        # One that asks nevertheless is not refused.
        fake.answers(result(9))
        assert rpc.get_slot() == 9


def test_retries_leave_the_node_alone_for_as_long_as_it_is_to_be():
    with client_of(body(b"", status=502), raw(b""), result(8), retries=2, clock=Clock()) as (
        _,
        rpc,
        waits,
    ):
        assert rpc.get_slot() == 8
    assert waits[0] >= 0.25
    assert waits[1] >= 0.5


def test_a_call_ends_when_a_common_time_is_over_and_none_begins_after_it():
    def silent(handler, _):
        fake.released.wait()

    left_s = [0.05, 0.0]
    with client_of(silent, retries=3, clock=Clock()) as (fake, rpc, waits):
        with time_limit(lambda: left_s[0]):
            with pytest.raises(TransportError, match=r"no answer within 0\.05 s"):
                rpc.get_slot()
            left_s.pop(0)
            with pytest.raises(TransportError, match="no time is left"):
                rpc.get_slot()
            assert (len(fake.requests), waits) == (1, [])
        assert time_left_s() == float("inf")
        fake.answers(result(8))
        assert rpc.get_slot() == 8


def test_a_question_is_asked_again_after_a_wait_that_grows():
    with client_of(
        body(b"", status=502),
        raw(b""),
        error(-32005, "Node is behind by 42 slots"),
        result(8),
        retries=RetryPolicy(3, first_s=1.0, ceiling_s=64.0),
    ) as (fake, rpc, waits):
        assert rpc.get_slot() == 8
    assert len(fake.requests) == 4
    assert all(0 <= wait <= ceiling for wait, ceiling in zip(waits, (1, 2, 4), strict=True))


def test_an_answer_that_is_a_lie_is_asked_for_again():
    with client_of(result("8"), result(8), retries=1) as (_, rpc, waits):
        assert rpc.get_slot() == 8
    assert len(waits) == 1


def test_retries_end_with_the_last_error():
    with client_of(body(b"", status=502), retries=2) as (fake, rpc, _):
        with pytest.raises(TransportError, match="status 502"):
            rpc.get_slot()
    assert len(fake.requests) == 3


def test_what_the_node_means_is_not_asked_again():
    with client_of(error(-32602, "invalid"), retries=5) as (fake, rpc, _):
        with pytest.raises(RpcError):
            rpc.get_slot()
    assert len(fake.requests) == 1


def test_a_transaction_is_never_sent_again_by_itself():
    with client_of(body(b"", status=502), retries=5) as (fake, rpc, waits):
        with pytest.raises(TransportError):
            rpc.send_transaction(RAW)
    assert len(fake.requests) == 1
    assert not waits


def test_a_wait_that_the_node_asks_for_is_kept_or_handed_on():
    short, long = (body(b"", status=429, retry_after=after) for after in ("1", "30"))
    with client_of(short, long, result(8), retries=5) as (fake, rpc, waits):
        with pytest.raises(RateLimitedError) as caught:
            rpc.get_slot()
    assert caught.value.retry_after_s == 30.0
    assert len(fake.requests) == 2
    assert 1 <= waits[0] <= 1.1


# Where it may go, and what it keeps to itself.


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8899",
        "http://127.8.9.1",
        "http://localhost:8899/",
        "http://LOCALHOST",
        "https://[::1]:8899/x?y",
    ],
)
def test_this_machine_is_always_allowed(url):
    assert require_loopback(url, allow_mainnet=False).is_loopback


@pytest.mark.parametrize(
    "url",
    [
        "https://api.mainnet-beta.solana.com",
        "http://127.0.0.1.example.com",
        "http://0.0.0.0:8899",
        "http://10.0.0.1",
        "http://[::]:8899",
        "http://[::2]",
        "http://2130706433",
        "http://0x7f.1",
        "http://localhost.example.com",
        "http://localhost.",
    ],
)
def test_another_machine_needs_leave(url):
    with pytest.raises(EndpointRefusedError, match="allow_mainnet"):
        RpcClient(url)
    assert not require_loopback(url, allow_mainnet=True).is_loopback


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8899",
        "http://",
        "http:///path",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:x",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "http://127.0.0.1@example.com",
        "http://user:password@127.0.0.1",
        "http://example.com\\@127.0.0.1",
        "http://127.0.0.1/\r\nx: y",
        "http://127.0.0.1/ x",
        " http://127.0.0.1",
        "http://exämple.com",
        "http://127.0.0.1/\u017f",
        "http://127.0.0.1/\u212a",
        "http://127.0.0.1%00.example.com",
        "http://[::1",
        "http://[::1%25lo]:8899",
        None,
        b"http://127.0.0.1",
    ],
)
def test_what_is_not_plainly_an_endpoint_is_refused_without_being_repeated(url):
    with pytest.raises(EndpointRefusedError) as caught:
        RpcClient(url, allow_mainnet=True)
    assert "password" not in str(caught.value).replace("a password", "")


PIECES = ["http", "https", "ws", ":", "//", "/", "@", "127.0.0.1", "localhost", "[::1]", "[", "]"]
PIECES += ["example.com", "8899", ".", "?", "#", "\\", "%00", "%40", "\x00", " ", "é", "0", "::"]


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join) | st.text())
def test_any_text_is_an_address_of_this_machine_or_refused(text):
    for url in (text, f"http://{text}"):
        try:
            address = require_loopback(url, allow_mainnet=False)
        except EndpointRefusedError:
            continue
        host = address.host
        assert host == "localhost" or ipaddress.ip_address(host).is_loopback
        assert address.target().isascii()
        assert " " not in address.target()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(ConfigError, match="timeout_s"):
        RpcClient("http://127.0.0.1:8899", timeout_s=timeout)


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with client_of(result(8)) as (_, rpc, _):
        assert rpc.get_slot() == 8


KEYED = "k3y-of-the-provider"


def leaks(value: BaseException | str, secret: str) -> bool:
    """Whether a secret can be seen in an error, its chain, its attributes or its traceback."""
    if isinstance(value, str):
        return secret in value
    seen = [repr(value), str(value), repr(value.args), repr(vars(value))]
    seen += traceback.format_exception(value)
    seen += traceback.TracebackException.from_exception(value, capture_locals=False).format()
    return any(secret in text for text in seen)


@pytest.mark.parametrize(
    "url",
    [
        "{}/v2/" + KEYED,
        "{}/?api-key=" + KEYED,
        "{}/" + KEYED + "/x?a=1&k=" + KEYED,
    ],
)
def test_a_key_in_the_url_is_in_no_error_repr_or_log(url, caplog):
    caplog.set_level(logging.DEBUG)

    def echo(handler, request):
        send(handler, f"no such path: {request.target}".encode(), 404)

    def echo_error(handler, request):
        refusal = {
            "code": -1,
            "message": ("x" * 290) + request.target,
            "data": {request.target: [request.target]},
        }
        reply = {"id": request.call["id"], "error": refusal}
        send(handler, json.dumps(reply).encode())

    def echo_result(handler, request):
        reply = {"id": request.call["id"], "result": request.target}
        send(handler, json.dumps(reply).encode())

    with FakeServer(echo, echo_error, echo_result, raw(KEYED.encode())) as fake:
        with RpcClient(url.format(fake.url), retries=0) as rpc:
            for _ in range(4):
                with pytest.raises(SolanaError) as caught:
                    rpc.get_slot()
                assert not leaks(caught.value, KEYED)
                assert KEYED[:8] not in str(caught.value)
            assert all(KEYED in request.target for request in fake.requests)
            assert KEYED not in repr(rpc)
            assert KEYED not in repr(vars(rpc))
    assert KEYED not in caplog.text


def test_a_key_is_known_again_when_it_comes_back_decoded():
    def echo(handler, request):
        send(handler, f"no such key: {unquote(request.target)}".encode(), 403)

    with FakeServer(echo) as fake:
        with RpcClient(f"{fake.url}/?api-key=k3y%2Dof%2Dthe-provider", retries=0) as rpc:
            with pytest.raises(
                TransportError, match=r"status 403: no such key: /\?.*\[redacted"
            ) as caught:
                rpc.get_slot()
    assert KEYED not in str(caught.value)


def test_a_secret_shows_itself_to_nobody():
    secret = Secret("hush-hush", "auth")
    assert "hush" not in f"{secret} {secret!r}"
    assert secret.reveal() == "hush-hush"
    with pytest.raises(TypeError):
        secret.__reduce__()
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("value", ["", "two words", "line\r\nx: y", "ümlaut", None, 5])
def test_a_secret_that_a_header_cannot_hold_is_refused_without_being_shown(value):
    with pytest.raises(ConfigError) as caught:
        Secret(value, "auth")
    assert str(caught.value) == "auth: must be one or more visible ASCII characters"


def test_a_path_is_put_before_the_query():
    address = Address.parse("http://127.0.0.1:1/base/?k=v")
    assert address.target("/api/v1/bundles") == "/base/api/v1/bundles?k=v"
    assert address.target("/api", "a=b") == "/base/api?k=v&a=b"
    assert address.target() == "/base/?k=v"
    assert Address.parse("http://127.0.0.1").target() == "/"


# Against a real virtual machine.


def test_a_transaction_is_simulated_sent_and_found_on_a_local_cluster():
    with cluster_of() as (cluster, rpc):
        raw_transaction, to = moved(cluster, rpc)
        simulation = rpc.simulate_transaction(raw_transaction, sig_verify=True)
        assert simulation.err is None
        assert simulation.units_consumed is not None
        assert rpc.get_account_info(to) is None
        signature = rpc.send_transaction(raw_transaction)
        assert rpc.get_signature_statuses([signature]) == [None]
        cluster.tick()
        (status,) = rpc.get_signature_statuses([signature])
        assert status is not None
        assert (status.err, status.confirmation_status) == (None, "processed")
        cluster.tick(40)
        (status,) = rpc.get_signature_statuses([signature], search_history=True)
        assert status is not None
        assert status.confirmation_status == "finalized"
        account = rpc.get_account_info(to, "finalized")
        assert account is not None
        assert account.lamports == rpc.get_balance(to) == 2_000_000
        info = rpc.get_transaction(signature)
        assert info is not None
        assert (info.slot, info.err, info.fee) == (status.slot, None, 5000)
        assert rpc.get_slot("processed") == cluster.slot
        assert rpc.get_block_height("processed") == cluster.block_height
        assert rpc.get_genesis_hash() == rpc.get_genesis_hash()


def test_a_failed_preflight_brings_its_logs():
    with cluster_of() as (cluster, rpc):
        raw_transaction, _ = moved(cluster, rpc, lamports=2 * 10**9)
        with pytest.raises(RpcError) as caught:
            rpc.send_transaction(raw_transaction)
        assert caught.value.code == -32002
        assert caught.value.data["err"]
        assert caught.value.data["logs"]


@pytest.mark.parametrize("seed", range(5))
def test_a_question_is_answered_rightly_through_every_fault(seed):
    faults = (Fault.RESPONSE_LOST, Fault.RATE_LIMITED_NULL_ID, Fault.LYING)
    plan = FaultPlan(
        seed,
        rates=dict.fromkeys(faults, 0.2),
        scope={fault: {"getBlockHeight"} for fault in faults},
        lies=(Lie.OTHER_ID, Lie.TRUNCATED, Lie.HTML),  # those that can be seen
    )
    with cluster_of(plan, retries=RetryPolicy(50, first_s=0.01, ceiling_s=60.0)) as (cluster, rpc):
        for _ in range(20):
            height = rpc.get_block_height("processed")
            assert height == cluster.block_height
        assert {strike.fault for strike in cluster.strikes} == set(faults)
