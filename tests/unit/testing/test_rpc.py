"""The RPC node and the websocket of the local cluster, asked rightly and wrongly."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("solders", reason="needs pip install -e '.[localnet]'")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.unit.testing.localnet_support import (
    SOL,
    TOKEN,
    Client,
    Wallet,
    executed,
    memo,
    mint_to,
    new_holder,
    new_mint,
    signed,
    text_of,
)
from velox.testing import LocalCluster
from velox.testing.chain import Chain
from velox.testing.faults import FaultInjector
from velox.testing.rpc.service import RpcService
from velox.testing.rpc.subscriptions import KINDS
from velox.testing.server import websocket as websocket_module

ROOT = Path(__file__).parents[3]
RECEIVER = Pubkey.from_bytes(bytes([7]) * 32)
LOADER = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
PROCESSED = {"commitment": "processed"}
BASE64 = {"encoding": "base64"}


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalCluster]:
    """For tests that change nothing that others look at."""
    with LocalCluster(rate_per_s=None) as made:
        yield made


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(rate_per_s=None) as made:
        yield made


# Requests that are none


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 20_000, -32700),
        (b"17", -32600),
        (b"[]", -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"getSlot"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":17}', -32600),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"getSlot"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"getNothing"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"getSlot","params":{"commitment":"x"}}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getSlot","params":["x"]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getSlot","params":[{"commitment":"max"}]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getSlot","params":[{"minContextSlot":-1}]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":[]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":["0OIl"]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":[null]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getSignatureStatuses","params":["x"]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"getSignatureStatuses","params":[["x"]]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"sendTransaction","params":[]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"sendTransaction","params":["0OIl"]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"sendTransaction","params":[17]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"isBlockhashValid","params":["x"]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"isBlockhashValid","params":["\\ud800"]}', -32602),
        (b'{"jsonrpc":"2.0","id":true,"method":"getSlot"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"getFeeForMessage","params":["?"]}', -32602),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"getMinimumBalanceForRentExemption",'
            b'"params":[20000000]}',
            -32602,
        ),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_with_its_code(
    shared: LocalCluster, body: bytes, code: int
) -> None:
    answer = Client(shared).post(body)
    assert (answer.status, answer.error["code"]) == (200, code)
    assert answer.error["message"]
    assert answer.json["id"] == (1 if code in (-32601, -32602) else None)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    # Halves of surrogate pairs, too, which no UTF-8 text can hold.
    | st.text(st.characters(), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
ENGINE_METHODS = ["getBundleStatuses", "getInflightBundleStatuses", "getTipAccounts", "sendBundle"]
SERVED = sorted(RpcService(Chain(FaultInjector(None), 400_000_000, 0)).methods("/"))
METHODS = [*SERVED, *ENGINE_METHODS]
SETTINGS = [
    "accounts",
    "commitment",
    "dataSlice",
    "encodedTransactions",
    "encoding",
    "maxSupportedTransactionVersion",
    "minContextSlot",
    "skipPreflight",
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(METHODS),
    first=JSON | st.just(str(RECEIVER)) | st.just([str(RECEIVER)]),
    config=JSON | st.dictionaries(st.sampled_from(SETTINGS), JSON),
    path=st.sampled_from(["/", "/api/v1/bundles", "/api/v1/transactions"]),
)
def test_whatever_is_asked_is_answered(
    shared: LocalCluster, method: str, first: Any, config: Any, path: str
) -> None:
    answer = Client(shared).call(method, first, config, path=path)
    assert answer.status in (200, 400)
    assert answer.json["jsonrpc"] == "2.0"
    if "error" in answer.json:
        # Of what a client may ask, nothing is an internal error.
        assert -32700 <= answer.error["code"] != -32603


def test_the_documentation_lists_the_methods_that_are_served() -> None:
    page = (ROOT / "docs" / "reference" / "local-cluster.md").read_text(encoding="utf-8")
    section = page.partition("## Methods\n")[2].partition("\n## ")[0]
    rpc = section.partition("Accounts come as")[0]
    assert sorted(re.findall(r"`(\w+)`", rpc.partition("|---|---|\n")[2])) == SERVED
    assert set(re.findall(r"`(\w+)Subscribe`", section)) == set(KINDS)


def test_a_batch_is_answered_in_order(shared: LocalCluster) -> None:
    client = Client(shared)
    calls = [
        {"jsonrpc": "2.0", "id": i, "method": method}
        for i, method in enumerate(["getSlot", "getNothing", "getHealth"])
    ]
    answers = client.post(json.dumps(calls).encode()).json
    assert [each["id"] for each in answers] == [0, 1, 2]
    assert answers[1]["error"]["code"] == -32601
    assert answers[2]["result"] == "ok"
    too_many = client.post(json.dumps([calls[0]] * 101).encode())
    assert too_many.error["code"] == -32600


def test_http_that_cannot_be_served_is_refused_and_the_next_request_is_served(
    shared: LocalCluster,
) -> None:
    client = Client(shared)
    assert client.post(b"x" * (50 * 1024 + 1)).status == 413
    assert client.get("/nothing").status == 404
    assert client.get("/health").text == "ok"
    connection = http.client.HTTPConnection("127.0.0.1", shared.port)
    for length in ("-1", "many", "\u0661"):
        connection.putrequest("POST", "/")
        connection.putheader("Content-Length", length.encode())
        connection.endheaders()
        assert connection.getresponse().status == 400
        connection.close()
    for garbage in (b"\0\1\2\r\n\r\n", b"PUT / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-L"):
        with socket.create_connection(("127.0.0.1", shared.port)) as raw:
            raw.sendall(garbage)
    assert client.call("getHealth").result == "ok"


def test_a_connection_serves_many_requests(shared: LocalCluster) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared.port)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "getHealth"})
    local = set()
    for _ in range(20):
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        assert json.loads(connection.getresponse().read())["result"] == "ok"
        local.add(connection.sock.getsockname())
    connection.close()
    assert len(local) == 1


# Answers


def test_a_node_tells_of_itself(shared: LocalCluster) -> None:
    client = Client(shared)
    assert client.call("getHealth").result == "ok"
    assert client.call("getVersion").result["solana-core"]
    assert len(client.call("getGenesisHash").result) in (43, 44)
    epoch = client.call("getEpochInfo", PROCESSED).result
    assert epoch["absoluteSlot"] == epoch["epoch"] * 432_000 + epoch["slotIndex"]
    assert epoch["blockHeight"] == shared.block_height


def test_a_slot_that_has_not_come_is_waited_for_by_the_client(cluster: LocalCluster) -> None:
    client = Client(cluster)
    config = {**PROCESSED, "minContextSlot": cluster.slot + 1}
    refused = client.call("getBalance", str(RECEIVER), config)
    assert refused.error == {
        "code": -32016,
        "message": "Minimum context slot has not been reached",
        "data": {"contextSlot": cluster.slot},
    }
    cluster.tick()
    assert client.call("getBalance", str(RECEIVER), config).value == 0


def test_accounts_are_read_whole_or_in_part(cluster: LocalCluster) -> None:
    wallet, client, mint = Wallet(cluster), Client(cluster), Keypair.from_seed(bytes([3]) * 32)
    client.send(signed(wallet, *new_mint(wallet, mint, 6), signers=(mint,)))
    cluster.tick()
    account = cluster.account(mint.pubkey())
    assert account is not None
    data = bytes(account.data)
    name = str(mint.pubkey())
    read = client.call("getAccountInfo", name, BASE64).value
    assert base64.b64decode(read["data"][0]) == data
    assert (read["owner"], read["space"], read["lamports"]) == (str(TOKEN), 82, account.lamports)
    part = {**BASE64, "dataSlice": {"offset": 44, "length": 2}}
    read = client.call("getAccountInfo", name, part).value
    assert base64.b64decode(read["data"][0]) == data[44:46] == bytes([6, 1])
    both = client.call("getMultipleAccounts", [name, str(RECEIVER)]).value
    assert (both[0]["owner"], both[1]) == (str(TOKEN), None)
    program_data = str(Pubkey.find_program_address([bytes(TOKEN)], LOADER)[0])
    # It is too long for base58, which is what a node uses unless told otherwise.
    refused = client.call("getAccountInfo", program_data, {"encoding": "base58"})
    assert "should be less than 128 bytes" in refused.error["message"]


def test_a_preflight_tells_what_failed_and_where(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    refused = client.send(wallet.failing("first"))
    assert refused.error["code"] == -32002
    assert refused.error["message"] == (
        "Transaction simulation failed: Error processing Instruction 1: custom program error: 0x1"
    )
    data = refused.error["data"]
    assert data["err"] == {"InstructionError": [1, {"Custom": 1}]}
    assert "Program log: first" in data["logs"]
    assert data["unitsConsumed"] > 0
    forged = client.send(
        type(wallet.memo("a")).populate(wallet.memo("a").message, wallet.memo("b").signatures)
    )
    assert forged.error["code"] == -32003
    cluster.tick()
    assert cluster.executions == ()


def test_a_forged_transaction_without_preflight_is_dropped_without_a_word(
    cluster: LocalCluster,
) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    forged = type(wallet.memo("a")).populate(wallet.memo("a").message, wallet.memo("b").signatures)
    assert client.send(forged, skipPreflight=True).result == str(forged.signatures[0])
    cluster.tick()
    assert cluster.executions == ()


def test_a_simulation_needs_neither_signature_nor_blockhash(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    stale = wallet.blockhash()
    cluster.tick(151)
    message = wallet.sign(wallet.pay(RECEIVER, SOL), memo("dry"), blockhash=stale).message
    blank = type(wallet.memo("")).populate(message, [Signature.default()])
    settings = {
        **BASE64,
        "replaceRecentBlockhash": True,
        "accounts": {"encoding": "base64", "addresses": [str(RECEIVER), str(TOKEN)]},
    }
    value = client.call("simulateTransaction", text_of(blank), settings).value
    assert value["err"] is None
    assert "Program log: dry" in value["logs"]
    assert value["accounts"][0]["lamports"] == SOL
    assert value["accounts"][1]["executable"] is True
    assert value["replacementBlockhash"]["lastValidBlockHeight"] == cluster.block_height + 150
    assert cluster.account(RECEIVER) is None
    value = client.call("simulateTransaction", text_of(blank), BASE64).value
    assert value["err"] == "BlockhashNotFound"
    both = {**settings, "sigVerify": True}
    assert client.call("simulateTransaction", text_of(blank), both).error["code"] == -32602
    verified = {**BASE64, "sigVerify": True}
    assert client.call("simulateTransaction", text_of(blank), verified).error["code"] == -32003
    # In a simulation, accounts have no base58.
    for encoding in ("base58", "binary", "x", ["base64"]):
        accounts = {"encoding": encoding, "addresses": [str(TOKEN)]}
        asked = {**settings, "accounts": accounts}
        assert client.call("simulateTransaction", text_of(blank), asked).error["code"] == -32602
    # And signatures are still verified of what is sent.
    assert client.send(blank).error["code"] == -32003


def test_a_fee_is_known_before_it_is_paid(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.memo("cheap")
    # A message of version 0 is marked by its first byte, which solders' own bytes leave out.
    text = base64.b64encode(bytes([128]) + bytes(transaction.message)).decode()
    assert client.call("getFeeForMessage", text, PROCESSED).value == 5_000
    cluster.tick(151)
    assert client.call("getFeeForMessage", text, PROCESSED).value is None


def test_a_transaction_is_read_back_when_it_is_confirmed(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    mint, holder = Keypair.from_seed(bytes([3]) * 32), Keypair.from_seed(bytes([4]) * 32)
    client.send(signed(wallet, *new_mint(wallet, mint, 1), signers=(mint,)))
    cluster.tick()
    client.send(signed(wallet, *new_holder(wallet, holder, mint.pubkey()), signers=(holder,)))
    cluster.tick()
    transaction = wallet.sign(mint_to(wallet, mint.pubkey(), holder.pubkey(), 5), memo("minted"))
    client.send(transaction)
    cluster.tick()
    name, config = str(transaction.signatures[0]), {"maxSupportedTransactionVersion": 0}
    confirmed = {**config, "commitment": "confirmed"}
    assert client.call("getTransaction", name, confirmed).result is None
    assert client.call("getTransaction", name, {**config, **PROCESSED}).error["code"] == -32602
    cluster.tick()
    read = client.call("getTransaction", name, confirmed).result
    assert client.call("getTransaction", name, config).result is None
    assert read["slot"] == cluster.executions[2].slot
    assert read["meta"]["logMessages"] == list(cluster.executions[2].logs)
    assert read["meta"]["fee"] == 5_000
    keys = read["transaction"]["message"]["accountKeys"]
    assert keys == [str(each) for each in cluster.executions[2].keys]
    assert read["meta"]["preBalances"][0] - read["meta"]["postBalances"][0] == 5_000
    refused = client.call("getTransaction", name, {"commitment": "confirmed"})
    assert refused.error["code"] == -32015
    parsed = client.call("getTransaction", name, {**confirmed, "encoding": "jsonParsed"}).result
    keys = parsed["transaction"]["message"]["accountKeys"]
    assert [each["pubkey"] for each in keys] == [str(each) for each in cluster.executions[2].keys]
    assert keys[0] == {
        "pubkey": str(wallet.pubkey),
        "signer": True,
        "writable": True,
        "source": "transaction",
    }
    minting = parsed["transaction"]["message"]["instructions"][0]
    assert (minting["programId"], len(minting["accounts"])) == (str(TOKEN), 3)
    before, after = (
        parsed["meta"][f"{name}TokenBalances"][0]["uiTokenAmount"] for name in ("pre", "post")
    )
    assert (before["amount"], after["amount"], after["uiAmountString"]) == ("0", "5", "0.5")
    odd = {**confirmed, "encoding": "morse"}
    assert "unsupported encoding" in client.call("getTransaction", name, odd).error["message"]


# The websocket


class Ear:
    """A websocket that is told things."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def ask(self, method: str, *params: Any) -> Any:
        call = {"jsonrpc": "2.0", "id": 3, "method": method, "params": list(params)}
        self.connection.send(json.dumps(call))
        answer = self.hear()
        assert answer["id"] == 3
        return answer

    def hear(self) -> Any:
        return json.loads(self.connection.recv(timeout=60))


