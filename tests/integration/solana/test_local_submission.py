"""``--submit localnet``: generated and captured orders on the market of a local cluster."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.solana.support import adds, bundles_of
from velox import cli
from velox.core.instrument import Instrument
from velox.testing import MarketPlan

ROOT = Path(__file__).parents[3]
RUN = ["run", "--duration", "0.5", "--rate", "3000", "--quiet", "--submit"]


def velox(*arguments: object) -> None:
    """Run a command, which must succeed."""
    assert cli.main([str(each) for each in arguments]) == 0


def chain_of(path: Path) -> Any:
    """Return the chain's part of a JSON document of `run` or of `submit`."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return document["chain"] if "chain" in document else document["ledger"]["chain"]


def test_the_command_of_the_readme_rests_fills_and_cancels_orders(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\.venv/bin/pip .*--submit localnet.*$", readme, re.MULTILINE)
    install, run = line.split(" && ")
    extra = re.fullmatch(r"\.venv/bin/pip install -q -e '\.\[(\w+)\]'", install)
    assert extra is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra[1] in project["optional-dependencies"]
    words = shlex.split(run)
    assert words[:3] == [".venv/bin/python", "-m", "velox"]
    path = tmp_path / "run.json"
    done = subprocess.run(
        [sys.executable, *words[1:], "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "synthetic flow, 1,000/s, Poisson" in done.stdout
    chain = chain_of(path)
    assert chain["balanced"]
    assert chain["unknown"] == 0
    market = chain["market"]
    assert market["balanced"]
    history = market["history"]
    assert history["rested"] > 0
    assert history["cancelled"] > 0
    assert history["crowd"]["fills"] > 0
    assert history["crowd"]["maker_fills"] > 0
    assert market["quote_volume"] > 0
    # The words of the report are those of the document.
    said = dict(re.findall(r"^ *(\S.*?)  +([\d,]+)$", done.stdout, re.MULTILINE))
    for label, value in (
        ("rested", history["rested"]),
        ("cancelled by us", history["cancelled"]),
        ("fills with the crowd", history["crowd"]["fills"]),
        ("our seat, base atoms", market["base_atoms"]),
        ("our seat, quote atoms", market["quote_atoms"]),
        ("vaults, quote atoms", market["quote_vault"]),
    ):
        assert said[label] == f"{value:,}"


def test_memos_are_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    velox(*RUN, "localnet:memo", "--json", path)
    chain = chain_of(path)
    assert chain["landed"] > 0
    assert "market" not in chain
    assert "slots, by memo" in capsys.readouterr().out


def test_a_capture_trades_on_a_market_at_its_own_prices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = adds(48)
    orders["price"] = 70_000 + 100 * (np.arange(48) % 16)
    orders["side"] = 1
    orders["size"] = 3
    np.save(tmp_path / "bundles.npy", bundles_of(orders))
    path = tmp_path / "submit.json"
    velox("submit", tmp_path / "bundles.npy", "--submit", "localnet", "--quiet", "--json", path)
    market = chain_of(path)["market"]
    assert market["history"]["placed"] == 48
    assert "slots, on its market" in capsys.readouterr().out
    # The crowd bids around the median price, so that it takes some of the offers.
    left = market["base_in_orders"]
    assert left + market["history"]["crowd"]["base_sold"] == 48 * 3 * MarketPlan().lot_atoms


@pytest.fixture
def refused(
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Run a command that is refused; return its message."""

    def attempt(*arguments: object) -> str:
        assert cli.main([str(each) for each in arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error.removeprefix("velox: error: ").rstrip("\n")

    return attempt


def test_an_unknown_kind_of_local_cluster_is_refused(refused: Callable[..., str]) -> None:
    why = "submit = 'localnet:mmo': must be localnet, localnet:memo, or a configuration's path"
    assert refused("run", "--submit", "localnet:mmo") == why
    for where in ("localnet", "localnet:memo"):
        assert "name a configuration" in refused("resume", where)
        assert "name a configuration" in refused("tips", where)


def test_several_markets_are_refused_by_the_local_market(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    orders = adds(32)
    orders["market"][::2] = 1
    orders["price"] = 10_000
    path = tmp_path / "flow.npy"
    np.save(path, orders)
    said = refused("replay", path, "--submit", "localnet")
    assert said.startswith("submit = 'localnet': the local cluster has one market, and there are 2")
    assert said.endswith("use localnet:memo")
    velox("replay", path, "--submit", "localnet:memo", "--quiet")


@pytest.mark.parametrize(
    ("instrument", "price", "expected"),
    [
        (Instrument(tick_size=100), 1_234_567, (1_234_500, 100, 0)),
        (Instrument(tick_size=5_000, market=7), 10, (5_000, 5_000, 7)),
        (Instrument(), None, (1_500_000, 1, 0)),
        (Instrument(tick_size=400_000), None, (1_200_000, 400_000, 0)),
    ],
)
def test_a_plan_is_one_for_an_instrument(
    instrument: Instrument, price: int | None, expected: tuple[int, int, int]
) -> None:
    plan = MarketPlan.of(instrument, price)
    assert (plan.price, plan.tick_size, plan.velox_market) == expected
