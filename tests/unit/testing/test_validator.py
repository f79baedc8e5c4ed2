"""What a client of a local validator asks beyond sending: programs, tokens, blocks, the node."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("solders", reason="needs pip install -e '.[localnet]'")

from solders.account import Account
from solders.compute_budget import set_compute_unit_price
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from websockets.sync.client import connect

from tests.unit.testing.localnet_support import (
    MEMO,
    SOL,
    TOKEN,
    Client,
    Wallet,
    memo,
    mint_to,
    new_holder,
    new_mint,
    signed,
)
from tests.verify.market.extensions import EXTENSIONS, KEY
from tests.verify.market.wire import TOKEN_2022
from tests.verify.market.world import MarketWorld
from velox.testing import Fault, FaultPlan, LocalCluster
from velox.testing.encoding import encode_base58, zstd_frame
from velox.testing.market import MARKET_PROGRAM

RECEIVER = Pubkey.from_bytes(bytes([7]) * 32)
PROGRAM = Pubkey.from_bytes(bytes([8]) * 32)
MINT, HOLDER, OTHER = (Keypair.from_seed(bytes([each]) * 32) for each in (3, 4, 5))
PROCESSED = {"commitment": "processed"}
BASE64 = {"encoding": "base64"}


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(rate_per_s=None) as made:
        yield made


@pytest.fixture
def wallet(cluster: LocalCluster) -> Wallet:
    """A wallet with a mint of 2 decimals, and two token accounts with 150 atoms and 7."""
    made, client, mint = Wallet(cluster), Client(cluster), MINT.pubkey()
    client.send(signed(made, *new_mint(made, MINT, 2), signers=(MINT,)))
    cluster.tick()
    for holder, amount in ((HOLDER, 150), (OTHER, 7)):
        client.send(signed(made, *new_holder(made, holder, mint), signers=(holder,)))
        cluster.tick()
        client.send(made.sign(mint_to(made, mint, holder.pubkey(), amount)))
        cluster.tick()
    return made


def put(cluster: LocalCluster, seed: int, data: bytes, owner: Pubkey = PROGRAM) -> str:
    key = Pubkey.from_bytes(bytes([seed]) * 32)
    cluster.set_account(key, Account(SOL, data, owner))
    return str(key)


# Programs


def test_the_accounts_of_a_program_are_found_by_size_and_content(cluster: LocalCluster) -> None:
    client = Client(cluster)
    first = put(cluster, 21, b"abcdef")
    second = put(cluster, 22, b"abXdef")
    third = put(cluster, 23, b"abcdefgh")
    put(cluster, 24, b"abcdef", Pubkey.from_bytes(bytes([9]) * 32))

    def found(*filters: Any, **config: Any) -> set[str]:
        given = {**BASE64, "filters": list(filters), **config}
        return {
            each["pubkey"] for each in client.call("getProgramAccounts", str(PROGRAM), given).result
        }

    assert found() == {first, second, third}
    assert found({"dataSize": 6}) == {first, second}
    bytes_58 = {"memcmp": {"offset": 2, "bytes": encode_base58(b"cde")}}
    assert found(bytes_58) == {first, third}
    bytes_64 = base64.b64encode(b"cde").decode()
    assert found({"memcmp": {"offset": 2, "bytes": bytes_64, "encoding": "base64"}}) == {
        first,
        third,
    }
    assert found(bytes_58, {"dataSize": 8}) == {third}
    assert found({"memcmp": {"offset": 7, "bytes": encode_base58(b"hi")}}) == set()
    config = {**BASE64, "dataSlice": {"offset": 2, "length": 1}, "withContext": True}
    read = client.call("getProgramAccounts", str(PROGRAM), config)
    texts = {each["account"]["data"][0] for each in read.value}
    assert texts == {base64.b64encode(each).decode() for each in (b"c", b"X")}


@pytest.mark.parametrize(
    "config",
    [
        {"filters": {"dataSize": 5}},
        {"filters": [{}] * 5},
        {"filters": [{"color": "red"}]},
        {"filters": [{"dataSize": -1}]},
        {"filters": [{"memcmp": {"offset": 0}}]},
        {"filters": [{"memcmp": {"offset": 0, "bytes": "0OIl"}}]},
        {"filters": [{"memcmp": {"offset": 0, "bytes": [256]}}]},
        {"filters": [{"memcmp": {"offset": 0, "bytes": "1" * 129}}]},
        {"filters": [{"memcmp": {"offset": 0, "bytes": "1", "encoding": "morse"}}]},
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(cluster: LocalCluster, config: Any) -> None:
    assert Client(cluster).call("getProgramAccounts", str(PROGRAM), config).error["code"] == -32602


def test_a_program_is_loaded_from_its_bytes(cluster: LocalCluster) -> None:
    memo_program = cluster.account(MEMO)
    assert memo_program is not None
    with LocalCluster(programs={PROGRAM: bytes(memo_program.data)}) as other:
        account = other.account(PROGRAM)
        assert account is not None
        assert account.executable


@pytest.mark.parametrize("size", [0, 1, 300, (1 << 17) - 1, 1 << 17, (1 << 17) + 5])
def test_a_zstd_frame_holds_the_data_in_raw_blocks(size: int) -> None:
    data = bytes(each % 251 for each in range(size))
    frame = zstd_frame(data)
    assert frame[:5] == bytes.fromhex("28b52ffde0")
    assert int.from_bytes(frame[5:13], "little") == size
    at, read, last = 13, b"", False
    while not last:
        head = int.from_bytes(frame[at : at + 3], "little")
        last, kind, length = bool(head & 1), head >> 1 & 3, head >> 3
        assert (kind, length <= 1 << 17) == (0, True)
        read += frame[at + 3 : at + 3 + length]
        at += 3 + length
    assert (read, at) == (data, len(frame))


# Tokens


def test_token_balances_and_supply_are_told_in_atoms_and_as_a_number(
    cluster: LocalCluster, wallet: Wallet
) -> None:
    client, mint = Client(cluster), str(MINT.pubkey())
    balance = client.call("getTokenAccountBalance", str(HOLDER.pubkey())).value
    assert balance == {"amount": "150", "decimals": 2, "uiAmount": 1.5, "uiAmountString": "1.5"}
    assert client.call("getTokenSupply", mint).value["uiAmountString"] == "1.57"
    largest = client.call("getTokenLargestAccounts", mint).value
    assert [(each["address"], each["amount"]) for each in largest] == [
        (str(HOLDER.pubkey()), "150"),
        (str(OTHER.pubkey()), "7"),
    ]
    assert client.call("getTokenAccountBalance", mint).error["code"] == -32602
    assert client.call("getTokenSupply", str(HOLDER.pubkey())).error["code"] == -32602


@pytest.mark.parametrize("wanted", [{"mint": str(MINT.pubkey())}, {"programId": str(TOKEN)}])
def test_the_token_accounts_of_an_owner_are_found(
    cluster: LocalCluster, wallet: Wallet, wanted: dict[str, str]
) -> None:
    client, owner = Client(cluster), str(wallet.pubkey)
    config = {"encoding": "jsonParsed"}
    found = client.call("getTokenAccountsByOwner", owner, wanted, config).value
    infos = {each["pubkey"]: each["account"]["data"]["parsed"]["info"] for each in found}
    assert {key: each["tokenAmount"]["amount"] for key, each in infos.items()} == {
        str(HOLDER.pubkey()): "150",
        str(OTHER.pubkey()): "7",
    }
    assert all(each["owner"] == owner for each in infos.values())
    assert client.call("getTokenAccountsByOwner", str(RECEIVER), wanted).value == []
    assert client.call("getTokenAccountsByDelegate", owner, wanted).value == []


@pytest.mark.parametrize("wanted", [None, {}, {"mint": str(RECEIVER)}, {"programId": str(PROGRAM)}])
def test_token_accounts_of_nothing_are_refused(cluster: LocalCluster, wanted: Any) -> None:
    call = Client(cluster).call("getTokenAccountsByOwner", str(RECEIVER), wanted)
    assert call.error["code"] == -32602


def test_a_mint_is_parsed_and_an_unknown_account_is_base64(
    cluster: LocalCluster, wallet: Wallet
) -> None:
    client, config = Client(cluster), {"encoding": "jsonParsed"}
    parsed = client.call("getAccountInfo", str(MINT.pubkey()), config).value["data"]
    assert (parsed["program"], parsed["parsed"]["type"]) == ("spl-token", "mint")
    assert parsed["parsed"]["info"] == {
        "mintAuthority": str(wallet.pubkey),
        "supply": "157",
        "decimals": 2,
        "isInitialized": True,
        "freezeAuthority": None,
    }
    plain = client.call("getAccountInfo", put(cluster, 30, b"xy"), config).value["data"]
    assert plain == [base64.b64encode(b"xy").decode(), "base64"]


AUTHORITY = str(Pubkey.from_bytes(KEY))


@pytest.mark.parametrize(
    ("name", "of_mint", "of_account"),
    [
        ("none", None, None),
        (
            "transfer fee, the older one",
            {
                "extension": "transferFeeConfig",
                "state": {
                    "transferFeeConfigAuthority": AUTHORITY,
                    "withdrawWithheldAuthority": AUTHORITY,
                    "withheldAmount": 0,
                    "olderTransferFee": {
                        "epoch": 0,
                        "maximumFee": 5_000,
                        "transferFeeBasisPoints": 250,
                    },
                    "newerTransferFee": {
                        "epoch": 9,
                        "maximumFee": 1,
                        "transferFeeBasisPoints": 1,
                    },
                },
            },
            {"extension": "transferFeeAmount", "state": {"withheldAmount": 0}},
        ),
        (
            "close authority",
            {"extension": "mintCloseAuthority", "state": {"closeAuthority": AUTHORITY}},
            None,
        ),
        (
            "accounts are frozen",
            {"extension": "defaultAccountState", "state": {"accountState": "frozen"}},
            None,
        ),
        (
            "not transferable",
            {"extension": "nonTransferable"},
            {"extension": "nonTransferableAccount"},
        ),
        (
            "transfer hook",
            {"extension": "transferHook", "state": {"authority": AUTHORITY, "programId": None}},
            {"extension": "transferHookAccount", "state": {"transferring": False}},
        ),
        ("interest", {"extension": "unparseableExtension"}, None),
        ("unknown", {"extension": "unparseableExtension"}, None),
        ("cut off", "base64", None),
    ],
)
def test_extensions_of_mints_and_accounts_are_parsed(
    cluster: LocalCluster, name: str, of_mint: Any, of_account: Any
) -> None:
    world = MarketWorld(
        MARKET_PROGRAM.read_bytes(),
        traders=1,
        base_program=TOKEN_2022,
        extensions=(EXTENSIONS[name], (b"", b"")),
        deposits=0,
    )
    client, config = Client(cluster), {"encoding": "jsonParsed"}
    for key, expected in ((world.mints[0], of_mint), (world.wallets[0][0], of_account)):
        cluster.set_account(key, world.svm.get_account(key))
        data = client.call("getAccountInfo", str(key), config).value["data"]
        if expected == "base64":
            assert data[1] == "base64"
            continue
        assert data["program"] == "spl-token-2022"
        found = data["parsed"]["info"].get("extensions")
        assert (found or [None])[0] == expected


# Transactions and blocks


def test_the_transactions_of_an_account_are_listed_newest_first(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    names = []
    for lamports in (1, 2, 3):
        transaction = wallet.sign(wallet.pay(RECEIVER, lamports * SOL))
        names.append(client.send(transaction).result)
        client.send(wallet.memo(f"unique {lamports}"))
        cluster.tick()
    cluster.tick()

    def listed(**config: Any) -> list[str]:
        given = {"commitment": "confirmed", **config}
        found = client.call("getSignaturesForAddress", str(RECEIVER), given).result
        return [each["signature"] for each in found]

    newest = names[::-1]
    assert listed() == newest
    assert listed(limit=2) == newest[:2]
    assert listed(before=names[2]) == newest[1:]
    assert listed(until=names[0]) == newest[:2]
    assert listed(commitment="finalized") == []
    confirmed = {"commitment": "confirmed"}
    (first, *_) = client.call("getSignaturesForAddress", str(RECEIVER), confirmed).result
    assert (first["err"], first["confirmationStatus"]) == (None, "confirmed")
    for wrong in ({"limit": 0}, {"limit": 1001}, {"commitment": "processed"}):
        refused = client.call("getSignaturesForAddress", str(RECEIVER), wrong)
        assert refused.error["code"] == -32602


def test_the_lowest_price_of_a_compute_unit_is_told_by_block(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    for price in (9, 5):
        client.send(wallet.sign(set_compute_unit_price(price), wallet.pay(RECEIVER, SOL)))
    client.send(wallet.sign(set_compute_unit_price(2), memo("elsewhere")))
    cluster.tick()

    def fees(*keys: Pubkey) -> dict[int, int]:
        found = client.call("getRecentPrioritizationFees", [str(each) for each in keys]).result
        return {each["slot"]: each["prioritizationFee"] for each in found}

    assert fees(RECEIVER)[cluster.slot] == 5
    assert fees(RECEIVER)[cluster.slot - 1] == 0
    assert fees()[cluster.slot] == 2


def test_a_block_is_read_with_its_transactions(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    name = client.send(wallet.memo("in a block")).result
    cluster.tick()
    slot = cluster.slot
    config = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    assert client.call("getBlock", slot, config).error["code"] == -32004
    cluster.tick()
    block = client.call("getBlock", slot, config).result
    assert (block["blockHeight"], block["parentSlot"]) == (cluster.block_height - 1, slot - 1)
    (transaction,) = block["transactions"]
    assert transaction["transaction"]["signatures"] == [name]
    assert transaction["meta"]["err"] is None
    previous = client.call("getBlock", slot - 1, config).result
    assert previous["blockhash"] == block["previousBlockhash"]
    names = client.call("getBlock", slot, {**config, "transactionDetails": "signatures"}).result
    assert names["signatures"] == [name]
    bare = {**config, "transactionDetails": "none", "rewards": False}
    assert not {"transactions", "rewards"} & set(client.call("getBlock", slot, bare).result)
    keys = client.call("getBlock", slot, {**config, "transactionDetails": "accounts"}).result
    assert keys["transactions"][0]["transaction"]["accountKeys"][0]["signer"] is True
    refused = client.call("getBlock", slot, {"commitment": "confirmed"})
    assert refused.error["code"] == -32015
    assert client.call("getBlock", cluster.slot + 9, config).error["code"] == -32004
    assert client.call("getBlock", 1, config).error["code"] == -32001
    assert client.call("getBlockTime", slot).result == block["blockTime"]


def test_blocks_are_listed_without_the_slots_that_were_skipped(cluster: LocalCluster) -> None:
    client, slot = Client(cluster), cluster.slot
    cluster.tick(3)
    confirmed = {"commitment": "confirmed"}
    assert client.call("getBlocks", slot, confirmed).result == [slot, slot + 1, slot + 2]
    assert client.call("getBlocks", slot, slot + 1, confirmed).result == [slot, slot + 1]
    assert client.call("getBlocksWithLimit", slot, 2, confirmed).result == [slot, slot + 1]
    first = client.call("getFirstAvailableBlock").result
    assert client.call("minimumLedgerSlot").result == first < slot


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("getClusterNodes", [], lambda found: len(found) == 1),
        ("getEpochSchedule", [], lambda found: found["slotsPerEpoch"] == 432_000),
        ("getIdentity", [], lambda found: Pubkey.from_string(found["identity"])),
        ("getInflationGovernor", [], lambda found: found["initial"] == 0),
        ("getInflationRate", [], lambda found: found["total"] == 0),
        ("getInflationReward", [[str(RECEIVER)]], lambda found: found == [None]),
        ("getLeaderSchedule", [], lambda found: len(next(iter(found.values()))) == 432_000),
        ("getRecentPerformanceSamples", [1], lambda found: found[0]["numSlots"] > 0),
        ("getSlotLeader", [], Pubkey.from_string),
        ("getSlotLeaders", [1, 3], lambda found: len(found) == 3),
        ("getStakeMinimumDelegation", [], lambda found: found["value"] == 1),
        ("getVoteAccounts", [], lambda found: found["current"] == []),
        ("getBlockCommitment", [1], lambda found: found["totalStake"] == 0),
        ("getMaxRetransmitSlot", [], lambda found: found > 0),
        ("getMaxShredInsertSlot", [], lambda found: found > 0),
    ],
)
def test_a_node_tells_of_its_cluster_of_one(
    cluster: LocalCluster, method: str, params: list[Any], expected: Any
) -> None:
    assert expected(Client(cluster).call(method, *params).result)


def test_the_supply_is_that_of_all_accounts(cluster: LocalCluster, wallet: Wallet) -> None:
    client, keys = Client(cluster), [Pubkey.from_bytes(bytes([each]) * 32) for each in (7, 8)]
    before = client.call("getSupply").result["value"]
    client.send(wallet.sign(wallet.pay(keys[0], 5 * SOL)))
    cluster.tick()
    (*_, execution) = cluster.executions
    after = client.call("getSupply").result["value"]
    assert before["total"] - after["total"] == execution.fee
    assert (after["circulating"], after["nonCirculating"]) == (after["total"], 0)
    assert after["nonCirculatingAccounts"] == []
    cluster.fund(keys[1], 3 * SOL)
    assert client.call("getSupply").result["value"]["total"] - after["total"] == 3 * SOL
    largest = client.call("getLargestAccounts").result["value"]
    assert largest[0] == {"address": str(cluster.faucet.pubkey()), "lamports": 10**17}
    assert len(largest) <= 20
    lamports = [each["lamports"] for each in largest]
    assert lamports == sorted(lamports, reverse=True)
    held = {each["address"]: each["lamports"] for each in largest}
    assert (held[str(keys[0])], held[str(keys[1])]) == (5 * SOL, 3 * SOL)
    # Tokens are accounts, too, and what is closed is none.
    assert held[str(HOLDER.pubkey())] == held[str(OTHER.pubkey())]
    cluster.set_account(keys[1], None)
    assert client.call("getSupply").result["value"]["total"] == after["total"]
    none = client.call("getLargestAccounts", {"filter": "nonCirculating"}).result["value"]
    assert none == []
    assert client.call("getLargestAccounts", {"filter": "x"}).error["code"] == -32602


def test_skipped_slots_count_as_not_produced() -> None:
    with LocalCluster(faults=FaultPlan(calls={Fault.SKIPPED_SLOTS: {0}}, skip_slots=1)) as cluster:
        client, begin = Client(cluster), cluster.slot
        cluster.tick(2)
        skipped = cluster.slot - begin - 2
        assert skipped > 0
        wanted = {"range": {"firstSlot": begin + 1}, **PROCESSED}
        found = client.call("getBlockProduction", wanted).result["value"]
        assert found["range"] == {"firstSlot": begin + 1, "lastSlot": cluster.slot}
        identity = client.call("getIdentity").result["identity"]
        assert found["byIdentity"] == {identity: [2 + skipped, 2]}
        other = client.call("getBlockProduction", {"identity": str(RECEIVER)}).result["value"]
        assert other["byIdentity"] == {}
        for bad in (
            {"firstSlot": begin + 2, "lastSlot": begin + 1},
            {"firstSlot": 0},
            {"firstSlot": begin, "lastSlot": cluster.slot + 1},
            {"lastSlot": begin},
            7,
        ):
            refused = client.call("getBlockProduction", {"range": bad, **PROCESSED})
            assert refused.error["code"] == -32602, bad


@pytest.mark.parametrize("method", ["getNothing", "getStakeActivation", "voteSubscribe"])
def test_a_method_that_is_not_served_has_the_code_for_it(
    cluster: LocalCluster, method: str
) -> None:
    assert Client(cluster).call(method).error["code"] == -32601


def test_a_snapshot_that_does_not_exist_has_the_code_of_a_node(cluster: LocalCluster) -> None:
    assert Client(cluster).call("getHighestSnapshotSlot").error["code"] == -32008


# Subscriptions


class Ear:
    """A websocket, and the messages that came on it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def hear(self) -> Any:
        return json.loads(self._connection.recv(timeout=60))

    def ask(self, method: str, *params: Any) -> Any:
        call = {"jsonrpc": "2.0", "id": 3, "method": method, "params": list(params)}
        self._connection.send(json.dumps(call))
        return self.hear()

    def notify(self, method: str) -> None:
        self._connection.send(json.dumps({"jsonrpc": "2.0", "method": method}))


