"""The chain of the local cluster: slots, blockhashes, and which transactions land."""

from __future__ import annotations

import gc
import os
import random
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("solders", reason="needs pip install -e '.[localnet]'")

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import (
    AdvanceNonceAccountParams,
    advance_nonce_account,
    create_nonce_account,
)
from solders.transaction import Transaction, VersionedTransaction
from solders.transaction_metadata import TransactionMetadata

from tests.unit.testing.localnet_support import (
    MEMO,
    SOL,
    Client,
    Wallet,
    balance,
    executed,
    memo,
    text_of,
)
from velox.errors import LocalnetError
from velox.testing import LocalCluster
from velox.testing.svm import cut_off

RECEIVER = Pubkey.from_bytes(bytes([7]) * 32)
NO_PROGRAM = Pubkey.from_bytes(bytes([9]) * 32)


@pytest.fixture
def cluster() -> Any:
    with LocalCluster(rate_per_s=None) as made:
        yield made


def test_a_log_is_cut_off_where_the_virtual_machine_would_cut_it() -> None:
    draw = random.Random(5)
    payer = Keypair()
    for _ in range(20):
        texts = [b"a" * draw.choice([0, 1, 5, 11, 13, 40, 100]) for _ in range(50)]
        logs = []
        for limit in (10_000, None):
            machine = LiteSVM().with_blockhash_check(False).with_sigverify(False)
            machine = machine.with_log_bytes_limit(limit)
            machine.airdrop(payer.pubkey(), SOL)
            message = MessageV0.try_compile(
                payer.pubkey(), [Instruction(MEMO, each, []) for each in texts], [], Hash.default()
            )
            done = machine.send_transaction(VersionedTransaction(message, [payer]))
            assert isinstance(done, TransactionMetadata)
            logs.append(tuple(done.logs()))
        cut, whole = logs
        assert "Log truncated" in cut
        assert cut_off(whole) == cut


# Landing


