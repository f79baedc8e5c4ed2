"""The blockhash cache: age by block height, and checks of a node's answers."""

from __future__ import annotations

import pytest
from solders.hash import Hash

from tests.unit.solana.fake_server import body, result
from tests.unit.solana.rpc_support import CONTEXT, client_of, cluster_of
from velox.errors import ConfigError, TransportError
from velox.solana.net.rpc import RpcClient
from velox.solana.submit.blockhash import BlockhashCache


def blockhash(last_valid: int) -> dict:
    """An answer with a blockhash 150 blocks before `last_valid`."""
    value = {"blockhash": str(Hash(last_valid.to_bytes(32))), "lastValidBlockHeight": last_valid}
    return {"context": CONTEXT, "value": value}


def test_a_blockhash_is_kept_until_so_many_blocks_have_passed():
    with client_of(result(blockhash(1150)), result(blockhash(1171))) as (fake, rpc, _):
        cache = BlockhashCache(rpc, max_age_blocks=20)
        assert cache.get(1000).last_valid_block_height == 1150
        assert cache.get(1020).last_valid_block_height == 1150
        assert cache.get(999).last_valid_block_height == 1150  # a node that is behind
        assert len(fake.requests) == 1
        assert cache.get(1021).last_valid_block_height == 1171
        assert len(fake.requests) == 2


def test_a_cache_asks_for_the_block_height_that_it_is_not_given():
    with client_of(
        result(1000), result(blockhash(1150)), result(1020), result(1021), result(blockhash(1171))
    ) as (
        fake,
        rpc,
        _,
    ):
        cache = BlockhashCache(rpc, max_age_blocks=20)
        heights = [cache.get().last_valid_block_height for _ in range(3)]
        methods = [request.call["method"] for request in fake.requests]
    assert heights == [1150, 1150, 1171]
    height = "getBlockHeight"
    assert methods == [height, "getLatestBlockhash", height, height, "getLatestBlockhash"]


def test_a_node_that_is_behind_does_not_make_a_blockhash_older():
    answers = result(blockhash(1150)), result(blockhash(1100))
    with client_of(*answers) as (_, rpc, _):
        cache = BlockhashCache(rpc, max_age_blocks=20)
        assert cache.get(1000) == cache.get(1021)
        assert cache.get(1000).last_valid_block_height == 1150


def test_a_blockhash_that_cannot_be_renewed_is_an_error_and_stays():
    with client_of(result(blockhash(1150)), body(b"", status=500)) as (_, rpc, _):
        cache = BlockhashCache(rpc, max_age_blocks=20)
        cache.get(1000)
        with pytest.raises(TransportError):
            cache.get(1100)
        assert cache.get(1010).last_valid_block_height == 1150


@pytest.mark.parametrize("age", [-1, 150])
def test_an_age_at_which_a_blockhash_is_of_no_use_is_refused(age):
    with RpcClient("http://127.0.0.1:1") as rpc:
        with pytest.raises(ConfigError, match="max_age_blocks"):
            BlockhashCache(rpc, age)


@pytest.mark.parametrize("last_valid", [150 + 1000 + 151, 150 + 1000 - 32, 0, 2**64 - 1])
def test_a_blockhash_that_cannot_be_of_this_height_is_refused_and_not_kept(last_valid):
    with client_of(result(blockhash(last_valid)), result(blockhash(1150))) as (_, rpc, _):
        cache = BlockhashCache(rpc)
        with pytest.raises(TransportError, match=f"lastValidBlockHeight {last_valid} at block"):
            cache.get(1000)
        assert cache.get(1000).last_valid_block_height == 1150


def test_a_cache_follows_the_block_height_of_a_local_cluster():
    with cluster_of() as (cluster, rpc):
        cache = BlockhashCache(rpc, max_age_blocks=20)
        first = cache.get()
        cluster.tick(15)
        assert cache.get() == first
        cluster.tick(10)
        assert cache.get().last_valid_block_height == first.last_valid_block_height + 25
