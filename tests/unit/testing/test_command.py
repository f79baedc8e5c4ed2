"""``velox localnet``, as a command."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tomllib
from typing import Any

import pytest

pytest.importorskip("solders", reason="needs pip install -e '.[localnet]'")

from solders.pubkey import Pubkey

from tests.unit.testing.localnet_support import SOL, Client
from velox.cli import local_cluster as command
from velox.cli.screen import Screen
from velox.errors import ConfigError, LocalnetError, VeloxError
from velox.testing import LocalCluster
from velox.testing.market import MARKET_ADDRESS

SOMEONE = str(Pubkey.from_bytes(bytes([7]) * 32))


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return parser.parse_args(arguments)


def run(*arguments: str) -> int:
    given = options("--port", "0", "--duration", "0.05", "--slot-ms", "5", *arguments)
    return command.run(given, Screen(sys.stdout).say)


def test_it_says_where_it_serves_and_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seed", "3", "--no-market") == 0
    told = capsys.readouterr().out
    port = int(re.search(r"rpc +http://127\.0\.0\.1:(\d+)\n", told)[1])  # type: ignore[index]
    assert f"ws://127.0.0.1:{port + 1}\n" in told
    assert f"http://127.0.0.1:{port}/api/v1/\n" in told
    with LocalCluster(seed=3) as cluster:
        assert all(str(each) in told for each in (cluster.faucet.pubkey(), *cluster.tip_accounts))
    assert "0 transactions executed, 0 of them failed" in told
    assert "0 bundles accepted, 0 of them landed" in told


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        (["--duration", "0"], ConfigError, "duration = 0.0"),
        (["--duration", "nan"], ConfigError, "duration = nan: must be above 0, at most 1e9 sec"),
        (["--slot-ms", "0.5"], ConfigError, "slot-ms = 0.5"),
        (["--rate", "-1"], ConfigError, "rate = -1.0: must be 0 to 1e9"),
        (["--rate", "1e300"], ConfigError, r"rate = 1e\+300: must be 0 to 1e9"),
        (["--fund", f"{SOMEONE}=0.0000000001"], ConfigError, "must be a whole number of lamports"),
        (["--fund", f"{SOMEONE}=1e-999999999"], ConfigError, "must be a whole number of lamports"),
        (["--fund", f"{SOMEONE}=nan"], ConfigError, "fund = 'nan': must be a number of SOL"),
        (["--fault", "rain=0.1"], ConfigError, "fault = 'rain=0.1'.*dropped"),
        (["--fault", "dropped"], ConfigError, "fault = 'dropped'"),
        (["--fault", "dropped=2"], ConfigError, "'dropped=2': 2 is not a probability"),
        (["--program", "x=/p.so"], ConfigError, "program = 'x=/p.so': 'x' is not a public key"),
        (["--program", SOMEONE], ConfigError, "must be PUBKEY=VALUE"),
        (["--program", f"{SOMEONE}=/dev/zero"], LocalnetError, "/dev/zero: is not a regular file"),
        (["--program", f"{SOMEONE}={__file__}"], LocalnetError, "is not an ELF file"),
        (["--program", f"{'1' * 32}={__file__}"], LocalnetError, "is built into the virtual"),
        (["--trader", str(MARKET_ADDRESS)], LocalnetError, "is not a wallet"),
        (["--trader", "1" * 32], LocalnetError, "is not a wallet: NativeLoader"),
        (["--program", f"{SOMEONE}=/no/such.so"], LocalnetError, "/no/such.so: No such file"),
        (["--fund", f"{SOMEONE}=much"], ConfigError, "fund = 'much'"),
        (["--fund", f"{SOMEONE}=1e12"], ConfigError, "fund = '1e12'"),
        (["--fund", f"{SOMEONE}=inf"], ConfigError, "fund = 'inf'"),
        (["--port", "70000"], LocalnetError, "port = 70000"),
        (["--no-market", "--trader", SOMEONE], ConfigError, "trader = .*: needs a market"),
        (["--no-market", "--crowd", "5"], ConfigError, r"crowd = 5\.0: needs a market"),
        (["--crowd", "-1"], ConfigError, r"crowd = -1\.0: must be 0 to 10000"),
        (["--crowd", "nan"], ConfigError, "crowd = nan"),
        (["--trader", "x"], ConfigError, "trader = 'x': 'x' is not a public key"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    arguments: list[str], error: type[VeloxError], why: str
) -> None:
    with pytest.raises(error, match=why):
        run(*arguments)


def test_a_market_is_named_and_its_crowd_trades(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--trader", SOMEONE, "--crowd", "1000", "--duration", "0.2") == 0
    told = capsys.readouterr().out
    with LocalCluster(market=True) as cluster:
        spec = cluster.market.spec
    assert f"market        {spec.market}\n" in told
    assert f"base mint     {spec.base_mint}, 9 decimals\n" in told
    assert f"quote mint    {spec.quote_mint}, 6 decimals\n" in told
    # The table of a configuration is that of the market.
    table = tomllib.loads(re.search(r"\[\[market\]\]\n(?:    .*\n)+", told)[0])  # type: ignore[index]
    (market,) = table["market"]
    assert market.pop("order_type") == "limit"
    assert {name: str(getattr(spec, name)) for name in market} == {
        name: str(value) for name, value in market.items()
    }
    executed = int(re.search(r"(\d+) transactions? executed", told)[1])  # type: ignore[index]
    assert executed >= 3


def test_an_interrupt_ends_it_in_order() -> None:
    program = (
        "import argparse, sys\n"
        "from velox.cli.screen import Screen\n"
        "from velox.cli import local_cluster as command\n"
        "parser = argparse.ArgumentParser()\n"
        "command.add_options(parser)\n"
        "say = Screen(sys.stdout).say\n"
        "sys.exit(command.run(parser.parse_args(sys.argv[1:]), say))\n"
    )
    given = ["--port", "0", "--rate", "0", "--fault", "dropped=1", "--no-market"]
    given += ["--fund", f"{SOMEONE}=2.5"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *given], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        opening = [process.stdout.readline() for _ in range(13)]
        assert opening[-1] == "Ctrl-C stops it.\n"
        port = int(opening[0].rpartition(":")[2])
        client = Client(argparse.Namespace(port=port))  # type: ignore[arg-type]
        assert client.call("getBalance", SOMEONE).value == 2.5 * SOL
        assert client.call("requestAirdrop", SOMEONE, SOL).result
        os.kill(process.pid, signal.SIGINT)
        closing = process.stdout.read()
        assert process.wait() == 0
    assert "0 transactions executed" in closing
    assert "1 fault struck" in closing


def test_real_time_is_of_the_length_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    original = LocalCluster.__init__

    def spy(self: LocalCluster, **settings: Any) -> None:
        made.append(settings)
        original(self, **settings)

    monkeypatch.setattr(LocalCluster, "__init__", spy)
    assert run("--rate", "0", "--fault", "delayed=0.5") == 0
    assert (made[0]["slot_ns"], made[0]["rate_per_s"], made[0]["slots"]) == (
        5_000_000,
        None,
        "real",
    )