@pytest.fixture
def ear(cluster: LocalCluster) -> Iterator[Ear]:
    with connect(cluster.ws_url) as connection:
        yield Ear(connection)


def test_a_signature_is_told_once_at_its_commitment(cluster: LocalCluster, ear: Ear) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.memo("told")
    name = str(transaction.signatures[0])
    numbers = {
        ear.ask("signatureSubscribe", name, {"commitment": commitment})["result"]: commitment
        for commitment in ("finalized", "confirmed", "processed")
    }
    assert len(numbers) == 3
    client.send(transaction)
    told = []
    for ticks in (1, 1, 31):
        cluster.tick(ticks)
        notice = ear.hear()
        assert notice["method"] == "signatureNotification"
        assert notice["params"]["result"]["value"] == {"err": None}
        assert notice["params"]["result"]["context"]["slot"] == cluster.executions[0].slot
        told.append(numbers[notice["params"]["subscription"]])
    assert told == ["processed", "confirmed", "finalized"]
    # Each subscription is over with its notification.
    for number in numbers:
        refused = ear.ask("signatureUnsubscribe", number)
        assert refused["error"] == {"code": -32602, "message": "Invalid subscription id."}


def test_logs_are_of_all_or_of_those_that_mention_an_account(
    cluster: LocalCluster, ear: Ear
) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    everything = ear.ask("logsSubscribe", "all", PROCESSED)["result"]
    some = ear.ask("logsSubscribe", {"mentions": [str(RECEIVER)]}, PROCESSED)["result"]
    client.send(wallet.memo("not about them"))
    client.send(wallet.sign(wallet.pay(RECEIVER, SOL)))
    client.send(wallet.failing(), skipPreflight=True)
    cluster.tick()
    told = [ear.hear()["params"] for _ in range(4)]
    of_all = [each["result"]["value"] for each in told if each["subscription"] == everything]
    assert [each["signature"] for each in of_all] == executed(cluster)
    assert [each["err"] for each in of_all] == [each.err for each in cluster.executions]
    (mention,) = [each for each in told if each["subscription"] == some]
    assert mention["result"]["value"]["signature"] == executed(cluster)[1]