@pytest.fixture
def ear(cluster: LocalCluster) -> Iterator[Ear]:
    with connect(cluster.ws_url) as connection:
        yield Ear(connection)


def test_changes_of_a_programs_accounts_are_notified(
    cluster: LocalCluster, wallet: Wallet, ear: Ear
) -> None:
    client, holder = Client(cluster), str(HOLDER.pubkey())
    filters = [{"dataSize": 165}, {"memcmp": {"offset": 0, "bytes": str(MINT.pubkey())}}]
    config = {**PROCESSED, "encoding": "jsonParsed", "filters": filters}
    number = ear.ask("programSubscribe", str(TOKEN), config)["result"]
    client.send(wallet.sign(mint_to(wallet, MINT.pubkey(), HOLDER.pubkey(), 50)))
    cluster.tick()
    notice = ear.hear()
    assert notice["method"] == "programNotification"
    assert notice["params"]["subscription"] == number
    value = notice["params"]["result"]["value"]
    assert value["pubkey"] == holder
    assert value["account"]["data"]["parsed"]["info"]["tokenAmount"]["amount"] == "200"
    assert ear.ask("programUnsubscribe", number)["result"] is True
    client.send(wallet.sign(mint_to(wallet, MINT.pubkey(), HOLDER.pubkey(), 1)))
    cluster.tick()
    # The next message is this answer, not a notification.
    assert ear.ask("programUnsubscribe", number)["error"]["code"] == -32602


