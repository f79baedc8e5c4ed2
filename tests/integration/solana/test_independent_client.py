"""An independent client, solana-py as it is published, works against the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

pytest.importorskip("solana", reason="solana-py is not installed")

from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.core import RPCException, TransactionExpiredBlockheightExceededError
from solana.rpc.models import TxOpts
from solana.rpc.websocket_api import SolanaWsClient
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.rpc.config import RpcBlockSubscribeFilterMentions
from solders.rpc.responses import (
    AccountNotification,
    BlockNotification,
    LogsNotification,
    SignatureNotification,
    SlotNotification,
    SlotUpdateNotification,
)

from tests.unit.testing.localnet_support import MEMO, SOL, Wallet
from velox.testing import LocalCluster

T = TypeVar("T")
RECEIVER = Pubkey.from_bytes(bytes([7]) * 32)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_it_sends_and_confirms_while_slots_pass_by_themselves() -> None:
    async def work() -> None:
        with LocalCluster(slots="real", slot_ns=5_000_000) as cluster:
            wallet = Wallet(cluster)
            async with AsyncClient(cluster.url) as client:
                assert await client.is_connected()
                latest = (await client.get_latest_blockhash(Confirmed)).value
                transaction = wallet.sign(wallet.pay(RECEIVER, SOL), blockhash=latest.blockhash)
                signature = (await client.send_transaction(transaction)).value
                assert signature == transaction.signatures[0]
                confirmed = await client.confirm_transaction(
                    signature,
                    Confirmed,
                    sleep_seconds=0.005,
                    last_valid_block_height=latest.last_valid_block_height,
                )
                assert confirmed.value[0] is not None
                assert confirmed.value[0].err is None
                assert (await client.get_balance(RECEIVER)).value == SOL
                assert [each.signature for each in cluster.executions] == [signature]

    run(work())


def test_it_confirms_at_each_commitment_as_blocks_come() -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            wallet = Wallet(cluster)
            async with AsyncClient(cluster.url) as client:
                signature = (await client.send_transaction(wallet.memo("hello"))).value
                for ticks, commitment in ((1, Processed), (1, Confirmed), (31, Finalized)):
                    cluster.tick(ticks)
                    found = await client.confirm_transaction(signature, commitment)
                    assert str(found.value[0].confirmation_status).endswith(commitment.title())

    run(work())


def test_it_hears_that_a_blockhash_has_expired() -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            wallet = Wallet(cluster)
            async with AsyncClient(cluster.url) as client:
                latest = (await client.get_latest_blockhash(Processed)).value
                transaction = wallet.memo("never sent", blockhash=latest.blockhash)
                cluster.tick(151)
                with pytest.raises(TransactionExpiredBlockheightExceededError):
                    await client.confirm_transaction(
                        transaction.signatures[0],
                        Processed,
                        last_valid_block_height=latest.last_valid_block_height,
                    )
                with pytest.raises(RPCException, match="Blockhash not found"):
                    await client.send_transaction(transaction)

    run(work())


def test_it_reads_a_failed_preflight() -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            wallet = Wallet(cluster)
            async with AsyncClient(cluster.url) as client:
                transaction = wallet.failing()
                with pytest.raises(RPCException) as raised:
                    await client.send_transaction(
                        transaction, TxOpts(preflight_commitment=Processed)
                    )
                failure = raised.value.args[0]
                assert "custom program error: 0x1" in failure.message
                assert any("insufficient lamports" in each for each in failure.data.logs)
                assert cluster.executions == ()

    run(work())


def test_it_simulates_and_reads_the_transaction_back() -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            wallet = Wallet(cluster)
            async with AsyncClient(cluster.url) as client:
                transaction = wallet.sign(wallet.pay(RECEIVER, SOL))
                simulated = (await client.simulate_transaction(transaction, sig_verify=True)).value
                assert simulated.err is None
                assert simulated.units_consumed == 150
                assert cluster.executions == ()
                signature = (await client.send_transaction(transaction)).value
                cluster.tick(33)
                found = await client.get_transaction(signature, max_supported_transaction_version=0)
                assert found.value is not None
                assert found.value.slot == cluster.executions[0].slot
                meta = found.value.transaction.meta
                assert meta is not None
                assert meta.fee == 5_000
                assert meta.post_balances[1] - meta.pre_balances[1] == SOL

    run(work())


@pytest.mark.parametrize("encoding", ["json", "base58", "base64"])
def test_it_reads_a_transaction_in_every_encoding(encoding: str) -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            wallet = Wallet(cluster)
            async with AsyncClient(cluster.url) as client:
                sent = wallet.sign(wallet.pay(RECEIVER, SOL))
                await client.send_transaction(sent)
                cluster.tick(33)
                found = await client.get_transaction(
                    sent.signatures[0], encoding, max_supported_transaction_version=0
                )
                read = found.value.transaction.transaction
                if encoding == "json":
                    assert read.signatures == sent.signatures
                    assert read.message.account_keys == sent.message.account_keys
                    assert read.message.recent_blockhash == sent.message.recent_blockhash
                else:
                    assert read == sent

    run(work())


def test_it_reads_what_a_node_says_of_itself_and_of_accounts() -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            wallet = Wallet(cluster)
            async with AsyncClient(cluster.url) as client:
                assert (await client.get_slot(Processed)).value == cluster.slot
                assert (await client.get_block_height(Processed)).value == cluster.block_height
                assert (await client.get_block_height()).value == cluster.block_height - 32
                epoch = (await client.get_epoch_info(Processed)).value
                assert epoch.absolute_slot == cluster.slot
                assert epoch.block_height == cluster.block_height
                assert (await client.get_version()).value.solana_core
                assert (await client.get_genesis_hash()).value
                assert (await client.get_minimum_balance_for_rent_exemption(0)).value == 890_880
                account = (await client.get_account_info(wallet.pubkey)).value
                assert account is not None
                assert account.lamports == wallet.lamports
                both = await client.get_multiple_accounts([wallet.pubkey, RECEIVER])
                assert [each and each.lamports for each in both.value] == [wallet.lamports, None]
                message = wallet.sign(wallet.pay(RECEIVER, SOL)).message
                assert (await client.get_fee_for_message(message)).value == 5_000

    run(work())


def test_it_takes_an_airdrop() -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            async with AsyncClient(cluster.url) as client:
                someone = Keypair().pubkey()
                first = (await client.request_airdrop(someone, SOL)).value
                second = (await client.request_airdrop(someone, SOL)).value
                assert first != second
                cluster.tick()
                assert (await client.get_balance(someone)).value == 2 * SOL

    run(work())


def test_it_is_notified_once_of_a_signature() -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            wallet = Wallet(cluster)
            transaction = wallet.memo("listen")
            async with AsyncClient(cluster.url) as client, SolanaWsClient(cluster.ws_url) as ws:
                await ws.signature_subscribe(
                    signature=transaction.signatures[0], commitment=Confirmed
                )
                await client.send_transaction(transaction)
                cluster.tick(1)
                slot = cluster.slot
                cluster.tick(1)
                notice = await asyncio.wait_for(ws.recv(), 30)
                assert isinstance(notice, SignatureNotification)
                assert notice.result.value.err is None
                assert notice.result.context.slot == slot

    run(work())


def test_it_is_notified_of_what_landed_before_it_asked() -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            wallet = Wallet(cluster)
            # Not UTF-8. (A program's own error would do, but solders 0.29 cannot read one from a
            # notification: it takes the 1 of {"Custom": 1} alone.)
            transaction = wallet.sign(Instruction(MEMO, b"\xff", []))
            async with AsyncClient(cluster.url) as client, SolanaWsClient(cluster.ws_url) as ws:
                await client.send_transaction(transaction, TxOpts(skip_preflight=True))
                cluster.tick(33)
                await ws.signature_subscribe(signature=transaction.signatures[0])
                notice = await asyncio.wait_for(ws.recv(), 30)
                assert isinstance(notice, SignatureNotification)
                assert "ProgramFailedToComplete" in str(notice.result.value.err)

    run(work())


def test_it_follows_blocks_and_the_updates_of_slots() -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            wallet = Wallet(cluster)
            async with AsyncClient(cluster.url) as client, SolanaWsClient(cluster.ws_url) as ws:
                await ws.block_subscribe(
                    filter_=RpcBlockSubscribeFilterMentions(RECEIVER),
                    commitment=Confirmed,
                    max_supported_transaction_version=0,
                )
                transaction = wallet.sign(wallet.pay(RECEIVER, SOL))
                await client.send_transaction(transaction)
                cluster.tick(2)
                notice = await asyncio.wait_for(ws.recv(), 30)
                assert isinstance(notice, BlockNotification)
                assert notice.result.value.slot == cluster.slot - 1
                block = notice.result.value.block
                assert block is not None
                assert len(block.transactions or []) == 1
                await ws.slots_updates_subscribe()
                cluster.tick()
                notices = [await asyncio.wait_for(ws.recv(), 30) for _ in range(6)]
                assert all(isinstance(each, SlotUpdateNotification) for each in notices)
                supply = (await client.get_supply()).value
                assert supply.total == supply.circulating > 10**17
                largest = (await client.get_largest_accounts()).value
                assert largest[0].address == cluster.faucet.pubkey()

    run(work())


def test_it_follows_slots_logs_and_an_account() -> None:
    async def work() -> None:
        with LocalCluster() as cluster:
            wallet = Wallet(cluster)
            async with AsyncClient(cluster.url) as client, SolanaWsClient(cluster.ws_url) as ws:
                slots = await ws.slot_subscribe()
                await ws.logs_subscribe(commitment=Processed)
                await ws.account_subscribe(pubkey=RECEIVER, commitment=Processed)
                await client.send_transaction(wallet.sign(wallet.pay(RECEIVER, SOL)))
                cluster.tick()
                notices = [await asyncio.wait_for(ws.recv(), 30) for _ in range(3)]
                kinds = {type(each): each for each in notices}
                assert kinds.keys() == {SlotNotification, LogsNotification, AccountNotification}
                assert kinds[SlotNotification].result.slot == cluster.slot
                logs = kinds[LogsNotification].result.value
                assert logs.signature == cluster.executions[0].signature
                assert kinds[AccountNotification].result.value.lamports == SOL
                await ws.unsubscribe(slots)
                cluster.tick()
                assert (await client.get_slot(Processed)).value == cluster.slot

    run(work())
