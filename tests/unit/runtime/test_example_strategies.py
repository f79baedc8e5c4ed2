"""The example strategies: the market maker is the same in Python, Cython and C++."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.support import Array, inside
from velox import (
    REPORT_RECORD_DTYPE,
    CaptureOutput,
    Kind,
    Limits,
    MarketLimits,
    Pipeline,
    PipelineConfig,
    PoissonIngress,
    ReplayIngress,
    Side,
    get_include,
    strategy,
)

pytest.importorskip("numba")

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PARAMETERS = {"half_spread": 2, "lots": 3, "skew": 1, "limit": 9}


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem.split(".")[0], path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def in_cpp(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], strategy.Strategy]:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    library = tmp_path_factory.mktemp("cpp") / "market_maker.so"
    subprocess.run(
        [
            *(compiler, "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"),
            *(f"-I{get_include()}", "-o", library, EXAMPLES / "cpp" / "market_maker.cpp"),
        ],
        check=True,
    )
    return lambda: strategy.load(f"{library}:quote", PARAMETERS)


@pytest.fixture(scope="module")
def in_cython(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], strategy.Strategy]:
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("cython")
    shutil.copy(EXAMPLES / "cython" / "market_maker.pyx", folder)
    text = (EXAMPLES / "cython" / "setup.py").read_text(encoding="utf-8")
    names = '["total.pyx", "imbalance.pyx", "source_and_sink.pyx", "market_maker.pyx"]'
    assert names in text
    (folder / "setup.py").write_text(text.replace(names, '["market_maker.pyx"]'), encoding="utf-8")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("market_maker*.so")
    made = module(built)
    return lambda: made.make(**PARAMETERS)


def in_python() -> strategy.Strategy:
    return strategy.load(f"{EXAMPLES / 'market_maker.py'}:quote", PARAMETERS)


class Venue:
    """Places each order that came out, and fills some; the caller steps the pipeline."""

    def __init__(self, path: Path, made: strategy.Strategy) -> None:
        example = module(EXAMPLES / "market_maker.py")
        limits = Limits(each=MarketLimits(max_position=12))
        self.pipeline = Pipeline(
            ReplayIngress(example.two_markets(1500), speed=1.0),
            CaptureOutput(path),
            strategy=made,
            risk=limits,
            config=PipelineConfig(placement="invoker", bundle_timeout_ns=1, seal="idle"),
        )
        self.table = self.pipeline.risk.orders if self.pipeline.risk else None
        self.told: set[int] = set()
        self.inventory = [0, 0]

    def run(self) -> None:
        while self.pipeline.step() >= 0:
            for order in self.working():
                self.answer(order)
        self.pipeline.stop()
        self.pipeline.settle()

    def working(self) -> list[Any]:
        assert self.table is not None
        return list(self.table.orders())

    def answer(self, order: Any) -> None:
        number = int(order["id"])
        if number not in self.told:
            self.told.add(number)
            self.tell(order, Kind.PLACED)
            if number % 7 == 0:
                self.tell(order, Kind.FILLED)
                sign = 1 if order["side"] == Side.BID else -1
                self.inventory[order["market"]] += sign * int(order["leaves"])
        elif order["state"] == strategy.ORDER_CANCELLING:
            self.tell(order, Kind.CANCELLED)

    def tell(self, order: Any, kind: Kind) -> None:
        report = np.zeros(1, REPORT_RECORD_DTYPE)
        for name in ("id", "price", "side", "market"):
            report[name] = order[name]
        report["kind"], report["size"], report["ahead"] = kind, order["leaves"], -1
        assert self.pipeline.reports.push(report) == 1


def sent(path: Path, made: strategy.Strategy) -> tuple[Array, Venue]:
    venue = Venue(path, made)
    venue.run()
    return inside(np.load(path)), venue


def test_the_market_maker_is_the_same_in_three_languages(
    tmp_path: Path,
    in_cpp: Callable[[], strategy.Strategy],
    in_cython: Callable[[], strategy.Strategy],
) -> None:
    expected, _ = sent(tmp_path / "python.npy", in_python())
    assert len(expected) > 100
    for name, make in {"cpp": in_cpp, "cython": in_cython}.items():
        found, _ = sent(tmp_path / f"{name}.npy", make())
        assert found.tobytes() == expected.tobytes(), name


def test_the_market_maker_replaces_its_quotes_by_id_and_keeps_its_limit(tmp_path: Path) -> None:
    found, venue = sent(tmp_path / "out.npy", in_python())
    added = found[found["kind"] == Kind.ADD]
    assert set(found["kind"].tolist()) == {Kind.ADD, Kind.CANCEL}
    assert set(found["market"].tolist()) == {0, 1}
    assert len(set(added["id"].tolist())) == len(added)
    assert set(found["id"][found["kind"] == Kind.CANCEL].tolist()) <= set(added["id"].tolist())
    orders = venue.pipeline.orders()
    assert orders is not None
    assert orders.balanced
    for market in range(2):
        account = orders.accounts[market]
        assert account.inventory == venue.inventory[market]
        assert abs(account.inventory) <= 12
    assert any(venue.inventory)


def test_the_taker_acts_at_its_timer_alone() -> None:
    take = strategy.load(f"{EXAMPLES / 'taker.py'}:take", {"ratio": 1})
    config = PipelineConfig(placement="invoker", timer_ns=1_000_000)
    pipeline = Pipeline(PoissonIngress(seed=1), strategy=take, config=config)
    report = pipeline.run(duration=0.2)
    assert report.feedback is not None
    assert report.feedback.timers == 200
    assert 0 < report.ledger.emitted <= 200
    assert take.state is not None
    assert take.state["next_id"][0] == report.ledger.emitted + 1


@pytest.mark.parametrize("name", ["market_maker.py", "taker.py"])
def test_the_program_of_an_example_runs(name: str) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "sent = 0 in flight" in done.stdout