def test_an_account_is_told_as_each_block_leaves_it(cluster: LocalCluster, ear: Ear) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    config = {"commitment": "confirmed", "encoding": "base64"}
    number = ear.ask("accountSubscribe", str(RECEIVER), config)["result"]
    for _ in range(2):
        client.send(wallet.sign(wallet.pay(RECEIVER, SOL), memo(str(wallet.lamports))))
        client.send(wallet.sign(wallet.pay(RECEIVER, SOL)))
        cluster.tick()
    cluster.tick()
    notices = [ear.hear() for _ in range(2)]
    assert [each["params"]["subscription"] for each in notices] == [number] * 2
    lamports = [each["params"]["result"]["value"]["lamports"] for each in notices]
    assert lamports == [2 * SOL, 4 * SOL]
    assert ear.ask("accountUnsubscribe", number)["result"] is True
    client.send(wallet.sign(wallet.pay(RECEIVER, 3)))
    cluster.tick(2)
    # The next that is heard is this answer, not a notification.
    assert ear.ask("accountUnsubscribe", number)["error"]["code"] == -32602


def test_slots_and_roots_are_told_as_they_come(cluster: LocalCluster, ear: Ear) -> None:
    slots = ear.ask("slotSubscribe")["result"]
    cluster.tick()
    notice = ear.hear()["params"]
    assert notice == {
        "subscription": slots,
        "result": {"slot": cluster.slot, "parent": cluster.slot - 1, "root": cluster.slot - 32},
    }
    assert ear.ask("slotUnsubscribe", slots)["result"] is True
    roots = ear.ask("rootSubscribe")["result"]
    cluster.tick()
    assert ear.hear()["params"] == {"subscription": roots, "result": cluster.slot - 32}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nothingSubscribe", [], -32601),
        ("signatureSubscribe", [], -32602),
        ("signatureSubscribe", ["x"], -32602),
        ("signatureSubscribe", [str(Signature.default()), {"commitment": "max"}], -32602),
        ("accountSubscribe", [17], -32602),
        ("accountSubscribe", [str(RECEIVER), {"encoding": "morse"}], -32602),
        ("logsSubscribe", ["some"], -32602),
        ("logsSubscribe", [{"mentions": []}], -32602),
        ("slotUnsubscribe", [17], -32602),
        ("slotUnsubscribe", [[]], -32602),
    ],
)
def test_a_subscription_that_cannot_be_is_refused_and_the_next_is_not(
    ear: Ear, method: str, params: list[Any], code: int
) -> None:
    assert ear.ask(method, *params)["error"]["code"] == code
    assert ear.ask("slotSubscribe")["result"]