def test_what_is_sent_lands_in_the_next_block_and_pays_its_fee(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.sign(wallet.pay(RECEIVER, SOL), memo("paid"))
    assert client.send(transaction).result == str(transaction.signatures[0])
    assert cluster.executions == ()
    cluster.tick()
    (execution,) = cluster.executions
    assert execution.signature == transaction.signatures[0]
    assert (execution.slot, execution.block_height) == (cluster.slot, cluster.block_height)
    assert execution.err is None
    assert execution.raw == bytes(transaction)
    assert "Program log: paid" in execution.logs
    assert balance(cluster, RECEIVER) == SOL
    assert wallet.lamports == 99 * SOL - 5_000


def test_a_transaction_that_fails_lands_pays_its_fee_and_changes_nothing_else(
    cluster: LocalCluster,
) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.sign(wallet.pay(RECEIVER, SOL), wallet.pay(RECEIVER, 10**18))
    assert client.send(transaction, skipPreflight=True).result
    cluster.tick()
    assert cluster.executions[0].err == {"InstructionError": [1, {"Custom": 1}]}
    assert wallet.lamports == 100 * SOL - 5_000
    assert cluster.account(RECEIVER) is None
    assert client.status(transaction)["status"] == {"Err": cluster.executions[0].err}


def test_transactions_land_in_the_order_in_which_they_came(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    sent = [wallet.memo(str(i)) for i in range(20)]
    for each in sent:
        client.send(each)
    cluster.tick()
    assert executed(cluster) == [str(each.signatures[0]) for each in sent]


def test_a_transaction_executes_once_however_often_it_is_sent(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.sign(wallet.pay(RECEIVER, SOL))
    for _ in range(3):
        assert client.send(transaction, skipPreflight=True).result
    cluster.tick()
    for _ in range(3):
        assert client.send(transaction, skipPreflight=True).result
        refused = client.send(transaction)
        assert refused.error["code"] == -32002
        assert "already been processed" in refused.error["message"]
        assert refused.error["data"]["err"] == "AlreadyProcessed"
        cluster.tick()
    assert len(cluster.executions) == 1
    assert balance(cluster, RECEIVER) == SOL


def test_a_payer_without_funds_cannot_land_anything(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster, lamports=0), Client(cluster)
    transaction = wallet.memo("poor")
    refused = client.send(transaction)
    assert refused.error["data"]["err"] == "AccountNotFound"
    assert client.send(transaction, skipPreflight=True).result
    cluster.tick()
    assert cluster.executions == ()
    assert client.status(transaction) is None
    # It was never executed, so it may still be.
    cluster.fund(wallet.pubkey, SOL)
    assert client.send(transaction).result
    cluster.tick()
    assert len(cluster.executions) == 1


def test_a_program_that_is_not_there_costs_nothing(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.sign(Instruction(NO_PROGRAM, b"", []))
    assert client.send(transaction, skipPreflight=True).result
    cluster.tick()
    assert cluster.executions == ()
    assert wallet.lamports == 100 * SOL


def test_the_priority_fee_is_charged_exactly(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    client.send(wallet.sign(set_compute_unit_limit(20_000), set_compute_unit_price(100_000)))
    cluster.tick()
    assert cluster.executions[0].fee == 5_000 + 2_000
    assert wallet.lamports == 100 * SOL - 7_000


def test_a_legacy_transaction_lands_as_well(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    legacy = Transaction.new_signed_with_payer(
        [memo("old")], wallet.pubkey, [wallet.keypair], wallet.blockhash()
    )
    client.send(VersionedTransaction.from_legacy(legacy))
    cluster.tick(2)
    assert len(cluster.executions) == 1
    read = client.call("getTransaction", str(legacy.signatures[0]), {"commitment": "confirmed"})
    assert "version" not in read.result


# Blockhashes


def test_a_blockhash_is_good_for_150_blocks_after_it_was_given(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    latest = client.call("getLatestBlockhash", {"commitment": "processed"}).value
    assert latest["lastValidBlockHeight"] == cluster.block_height + 150
    last, late = (
        wallet.memo(text, blockhash=Hash.from_string(latest["blockhash"]))
        for text in ("last", "late")
    )
    cluster.tick(149)
    assert client.send(last).result
    cluster.tick()
    assert cluster.block_height == latest["lastValidBlockHeight"]
    assert len(cluster.executions) == 1
    # Accepted while its blockhash is good, and too late for the next block.
    assert client.send(late).result
    cluster.tick()
    assert len(cluster.executions) == 1
    refused = client.send(late)
    assert refused.error["message"] == "Transaction simulation failed: Blockhash not found"
    assert refused.error["data"]["err"] == "BlockhashNotFound"


def test_only_the_blockhashes_of_the_ring_are_valid(cluster: LocalCluster) -> None:
    client = Client(cluster)
    newest = client.call("getLatestBlockhash", {"commitment": "processed"}).value["blockhash"]
    asked = {"commitment": "processed"}
    for _ in range(151):
        assert client.call("isBlockhashValid", newest, asked).value is True
        cluster.tick()
    assert client.call("isBlockhashValid", newest, asked).value is False
    assert client.call("isBlockhashValid", str(Hash.default()), asked).value is False


def test_a_blockhash_of_a_commitment_is_as_old_as_its_block(cluster: LocalCluster) -> None:
    client = Client(cluster)
    for commitment, age in (("processed", 0), ("confirmed", 1), ("finalized", 32)):
        config = {"commitment": commitment}
        latest = client.call("getLatestBlockhash", config).value
        assert latest["lastValidBlockHeight"] == cluster.block_height - age + 150
        assert client.call("getBlockHeight", config).result == cluster.block_height - age
        assert client.call("getSlot", config).result == cluster.slot - age
    assert client.call("getBlockHeight").result == cluster.block_height - 32


def test_a_durable_nonce_outlives_the_ring_and_is_used_once(cluster: LocalCluster) -> None:
    wallet, client, nonce = Wallet(cluster), Client(cluster), Keypair.from_seed(bytes([5]) * 32)
    create = create_nonce_account(wallet.pubkey, nonce.pubkey(), wallet.pubkey, 2_000_000)
    message = MessageV0.try_compile(wallet.pubkey, list(create), [], wallet.blockhash())
    client.send(VersionedTransaction(message, [wallet.keypair, nonce]))
    cluster.tick()
    value = nonce_of(cluster, nonce)
    one, other = (
        wallet.sign(advance(wallet, nonce), memo(each), blockhash=value) for each in ("a", "b")
    )
    cluster.tick(200)
    for each in (one, other):
        assert client.send(each, skipPreflight=True).result
    cluster.tick()
    assert executed(cluster)[1:] == [str(one.signatures[0])]
    assert client.send(other).error["data"]["err"] == "BlockhashNotFound"


def test_a_failure_advances_a_nonce_as_a_success_does(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    nonces = [Keypair.from_seed(bytes([seed]) * 32) for seed in (5, 6)]
    blockhash = wallet.blockhash()
    for nonce in nonces:
        # From the same blockhash, both begin with the same value.
        create = create_nonce_account(wallet.pubkey, nonce.pubkey(), wallet.pubkey, 2_000_000)
        message = MessageV0.try_compile(wallet.pubkey, list(create), [], blockhash)
        client.send(VersionedTransaction(message, [wallet.keypair, nonce]))
    cluster.tick()
    good, failed = (nonce_of(cluster, each) for each in nonces)
    assert good == failed
    for nonce, more in zip(nonces, (memo("good"), wallet.pay(RECEIVER, 10**18)), strict=True):
        client.send(wallet.sign(advance(wallet, nonce), more, blockhash=good), skipPreflight=True)
    cluster.tick()
    assert [each.err is None for each in cluster.executions[2:]] == [True, False]
    assert nonce_of(cluster, nonces[0]) == nonce_of(cluster, nonces[1]) != good


def nonce_of(cluster: LocalCluster, nonce: Keypair) -> Hash:
    account = cluster.account(nonce.pubkey())
    assert account is not None
    return Hash.from_bytes(bytes(account.data)[40:72])


def advance(wallet: Wallet, nonce: Keypair) -> Instruction:
    return advance_nonce_account(
        AdvanceNonceAccountParams(nonce_pubkey=nonce.pubkey(), authorized_pubkey=wallet.pubkey)
    )


# Statuses


def test_confirmations_grow_with_the_blocks_above(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.memo("deep")
    client.send(transaction)
    seen = []
    for ticks in (1, 1, 30, 1):
        cluster.tick(ticks)
        status = client.status(transaction)
        seen.append((status["confirmations"], status["confirmationStatus"]))
    assert seen == [(0, "processed"), (1, "confirmed"), (31, "confirmed"), (None, "finalized")]


def test_an_old_status_is_found_only_in_the_history(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.memo("old")
    client.send(transaction)
    cluster.tick(301)
    assert client.status(transaction) is not None
    cluster.tick()
    assert client.status(transaction) is None
    assert client.status(transaction, searchTransactionHistory=True) is not None


def test_a_signature_that_nobody_sent_has_no_status(cluster: LocalCluster) -> None:
    client = Client(cluster)
    value = client.call("getSignatureStatuses", [str(Signature.default())] * 256).value
    assert value == [None] * 256
    refused = client.call("getSignatureStatuses", [str(Signature.default())] * 257)
    assert refused.error == {"code": -32602, "message": "Too many inputs provided; max 256"}


# Time


def test_a_tick_is_one_slot_and_one_block_and_slot_length_of_time(cluster: LocalCluster) -> None:
    slot, height, now = cluster.slot, cluster.block_height, cluster.clock()
    cluster.tick(5)
    assert (cluster.slot - slot, cluster.block_height - height) == (5, 5)
    assert cluster.clock() - now == 5 * 400_000_000


def test_sleeping_makes_the_blocks_whose_time_comes(cluster: LocalCluster) -> None:
    slot = cluster.slot
    cluster.sleep(0.3)
    assert cluster.slot == slot
    cluster.sleep(0.1)
    assert cluster.slot == slot + 1
    cluster.advance(4_000_000_000)
    assert cluster.slot == slot + 11


def test_the_machine_itself_sees_the_slot_and_the_time_pass(cluster: LocalCluster) -> None:
    clock = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")

    def read() -> tuple[int, int]:
        account = cluster.account(clock)
        assert account is not None
        data = bytes(account.data)
        return int.from_bytes(data[:8], "little"), int.from_bytes(data[32:40], "little")

    slot, time_s = read()
    assert slot == cluster.slot
    cluster.tick(5)
    assert read() == (slot + 5, time_s + 2)


def test_real_slots_pass_by_themselves() -> None:
    with LocalCluster(slots="real", slot_ns=1_000_000) as cluster:
        client, height = Client(cluster), cluster.block_height
        config = {"commitment": "processed"}
        while client.call("getBlockHeight", config).result < height + 20:
            pass
        assert cluster.slot >= cluster.block_height - height
        with pytest.raises(LocalnetError, match="time passes by itself"):
            cluster.advance(1)


def test_the_same_seed_and_the_same_requests_make_the_same_chain() -> None:
    def history(seed: int) -> list[Any]:
        with LocalCluster(seed=seed, rate_per_s=None) as cluster:
            wallet, client = Wallet(cluster), Client(cluster)
            answers = []
            for i in range(5):
                answers.append(client.send(wallet.memo(str(i))).text)
                answers.append(client.send_bundle(wallet.tipping_memo(f"b{i}")).text)
                cluster.tick()
            answers += [client.call("getLatestBlockhash").text, client.call("getGenesisHash").text]
            return [answers, cluster.executions]

    first, again, other = history(3), history(3), history(4)
    assert first == again
    assert first[0] != other[0]


# What cannot be used


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"slots": "fast"}, "slots = 'fast'"),
        ({"slot_ns": 0}, "slot_ns = 0"),
        ({"slot_ns": 0.4}, "slot_ns = 0.4"),
        ({"port": 65_535}, "port = 65535"),
        ({"port": -1}, "port = -1"),
        ({"rate_per_s": 0}, "rate_per_s = 0"),
        ({"seed": "x"}, "seed = 'x': must be an integer"),
        ({"faults": 5}, "faults = 5: must be a FaultPlan, or None"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(setting: dict[str, Any], why: str) -> None:
    with pytest.raises(LocalnetError, match=why):
        LocalCluster(**setting)


def test_a_port_that_is_taken_is_named() -> None:
    with LocalCluster() as cluster:
        for port in (cluster.port, cluster.port - 1, cluster.port + 1):
            # Each of these needs one of the two that are served.
            with pytest.raises(LocalnetError, match=r"port \d+ of 127.0.0.1 is in use"):
                LocalCluster(port=port)


def test_a_program_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    absent, wrong = tmp_path / "absent.so", tmp_path / "wrong.so"
    wrong.write_bytes(b"no ELF file")
    for path in (absent, wrong):
        with pytest.raises(LocalnetError, match=f"program {NO_PROGRAM}: .*{path.name}"):
            LocalCluster(programs={NO_PROGRAM: path})


def test_a_program_is_loaded_from_its_file_and_runs(cluster: LocalCluster, tmp_path: Path) -> None:
    # The machine's own memo program, under another name.
    memo_program = cluster.account(MEMO)
    assert memo_program is not None
    path = tmp_path / "memo.so"
    path.write_bytes(bytes(memo_program.data))
    with LocalCluster(programs={NO_PROGRAM: path}) as other:
        wallet, client = Wallet(other), Client(other)
        client.send(wallet.sign(Instruction(NO_PROGRAM, b"by another name", [])))
        other.tick()
        (execution,) = other.executions
        assert execution.err is None
        assert execution.logs[0] == f"Program {NO_PROGRAM} invoke [1]"
        assert "Program log: by another name" in execution.logs


def test_more_lamports_than_there_can_be_are_refused(cluster: LocalCluster) -> None:
    for lamports in (-1, 2**63, 1.5):
        with pytest.raises(LocalnetError, match="lamports"):
            cluster.fund(RECEIVER, lamports)  # type: ignore[arg-type]
    cluster.fund(RECEIVER, 2**63 - 1)
    cluster.fund(RECEIVER, 2**63 - 1)
    with pytest.raises(LocalnetError, match="more than an account can hold"):
        cluster.fund(RECEIVER, 2)
    assert balance(cluster, RECEIVER) == 2**64 - 2


# Ends

# A bound, not an expectation: what hangs shall fail.
PATIENCE_S = 60


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts what Linux shows")
def test_closing_leaves_no_thread_no_socket_and_no_port_behind() -> None:
    with LocalCluster():
        pass  # what is loaded once, is loaded now
    gc.collect()
    threads, descriptors = threading.active_count(), _descriptors()
    for slots in ("manual", "real"):
        with LocalCluster(slots=slots) as cluster:  # type: ignore[arg-type]
            idle = [socket.create_connection(("127.0.0.1", cluster.port + i % 2)) for i in range(6)]
            Client(cluster).call("getSlot")
        for each in idle:
            each.close()
        cluster.close()
        with LocalCluster(port=cluster.port):
            pass
    assert threading.active_count() == threads
    gc.collect()
    assert _descriptors() == descriptors


def test_time_that_cannot_pass_is_refused() -> None:
    with LocalCluster() as cluster:
        slot, now = cluster.slot, cluster.clock()
        for pass_time in (cluster.tick, cluster.advance, cluster.sleep):
            for value in (-1, float("nan"), "soon"):
                with pytest.raises(LocalnetError, match="must be"):
                    pass_time(value)  # type: ignore[arg-type]
        assert (cluster.slot, cluster.clock()) == (slot, now)


def test_a_cluster_that_is_closed_is_not_entered_again() -> None:
    with LocalCluster() as cluster:
        pass
    with pytest.raises(LocalnetError, match="the cluster is closed"), cluster:
        pass


@pytest.mark.parametrize("slots", ["manual", "real"])
def test_a_cluster_that_is_forgotten_leaves_no_thread_and_no_port_behind(slots: Any) -> None:
    before = set(threading.enumerate())
    cluster = LocalCluster(slots=slots)
    Client(cluster).call("getSlot")
    port = cluster.port
    del cluster
    gc.collect()
    for left in set(threading.enumerate()) - before:
        left.join(PATIENCE_S)
        assert not left.is_alive()
    with LocalCluster(port=port):
        pass


def test_a_cluster_that_nobody_closed_does_not_hold_the_process_up() -> None:
    program = (
        "from velox.testing import LocalCluster\n"
        "cluster = LocalCluster(slots='real', slot_ns=1_000_000)\n"
        "raise SystemExit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=100, check=False)
    assert done.returncode == 7


def test_clusters_side_by_side_share_nothing() -> None:
    with LocalCluster(seed=1) as one, LocalCluster(seed=2) as other:
        assert {one.port, one.port + 1}.isdisjoint({other.port, other.port + 1})
        wallet, stranger = Wallet(one), Wallet(other)
        transaction = wallet.memo("mine")
        assert Client(one).send(transaction).result
        refused = Client(other).send(transaction)
        assert refused.error["data"]["err"] == "BlockhashNotFound"
        one.tick()
        assert (len(one.executions), len(other.executions)) == (1, 0)
        assert stranger.lamports == 100 * SOL


def test_many_clients_at_once_find_one_chain(cluster: LocalCluster) -> None:
    wallets = [Wallet(cluster, seed) for seed in range(1, 9)]
    sent: list[list[str]] = [[] for _ in wallets]

    def work(i: int) -> None:
        client = Client(cluster)
        for n in range(12):
            transaction = wallets[i].memo(f"{i} {n}")
            assert client.send(transaction).result
            sent[i].append(str(transaction.signatures[0]))
            cluster.tick()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(wallets))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    done = executed(cluster)
    assert sorted(done) == sorted(signature for each in sent for signature in each)
    for each in sent:
        positions = [done.index(signature) for signature in each]
        assert positions == sorted(positions)
    heights = [each.block_height for each in cluster.executions]
    assert heights == sorted(heights)


def test_it_is_not_loaded_before_it_is_asked_for() -> None:
    program = (
        "import sys, velox.testing, velox.cli.local_cluster\n"
        "assert not {'solders', 'websockets'} & set(sys.modules)\n"
        "sys.modules['solders'] = sys.modules['websockets'] = None\n"
        "velox.testing.LocalCluster\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100
    )
    assert (
        "ImportError: velox.testing needs solders, websockets: run pip install -e '.[localnet]'"
        in done.stderr
    )


def test_a_read_only_account_keeps_its_balance_in_the_record(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    readable = AccountMeta(RECEIVER, is_signer=False, is_writable=False)
    cluster.fund(RECEIVER, SOL)
    # System reads it; Memo would want its signature.
    look = Instruction(
        Pubkey.default(),
        wallet.pay(RECEIVER, 0).data,
        [
            AccountMeta(wallet.pubkey, is_signer=True, is_writable=True),
            AccountMeta(RECEIVER, is_signer=False, is_writable=True),
            readable,
        ],
    )
    client.send(wallet.sign(look))
    cluster.tick()
    (execution,) = cluster.executions
    assert execution.err is None
    assert dict(zip(execution.keys, execution.balances_after, strict=True))[RECEIVER] == SOL


def test_text_of_a_transaction_is_what_the_cluster_reads_back(cluster: LocalCluster) -> None:
    wallet, client = Wallet(cluster), Client(cluster)
    transaction = wallet.memo("round")
    client.send(transaction)
    cluster.tick(2)
    config = {"encoding": "base64", "commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    read = client.call("getTransaction", str(transaction.signatures[0]), config).result
    assert read["transaction"] == [text_of(transaction), "base64"]
    assert read["version"] == 0
    assert MEMO in cluster.executions[0].keys
