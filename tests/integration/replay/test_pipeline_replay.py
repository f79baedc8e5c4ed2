"""Real recordings through pipelines: books match the venues' data, and the ledger balances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import assert_adds_up
from velox import Pipeline, PipelineConfig, ReplayIngress
from velox.feeds import Recording, load

LEVELS = [1024, 8192, 65536]
PLACEMENTS = ["invoker", "shared", "paired"]
CHECKS = {"lobster": 999, "binance": 629, "okx": 290}


@pytest.fixture(scope="module")
def recordings(data: Path) -> dict[str, Recording]:
    return {
        "lobster": load(data / "lobster", "lobster", depth=30),
        "binance": load(data / "binance_usdm" / "btcusdt_20240808.gz", "binance"),
        "okx": load([data / "okx" / "OKX.ws.1.0", data / "okx" / "OKX.0.gz"], "okx"),
    }


def replayed(recording: Recording, levels: int, repeat: int = 1, **config: Any) -> Pipeline:
    pipeline = Pipeline(
        ReplayIngress(recording.transactions, repeat=repeat),
        books=[replace(each, levels=levels) for each in recording.instruments],
        checks=recording.checks,
        config=PipelineConfig(idle="yield", **config),
    )
    pipeline.run()
    return pipeline


def assert_is_exact(pipeline: Pipeline, recording: Recording, name: str, repeat: int = 1) -> None:
    report = pipeline.report()
    assert report.verification == (CHECKS[name] * repeat, 0, None)
    assert_adds_up(pipeline)
    ledger = report.ledger
    assert ledger.dropped == 0
    assert sum(ledger.rejected.values()) == 0
    assert ledger.delivered_transactions == len(recording) * repeat
    assert report.passed


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("levels", LEVELS)
def test_every_check_of_the_recording_holds(
    recordings: dict[str, Recording], name: str, placement: str, levels: int
) -> None:
    recording = recordings[name]
    assert_is_exact(replayed(recording, levels, placement=placement), recording, name)


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_holds_again_in_each_pass(recordings: dict[str, Recording], name: str) -> None:
    recording = recordings[name]
    pipeline = replayed(recording, 1024, repeat=3, placement="shared")
    report = pipeline.report()
    assert report.verification == (3 * CHECKS[name], 0, None)
    assert sum(report.ledger.rejected.values()) == report.ledger.dropped == 0
    assert_adds_up(pipeline)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("publish", ["record", "event"])
def test_every_check_holds_through_rings_of_eight(
    recordings: dict[str, Recording], name: str, publish: str
) -> None:
    recording = recordings[name]
    pipeline = replayed(
        recording,
        1024,
        placement="invoker",
        publish=publish,
        transaction_capacity=8,
        bundle_capacity=2,
        batch=3,
    )
    assert_is_exact(pipeline, recording, name)
