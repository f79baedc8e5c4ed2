"""Methods about the node and its cluster of one validator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from solders.keypair import Keypair

from velox.testing.chain import Chain
from velox.testing.rpc.base import VERSION, Method, MethodGroup
from velox.testing.rpc.params import argument, config_of, list_of, pubkey_of, whole_number
from velox.testing.server.jsonrpc import INVALID_PARAMS, refuse
from velox.testing.svm import SLOTS_PER_EPOCH

__all__ = ["NodeMethods"]

MAX_SLOT_LEADERS = 5_000
NO_SNAPSHOT = -32008
SAMPLE_S = 60
MAX_SAMPLES = 720


class NodeMethods(MethodGroup):
    """The identity of the node, leaders, votes and inflation.

    The cluster has one validator, which leads every slot. It has no stake, no votes and no
    inflation.
    """

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        seed = bytes(chain.genesis_hash)
        self.identity = str(Keypair.from_seed(seed).pubkey())

    def methods(self) -> Mapping[str, Method]:
        return {
            "getBlockProduction": self.get_block_production,
            "getClusterNodes": self.get_cluster_nodes,
            "getEpochSchedule": self.get_epoch_schedule,
            "getGenesisHash": lambda params: str(self.chain.genesis_hash),
            "getHealth": lambda params: "ok",
            "getHighestSnapshotSlot": self.get_highest_snapshot_slot,
            "getIdentity": lambda params: {"identity": self.identity},
            "getInflationGovernor": self.get_inflation_governor,
            "getInflationRate": self.get_inflation_rate,
            "getInflationReward": self.get_inflation_reward,
            "getLeaderSchedule": self.get_leader_schedule,
            "getRecentPerformanceSamples": self.get_recent_performance_samples,
            "getSlotLeader": self.get_slot_leader,
            "getSlotLeaders": self.get_slot_leaders,
            "getStakeMinimumDelegation": lambda params: self.context(1),
            "getVersion": lambda params: VERSION,
            "getVoteAccounts": lambda params: {"current": [], "delinquent": []},
        }

    def get_block_production(self, params: list[Any]) -> Any:
        """Return the slots and blocks of this epoch's range, of those that the chain keeps."""
        config = config_of(params, 0)
        newest = self.block(config)
        epoch_begin = newest.slot // SLOTS_PER_EPOCH * SLOTS_PER_EPOCH
        first, last = max(epoch_begin, self.chain.blocks[0].slot), newest.slot
        wanted = config.get("range")
        if wanted is not None:
            wanted = config_of([wanted], 0)
            begin = whole_number(wanted.get("firstSlot"), "firstSlot")
            given = wanted.get("lastSlot")
            end = last if given is None else whole_number(given, "lastSlot")
            if end < begin:
                raise refuse(INVALID_PARAMS, f"lastSlot, {end}, cannot be less than firstSlot")
            if begin < first:
                raise refuse(INVALID_PARAMS, f"firstSlot, {begin}, is too small; min {first}")
            if end > last:
                raise refuse(INVALID_PARAMS, f"lastSlot, {end}, is too large; max {last}")
            first, last = begin, end
        produced = sum(first <= each.slot <= last for each in self.chain.blocks)
        identity = config.get("identity")
        asked = identity is None or str(pubkey_of(identity)) == self.identity
        return self.context(
            {
                "byIdentity": {self.identity: [last - first + 1, produced]} if asked else {},
                "range": {"firstSlot": first, "lastSlot": last},
            },
            newest.slot,
        )

    def get_cluster_nodes(self, params: list[Any]) -> Any:
        return [
            {
                "pubkey": self.identity,
                "gossip": None,
                "tpu": None,
                "tpuQuic": None,
                "rpc": None,
                "pubsub": None,
                "version": VERSION["solana-core"],
                "featureSet": VERSION["feature-set"],
                "shredVersion": 0,
            }
        ]

    def get_epoch_schedule(self, params: list[Any]) -> Any:
        return {
            "slotsPerEpoch": SLOTS_PER_EPOCH,
            "leaderScheduleSlotOffset": SLOTS_PER_EPOCH,
            "warmup": False,
            "firstNormalEpoch": 0,
            "firstNormalSlot": 0,
        }

    def get_highest_snapshot_slot(self, params: list[Any]) -> Any:
        raise refuse(NO_SNAPSHOT, "No snapshot")

    def get_inflation_governor(self, params: list[Any]) -> Any:
        names = ("initial", "terminal", "taper", "foundation", "foundationTerm")
        return dict.fromkeys(names, 0.0)

    def get_inflation_rate(self, params: list[Any]) -> Any:
        epoch = self.chain.head.slot // SLOTS_PER_EPOCH
        return {"epoch": epoch, "total": 0.0, "validator": 0.0, "foundation": 0.0}

    def get_inflation_reward(self, params: list[Any]) -> Any:
        return [None for each in list_of(argument(params, 0), MAX_SLOT_LEADERS) if pubkey_of(each)]

    def get_leader_schedule(self, params: list[Any]) -> Any:
        given = params[0] if params else None
        config = config_of(params, 0 if isinstance(given, dict) else 1)
        if given is not None and not isinstance(given, dict):
            epoch = whole_number(given, "slot") // SLOTS_PER_EPOCH
            if epoch > self.chain.head.slot // SLOTS_PER_EPOCH + 1:
                return None
        wanted = config.get("identity")
        if wanted is not None and str(pubkey_of(wanted)) != self.identity:
            return {}
        return {self.identity: list(range(SLOTS_PER_EPOCH))}

    def get_recent_performance_samples(self, params: list[Any]) -> Any:
        """Return one sample of the last minute: the chain keeps no older ones."""
        if params and whole_number(params[0], "limit") > MAX_SAMPLES:
            raise refuse(INVALID_PARAMS, f"Invalid limit; max {MAX_SAMPLES}")
        head = self.chain.head
        blocks = [each for each in self.chain.blocks if each.time_s > head.time_s - SAMPLE_S]
        count = sum(len(each.executions) for each in blocks)
        return [
            {
                "slot": head.slot,
                "numSlots": head.slot - blocks[0].parent_slot,
                "numTransactions": count,
                "numNonVoteTransactions": count,
                "samplePeriodSecs": SAMPLE_S,
            }
        ]

    def get_slot_leader(self, params: list[Any]) -> str:
        self.block(config_of(params, 0))
        return self.identity

    def get_slot_leaders(self, params: list[Any]) -> Any:
        whole_number(argument(params, 0), "start slot")
        count = whole_number(argument(params, 1), "limit")
        if not 1 <= count <= MAX_SLOT_LEADERS:
            raise refuse(INVALID_PARAMS, f"Invalid limit; max {MAX_SLOT_LEADERS}")
        return [self.identity] * count