def test_a_message_that_is_no_request_is_answered(ear: Ear) -> None:
    for text, code in (("{", -32700), (b"\xff", -32700), ("17", -32600), ("{}", -32600)):
        ear.connection.send(text)
        assert ear.hear()["error"]["code"] == code


def test_a_client_that_does_not_read_is_cut_off_and_holds_nobody_up(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_module, "MAX_UNSENT", 1_500)
    wallet, client = Wallet(cluster), Client(cluster)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf.connect(("127.0.0.1", cluster.port + 1))
    everything = json.dumps(
        {"jsonrpc": "2.0", "id": 3, "method": "logsSubscribe", "params": ["all", PROCESSED]}
    )
    with connect(cluster.ws_url, sock=deaf, max_queue=1) as slow, connect(cluster.ws_url) as other:
        for _ in range(50):
            slow.send(everything)
        quick = Ear(other)
        quick.ask("logsSubscribe", "all", PROCESSED)
        # More than sockets and queues hold. The chain goes on, and a client that reads gets all of
        # it.
        for block in range(12):
            sent = [wallet.memo(f"{block} {i} " + "x" * 900) for i in range(20)]
            for each in sent:
                client.send(each, skipPreflight=True)
            cluster.tick()
            heard = [quick.hear()["params"]["result"]["value"]["signature"] for _ in sent]
            assert heard == [str(each.signatures[0]) for each in sent]
        with pytest.raises(ConnectionClosed):
            while True:
                slow.recv(timeout=60)


def test_closing_says_goodbye_to_those_who_listen(cluster: LocalCluster, ear: Ear) -> None:
    ear.ask("slotSubscribe")
    cluster.close()
    with pytest.raises(ConnectionClosed) as raised:
        ear.hear()
    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 1001