def test_blocks_are_told_as_they_are_confirmed(
    cluster: LocalCluster, wallet: Wallet, ear: Ear
) -> None:
    cluster.tick()  # the last block has no transactions
    client, confirmed = Client(cluster), {"commitment": "confirmed"}
    options = {**confirmed, "maxSupportedTransactionVersion": 0, "encoding": "json"}
    named = {"mentionsAccountOrProgram": str(RECEIVER)}
    every = ear.ask("blockSubscribe", "all", {**options, "showRewards": False})["result"]
    some = ear.ask("blockSubscribe", named, options)["result"]
    legacy = ear.ask("blockSubscribe", "all", confirmed)["result"]
    paid = client.send(wallet.sign(wallet.pay(RECEIVER, SOL))).result
    told = client.send(wallet.memo("elsewhere")).result
    cluster.tick()
    slot = cluster.slot
    # The block before is confirmed. Nothing in it names the account of one subscription.
    quiet = [ear.hear()["params"] for _ in range(2)]
    assert [each["subscription"] for each in quiet] == [every, legacy]
    assert quiet[0]["result"]["value"]["block"]["transactions"] == []
    cluster.tick()
    heard = {each["subscription"]: each["result"] for each in (ear.hear()["params"] for _ in "123")}
    assert {each["context"]["slot"] for each in heard.values()} == {slot}
    wanted = {**options, "rewards": False}
    whole = heard[every]["value"]
    assert whole == {
        "slot": slot,
        "err": None,
        "block": client.call("getBlock", slot, wanted).result,
    }
    names = [each["transaction"]["signatures"] for each in whole["block"]["transactions"]]
    assert names == [[paid], [told]]
    mine = heard[some]["value"]["block"]
    assert [each["transaction"]["signatures"] for each in mine["transactions"]] == [[paid]]
    assert mine["rewards"] == []
    assert heard[legacy]["value"] == {
        "slot": slot,
        "err": {"UnsupportedTransactionVersion": 0},
        "block": None,
    }
    assert ear.ask("blockUnsubscribe", every)["result"] is True


