"""What one run of the soak is: drawn from a seed and an index, and nothing else."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from .native import has_compiler

__all__ = ["Draw", "draw"]

# More than any run has, of the ids of one lane.
IDS_OF_A_LANE = 1 << 40
ON_CROSS = ("count", "reject", "uncross", "match")


@dataclass(frozen=True)
class Draw:
    """One run; `to_json` and `from_json` carry it to another process, and into a report.

    Attributes
    ----------
    seed, index
        Where it comes from.
    ingress : {"poisson", "replay", "push"}
    rate : float or "max"
        Of a poisson ingress: transactions a second. Of a replay: its speed.
    length : int
        Transactions of a replay's recording, or the most that are pushed at once.
    repeat : int
        Passes of a replay.
    markets : {"own", "same"}
        Whether each lane has a market of its own.
    output : {"discard", "capture", "pull"}
    disk_bytes : int
        How much of a capture the system accepts; 0 is all of it.
    fails_at : int
        Which call of the strategy fails; 0 is none.
    failure : int
        What that call returns: below 0, or more than its room.
    fan : int
        The strategy emits ``id % fan`` copies; 0 is one, -1 is no strategy at all.
    target : int
        Transactions delivered or pushed, whichever comes first, after which the run is stopped.
    interrupts : int
        How many times SIGINT ends it, in a process of its own; 0 is a stop.
    config : dict
        Of `velox.PipelineConfig.from_mapping`.
    """

    seed: int
    index: int
    ingress: str
    rate: Any
    length: int
    repeat: int
    markets: str
    output: str
    disk_bytes: int
    fails_at: int
    failure: int
    fan: int
    target: int
    interrupts: int
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def lanes(self) -> int:
        return int(self.config.get("lanes", 1))

    @property
    def full_rate(self) -> bool:
        """bool: Whether it carries more than a usual run may."""
        return self.target > 400_000

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Draw:
        return cls(**json.loads(text))


def draw(seed: int, index: int, *, full_rate: bool = False) -> Draw:
    """Draw run number `index`. With `full_rate`, one that carries as much as the machine can."""
    random = Random(f"{seed}/{index}")
    if full_rate:
        return _at_full_rate(random, seed, index, 200_000_000)
    if index % 4 == 1:
        return _at_full_rate(random, seed, index, 5_000_000)
    return _of_any_kind(random, seed, index)


def _about(random: Random, low: float, high: float) -> int:
    """A number whose logarithm is uniform: as many small ones as large ones."""
    return round(low * (high / low) ** random.random())


def _at_full_rate(random: Random, seed: int, index: int, most: int) -> Draw:
    return Draw(
        seed=seed,
        index=index,
        ingress=random.choice(["poisson", "poisson", "replay"]),
        rate="max",
        length=_about(random, 50_000, 500_000),
        repeat=1 << 30,
        markets="own",
        output="discard",
        disk_bytes=0,
        fails_at=0,
        failure=0,
        fan=-1,
        target=_about(random, 100_000, most),
        interrupts=0,
        config={
            "placement": random.choice(["auto", "shared", "shared", "shared", "paired"]),
            "idle": random.choice(["spin", "yield", "backoff"]),
            "transaction_capacity": 1 << random.randint(9, 14),
            "bundle_capacity": 1 << random.randint(7, 12),
            "batch": random.choice([64, 256, 1024]),
            "seal": random.choice(["timeout", "idle"]),
            "publish": random.choice(["record", "event"]),
        },
    )


def _of_any_kind(random: Random, seed: int, index: int) -> Draw:
    placement = random.choice(
        ["auto", "shared", "shared", "paired", "paired", "dedicated", "explicit", "invoker"]
    )
    invoker = placement == "invoker"
    # Starting a process costs more than most runs do.
    interrupts = 1 if index % 8 == 7 else 0
    lanes = random.choice([1, 1, 1, 1, 2, 3]) if placement != "explicit" else 1
    ingress = random.choice(["poisson", "replay"] if invoker else ["poisson", "replay", "push"])
    output = random.choice(
        ["discard", "capture"] if invoker else ["discard", "capture", "capture", "pull"]
    )
    rate: Any = random.choice(["max", "max", _about(random, 1e4, 3e6)])
    clock = random.choice(["auto", "auto", "auto", "kernel"])
    if invoker and ingress == "poisson" and rate == "max":
        clock = "kernel"
    if ingress == "replay" and rate != "max":
        rate = random.choice([0.5, 1.0, 100.0])
    writers = random.choice([lanes, lanes + 1]) if lanes > 1 else random.choice([1, 1, 1, 2])
    config: dict[str, Any] = {
        "placement": placement,
        "idle": random.choice(["spin", "yield", "backoff"]),
        "lanes": lanes,
        "writers": writers,
        "levels": 1 << random.randint(6, 12) if writers == 1 else 1 << random.randint(10, 12),
        "on_cross": "count" if writers > 1 else random.choice(ON_CROSS),
        "publish": "record" if writers > 1 else random.choice(["record", "event"]),
        "on_full": random.choice([None, None, "block", "drop"]),
        "transaction_capacity": 1 << random.randint(1, 14),
        "bundle_capacity": 1 << random.randint(1, 11),
        "bundle_timeout_ns": _about(random, 1, 1e9),
        "seal": random.choice(["timeout", "idle"]),
        "batch": _about(random, 1, 4096),
        "clock": clock,
    }
    if placement == "explicit":
        cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        stages = ("ingress", "orderbook", "bundle", "output")
        config["placement"] = {stage: random.choice(cpus) for stage in stages}
    fan = random.choice([-1, -1, 0, 3, 18]) if has_compiler() else -1
    if fan >= 0:
        # A strategy needs room for all that one call may emit.
        config["transaction_capacity"] = max(16, config["transaction_capacity"])
    target = _about(random, 1, 400_000) if random.random() < 0.9 else 0
    if invoker:
        target = min(target, 20_000)
    return Draw(
        seed=seed,
        index=index,
        ingress=ingress,
        rate=rate,
        length=_about(random, 1, 30_000),
        repeat=random.choice([1, 1, 2, 7, 1 << 30]),
        markets=random.choice(["own", "same"]) if ingress == "poisson" else "own",
        output=output,
        disk_bytes=_about(random, 1, 2e6) if output == "capture" and random.random() < 0.3 else 0,
        fails_at=_about(random, 1, 200_000) if fan >= 0 and random.random() < 0.5 else 0,
        failure=random.choice([-1, -77, -(2**31), 17, 2**31 - 1]),
        fan=fan,
        target=target,
        interrupts=interrupts,
        config=config,
    )
