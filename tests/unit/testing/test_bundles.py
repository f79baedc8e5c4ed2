"""The block engine of the local cluster: bundles that it accepts and refuses, and atomicity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("solders", reason="needs pip install -e '.[localnet]'")

from hypothesis import given, settings
from hypothesis import strategies as st
from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, MessageV1
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from tests.unit.testing.localnet_support import (
    BUNDLES,
    SOL,
    TOKEN,
    Client,
    Wallet,
    balance,
    executed,
    memo,
    mint_to,
    new_holder,
    new_mint,
    signed,
    text_of,
)
from velox.testing import LocalCluster
from velox.testing.block_engine import WORDS
from velox.testing.encoding import decode_base58, encode_base58

RECEIVER = Pubkey.from_bytes(bytes([7]) * 32)
OWNERS = (Pubkey.default(), TOKEN)
BASE64 = {"encoding": "base64"}


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(rate_per_s=None) as made:
        yield made


def world(cluster: LocalCluster) -> dict[str, bytes]:
    """Every account that a program of these tests can own, byte for byte."""
    return {
        str(pubkey): bytes(account)
        for owner in OWNERS
        for pubkey, account in cluster.program_accounts(owner)
    }


# All


def test_a_bundle_lands_whole_in_order_and_in_one_block(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    sent = [wallet.tipping_memo("first")] + [wallet.memo(str(i)) for i in range(4)]
    name = client.send_bundle(*sent).result
    signatures = [str(each.signatures[0]) for each in sent]
    assert name == hashlib.sha256(",".join(signatures).encode()).hexdigest()
    assert client.inflight(name) == "Pending"
    assert client.call("getBundleStatuses", [name], path=BUNDLES).value == []
    cluster.tick()
    assert executed(cluster) == signatures
    assert {each.slot for each in cluster.executions} == {cluster.slot}
    assert {each.bundle_id for each in cluster.executions} == {name}
    assert client.inflight(name) == "Landed"
    assert client.call("getBundleStatuses", [name], path=BUNDLES).value == [
        {
            "bundle_id": name,
            "transactions": signatures,
            "slot": cluster.slot,
            "confirmation_status": "processed",
            "err": {"Ok": None},
        }
    ]
    assert balance(cluster, cluster.tip_accounts[0]) == 890_880 + 10_000


def test_the_same_bundle_sent_again_lands_once(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.tipping_memo("again")
    name = client.send_bundle(transaction).result
    assert client.send_bundle(transaction).result == name
    cluster.tick()
    refused = client.send_bundle(transaction)
    assert refused.status == 400
    assert refused.error["message"] == "bundle contains an already processed transaction"
    cluster.tick()
    assert len(cluster.executions) == 1


def test_a_transaction_in_two_bundles_lands_in_one(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    shared = wallet.tipping_memo("shared")
    one = client.send_bundle(shared, wallet.memo("one")).result
    other = client.send_bundle(shared, wallet.memo("other")).result
    cluster.tick()
    assert (client.inflight(one), client.inflight(other)) == ("Landed", "Failed")
    assert len(cluster.executions) == 2


# Or nothing


def test_a_failing_transaction_takes_its_bundle_back_byte_for_byte(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    mint, holder = Keypair.from_seed(bytes([3]) * 32), Keypair.from_seed(bytes([4]) * 32)
    client.send(wallet.sign(wallet.pay(RECEIVER, SOL)))
    client.send(signed(wallet, *new_mint(wallet, mint, 1), signers=(mint,)))
    cluster.tick()
    before = world(cluster)
    sent = (
        # Lamports move, accounts of a program come to be, one of them changes.
        wallet.sign(wallet.tip(), wallet.pay(RECEIVER, 5), wallet.pay(Pubkey.new_unique(), SOL)),
        signed(wallet, *new_holder(wallet, holder, mint.pubkey()), signers=(holder,)),
        wallet.sign(mint_to(wallet, mint.pubkey(), holder.pubkey(), 77)),
        wallet.failing(),
    )
    name = client.send_bundle(*sent).result
    cluster.tick()
    assert client.inflight(name) == "Failed"
    assert cluster.bundles[name].failure == "SimulationFailure"
    assert world(cluster) == before
    assert len(cluster.executions) == 2
    assert [client.status(each, searchTransactionHistory=True) for each in sent] == [None] * 4
    # Nothing of it was used up: the good part lands by itself.
    good = client.send_bundle(*sent[:3]).result
    cluster.tick()
    assert client.inflight(good) == "Landed"
    assert world(cluster) != before


def test_what_is_reached_through_a_lookup_table_is_taken_back_too(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    table = AddressLookupTableAccount(
        Pubkey.from_bytes(bytes([11]) * 32), [RECEIVER, cluster.tip_accounts[0]]
    )
    # A table of those addresses, which has never been closed nor extended since slot 0.
    meta = bytes([1, 0, 0, 0]) + bytes([255] * 8) + bytes(44)
    data = meta + b"".join(map(bytes, table.addresses))
    owner = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
    cluster.set_account(table.key, Account(SOL, data, owner))

    def through(*instructions: Instruction) -> VersionedTransaction:
        message = MessageV0.try_compile(
            wallet.pubkey, list(instructions), [table], wallet.blockhash()
        )
        assert message.address_table_lookups
        return VersionedTransaction(message, [wallet.keypair])

    before = world(cluster)
    paying = through(wallet.pay(RECEIVER, SOL))
    client.send_bundle(wallet.tipping_memo("tip"), paying, wallet.failing())
    cluster.tick()
    assert world(cluster) == before
    name = client.send_bundle(wallet.tipping_memo("tip"), paying).result
    cluster.tick()
    assert client.inflight(name) == "Landed"
    assert balance(cluster, RECEIVER) == SOL
    assert cluster.executions[1].keys[-1] == RECEIVER
    # A tip through a table is not seen as one.
    assert client.send_bundle(through(wallet.tip())).error["message"] == WORDS["no_tip"][1]


@settings(max_examples=25)
@given(
    transfers=st.lists(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2 * SOL)),
            max_size=4,
        ),
        min_size=1,
        max_size=4,
    ),
    position=st.integers(0, 4),
)
def test_any_bundle_that_fails_leaves_a_chain_like_one_that_never_saw_it(
    transfers: list[list[tuple[int, int, int]]], position: int
) -> None:
    with LocalCluster(rate_per_s=None) as cluster, LocalCluster(rate_per_s=None) as twin:
        mine, theirs = ([Wallet(each, i, 3 * SOL) for i in range(1, 5)] for each in (cluster, twin))
        client = Client(cluster)
        bundle = [
            mine[0].sign(
                mine[0].tip(),
                memo(str(i)),
                *(
                    # From the payer alone: the others do not sign.
                    mine[0].pay(mine[to].pubkey, lamports)
                    for _, to, lamports in group
                ),
            )
            for i, group in enumerate(transfers)
        ]
        bundle.insert(min(position, len(bundle)), mine[1].failing())
        before = world(cluster)
        assert client.send_bundle(*bundle[:5]).result
        cluster.tick()
        twin.tick()
        assert world(cluster) == before == world(twin)
        # And what comes after comes out alike.
        for chain, wallets in ((cluster, mine), (twin, theirs)):
            Client(chain).send(wallets[0].sign(wallets[0].pay(wallets[2].pubkey, SOL)))
            chain.tick()
        assert world(cluster) == world(twin)
        assert cluster.executions == twin.executions


def test_a_tip_below_the_least_loses_the_auction(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    before = world(cluster)
    name = client.send_bundle(wallet.sign(wallet.tip(999))).result
    cluster.tick()
    assert client.inflight(name) == "Failed"
    assert cluster.bundles[name].failure == "StateAuctionBidRejected"
    assert world(cluster) == before
    name = client.send_bundle(wallet.sign(wallet.tip(1_000))).result
    cluster.tick()
    assert client.inflight(name) == "Landed"


def test_a_bundle_whose_blockhash_expires_while_it_waits_is_dropped(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.tipping_memo("late")
    cluster.tick(150)
    name = client.send_bundle(transaction).result
    cluster.tick()
    assert cluster.executions == ()
    assert client.inflight(name) == "Failed"
    assert cluster.bundles[name].failure == "BlockhashNotFound"


# What is refused


def test_every_refusal_has_the_words_that_users_saw(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    stale = wallet.blockhash()
    cluster.tick(151)
    done = wallet.tipping_memo("done")
    client.send_bundle(done)
    cluster.tick()
    executions = cluster.executions
    tipping = wallet.tipping_memo("good")
    forged = VersionedTransaction.populate(
        wallet.tipping_memo("forged").message, wallet.memo("x").signatures
    )
    fronted = wallet.sign(
        Instruction(Pubkey.default(), wallet.pay(RECEIVER, 0).data, transfer_metas(wallet)),
    )
    with pytest.raises(ValueError, match="read") as no_transaction:
        VersionedTransaction.from_bytes(bytes(3))
    cases: list[tuple[str, list[Any], object]] = [
        ("expired", [wallet.tipping_memo("old", blockhash=stale)], ""),
        ("processed", [done], ""),
        ("no_tip", [wallet.memo("mean")], ""),
        ("too_long", [tipping, *(wallet.memo(str(i)) for i in range(5))], ""),
        ("duplicate", [tipping, tipping], ""),
        ("unsigned", [tipping, forged], "1"),
        ("unsigned", [forged], "0"),
        ("fronted", [tipping, fronted], ""),
        ("undecodable", [tipping, 17], "invalid type: a transaction must be a string"),
        (
            "undecodable",
            [tipping, "AAAA"],
            f"failed to deserialize VersionedTransaction: {no_transaction.value}",
        ),
        ("empty", [], ""),
    ]
    for name, bundle, what in cases:
        texts = [text_of(x) if isinstance(x, VersionedTransaction) else x for x in bundle]
        answer = client.call("sendBundle", texts, BASE64, path=BUNDLES)
        code, words, source = WORDS[name]
        assert answer.error == {"code": code, "message": words.format(what)}, name
        assert (answer.status, source in ("seen", "assumed")) == (400, True), name
    cluster.tick()
    assert cluster.executions == executions
    assert list(cluster.bundles) == [next(iter(cluster.bundles))]


def transfer_metas(wallet: Wallet) -> list[AccountMeta]:
    """Of a transfer to the receiver that must not be fronted."""
    front = Pubkey.from_string("jitodontfront111111111111111111111111111111")
    return [
        AccountMeta(wallet.pubkey, True, True),
        AccountMeta(RECEIVER, False, True),
        AccountMeta(front, False, False),
    ]


def test_a_transaction_that_must_not_be_fronted_comes_first(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    data = wallet.tip().data
    metas = transfer_metas(wallet)
    metas[1] = AccountMeta(cluster.tip_accounts[0], False, True)
    name = client.send_bundle(
        wallet.sign(Instruction(Pubkey.default(), data, metas)), wallet.memo("behind")
    ).result
    cluster.tick()
    assert client.inflight(name) == "Landed"


def test_only_packets_that_could_travel_are_taken(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    room = 1_232 - len(bytes(wallet.tipping_memo("")))
    # Past 127 letters the length of a memo takes a second byte.
    fits, too_long = (wallet.tipping_memo("x" * (room - 1 + more)) for more in (0, 1))
    assert (len(bytes(fits)), len(bytes(too_long))) == (1_232, 1_233)
    assert client.send(fits).result
    refused = client.send(too_long)
    assert refused.error["code"] == -32602
    assert "too large: 1233 bytes (max: 1232 bytes)" in refused.error["message"]
    assert client.send_bundle(too_long).error == refused.error
    cluster.tick()
    assert len(cluster.executions) == 1


def test_a_version_that_clusters_do_not_take_yet_is_refused(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    message = MessageV1.try_compile(wallet.pubkey, [wallet.tip()], wallet.blockhash())
    newer = VersionedTransaction(message, [wallet.keypair])
    for refused in (client.send(newer), client.send_bundle(newer)):
        assert refused.error["code"] == -32602
        assert "unsupported transaction version" in refused.error["message"]


def test_a_wrong_content_type_is_refused_by_both(cluster: LocalCluster) -> None:
    client = Client(cluster)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "getTipAccounts", "params": []})
    plain = {"Content-Type": "text/plain"}
    refused = client.post(body.encode(), "/api/v1/getTipAccounts", plain)
    assert (refused.status, refused.error["code"]) == (400, -32600)
    assert client.post(body.encode(), "/", plain).status == 415


# One by one


def test_a_transaction_by_itself_may_come_as_a_bundle_or_not(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    alone, plain, failing = wallet.tipping_memo("alone"), wallet.memo("plain"), wallet.failing()
    path = "/api/v1/transactions"
    answer = client.call("sendTransaction", text_of(alone), BASE64, path=f"{path}?bundleOnly=true")
    assert answer.result == str(alone.signatures[0])
    name = answer.headers["x-bundle-id"]
    assert client.inflight(name) == "Pending"
    refused = client.call("sendTransaction", text_of(plain), BASE64, path=f"{path}?bundleOnly=true")
    assert refused.error["message"] == WORDS["no_tip"][1]
    # Otherwise it lands like any other, without a preflight, whether or not it fails.
    for each in (plain, failing):
        answer = client.call("sendTransaction", text_of(each), BASE64, path=path)
        assert answer.result == str(each.signatures[0])
    cluster.tick()
    assert client.inflight(name) == "Landed"
    assert [each.err is None for each in cluster.executions] == [True, True, False]


def test_base58_is_what_a_bundle_without_an_encoding_is_in(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.tipping_memo("old style")
    text = encode_base58(bytes(transaction))
    assert decode_base58(text) == bytes(transaction)
    assert client.call("sendBundle", [text], path=BUNDLES).result
    cluster.tick()
    assert len(cluster.executions) == 1


@given(st.binary(max_size=70))
def test_base58_is_what_solders_makes_of_it(data: bytes) -> None:
    assert decode_base58(encode_base58(data)) == data
    padded = data[:32].ljust(32, b"\0")
    assert encode_base58(padded) == str(Pubkey.from_bytes(padded)) == str(Hash.from_bytes(padded))


# Limits


def test_a_second_request_within_a_second_is_turned_away_and_executes_nothing() -> None:
    with LocalCluster() as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        one, two = wallet.tipping_memo("one"), wallet.tipping_memo("two")
        assert client.send_bundle(one).result
        limited = client.send_bundle(two)
        assert limited.status == 429
        assert limited.json["id"] is None
        assert limited.error == {
            "code": -32097,
            "message": "Rate limit exceeded. Retry after 1000 ms",
        }
        cluster.advance(999_000_000)
        assert "Retry after 1 ms" in client.send_bundle(two).error["message"]
        cluster.advance(1_000_000)
        assert client.send_bundle(two).result
        cluster.tick()
        assert len(cluster.executions) == 2


def test_limits_are_of_each_region_and_each_key() -> None:
    with LocalCluster() as cluster:
        client = Client(cluster)
        for region in ("", "ny", "tokyo"):
            path = f"/{region}/api/v1/getTipAccounts".replace("//", "/")
            for key in ({}, {"x_jito_auth": "one"}, {"x_jito_auth": "two"}):
                assert client.call("getTipAccounts", path=path, **key).status == 200
                assert client.call("getTipAccounts", path=path, **key).status == 429
        # The RPC has none.
        assert all(client.call("getSlot").status == 200 for _ in range(5))


def test_regions_do_not_know_each_others_bundles(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    assert cluster.region_url("ny") == f"{cluster.url}/ny"
    name = client.send_bundle(wallet.tipping_memo("here"), region="ny").result
    cluster.tick()
    assert client.inflight(name, region="ny") == "Landed"
    assert client.inflight(name, region="tokyo") == "Invalid"
    assert client.call("getBundleStatuses", [name], path=f"/tokyo{BUNDLES}").value == []


def test_the_same_bytes_may_go_to_several_regions_and_land_once(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.tipping_memo("everywhere")
    names = {client.send_bundle(transaction, region=each).result for each in ("ny", "tokyo")}
    assert len(names) == 1
    cluster.tick()
    (name,) = names
    known = {each: client.inflight(name, region=each) for each in ("ny", "tokyo", "london")}
    assert known == {"ny": "Landed", "tokyo": "Landed", "london": "Invalid"}
    assert len(cluster.executions) == 1


def test_a_bundle_is_forgotten_after_five_minutes(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    name = client.send_bundle(wallet.tipping_memo("then")).result
    cluster.tick(750)
    assert client.inflight(name) == "Landed"
    cluster.tick()
    assert client.inflight(name) == "Invalid"


@pytest.mark.parametrize("ids", [[], ["x"] * 6, "x", None, [1]])
def test_statuses_are_of_one_to_five_bundles(cluster: LocalCluster, ids: Any) -> None:
    client = Client(cluster)
    for method in ("getBundleStatuses", "getInflightBundleStatuses"):
        assert client.call(method, ids, path=f"/api/v1/{method}").error["code"] == -32602


# Tips and simulation


def test_tip_accounts_are_eight_and_can_be_retired(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    path = "/api/v1/getTipAccounts"
    known = client.call("getTipAccounts", path=path).result
    assert known == [str(each) for each in cluster.tip_accounts]
    assert len(set(known)) == 8
    tip = wallet.tip()
    cluster.rotate_tip_accounts()
    assert set(known).isdisjoint(client.call("getTipAccounts", path=path).result)
    assert client.send_bundle(wallet.sign(tip)).error["message"] == WORDS["no_tip"][1]


def test_the_tip_floor_is_of_the_tips_that_landed(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    (floor,) = client.get("/api/v1/bundles/tip_floor").json
    assert floor["landed_tips_50th_percentile"] == 1e-6
    for lamports in range(1_000, 101_000, 1_000):
        client.send_bundle(wallet.sign(wallet.tip(lamports)))
    cluster.tick()
    (floor,) = client.get("/api/v1/bundles/tip_floor").json
    assert floor == {
        "time": floor["time"],
        "landed_tips_25th_percentile": 26_000 / SOL,
        "landed_tips_50th_percentile": 51_000 / SOL,
        "landed_tips_75th_percentile": 76_000 / SOL,
        "landed_tips_95th_percentile": 96_000 / SOL,
        "landed_tips_99th_percentile": 100_000 / SOL,
        "ema_landed_tips_50th_percentile": 51_000 / SOL,
    }


def test_a_simulated_bundle_sees_its_own_effects_and_leaves_none(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    poor = Wallet(cluster, 2, 0)
    before = world(cluster)
    bundle = [wallet.sign(wallet.pay(poor.pubkey, SOL)), poor.memo("rich now"), poor.failing()]
    texts = [text_of(each) for each in bundle]
    good = client.call("simulateBundle", {"encodedTransactions": texts[:2]}).value
    assert good["summary"] == "succeeded"
    assert "Program log: rich now" in good["transactionResults"][1]["logs"]
    bad = client.call("simulateBundle", {"encodedTransactions": texts}).value
    failed = bad["summary"]["failed"]
    assert failed["tx_signature"] == str(bundle[2].signatures[0])
    assert "custom program error: 0x1" in failed["error"]["TransactionFailure"][1]
    assert world(cluster) == before
    assert cluster.executions == ()
    reference = client.call("simulateBundle", {"encodedTransactions": texts[1:2]}).value
    assert reference["transactionResults"][0]["err"] == "AccountNotFound"