def test_what_becomes_of_a_slot_is_told(cluster: LocalCluster, wallet: Wallet, ear: Ear) -> None:
    number = ear.ask("slotsUpdatesSubscribe")["result"]
    Client(cluster).send(wallet.sign(wallet.pay(RECEIVER, SOL)))
    cluster.tick()
    heard = [ear.hear() for _ in range(6)]
    assert {each["method"] for each in heard} == {"slotsUpdatesNotification"}
    assert {each["params"]["subscription"] for each in heard} == {number}
    found = {each["params"]["result"]["type"]: each["params"]["result"] for each in heard}
    for kind in ("firstShredReceived", "createdBank", "completed", "frozen"):
        assert found[kind]["slot"] == cluster.slot
    assert found["createdBank"]["parent"] == cluster.slot - 1
    assert found["frozen"]["stats"] == {
        "numTransactionEntries": 1,
        "numSuccessfulTransactions": 1,
        "numFailedTransactions": 0,
        "maxTransactionsPerEntry": 1,
    }
    assert found["optimisticConfirmation"]["slot"] == cluster.slot - 1
    assert found["root"]["slot"] == cluster.slot - 32


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("blockSubscribe", [], -32602),
        ("blockSubscribe", ["some"], -32602),
        ("blockSubscribe", [{"mentions": [str(RECEIVER)]}], -32602),
        ("blockSubscribe", ["all", PROCESSED], -32602),
        ("blockSubscribe", ["all", {"encoding": "x"}], -32602),
        ("blockSubscribe", ["all", {"transactionDetails": "x"}], -32602),
        ("blockSubscribe", ["all", {"maxSupportedTransactionVersion": "0"}], -32602),
        ("blocksUpdatesSubscribe", [], -32601),
        ("voteSubscribe", [], -32601),
        ("Subscribe", [], -32601),
        ("programSubscribe", ["x"], -32602),
        ("programSubscribe", [str(TOKEN), {"filters": [{}]}], -32602),
        ("programSubscribe", [str(TOKEN), {"dataSlice": 5}], -32602),
        ("accountSubscribe", [str(RECEIVER), {"dataSlice": {"offset": -1}}], -32602),
    ],
)
def test_a_subscription_that_is_not_served_is_refused(
    cluster: LocalCluster, ear: Ear, method: str, params: list[Any], code: int
) -> None:
    assert ear.ask(method, *params)["error"]["code"] == code
    cluster.tick()
    assert ear.ask("slotSubscribe")["result"]


def test_a_notification_of_a_client_has_no_answer(ear: Ear) -> None:
    ear.notify("ping")
    assert ear.ask("slotSubscribe")["result"]
