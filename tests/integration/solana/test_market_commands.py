"""The commands for a market: show it, claim a seat, deposit, withdraw, cancel all orders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solders.account import Account
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.token.state import TokenAccount, TokenAccountState

from tests.unit.solana.orders.test_queue import ADD, records
from velox.cli.main import main
from velox.errors import ConfigError
from velox.solana.assembly import PUBLIC_CLUSTERS, require_local, require_local_genesis
from velox.solana.config import ChainConfig, ClusterConfig, SignerConfig
from velox.solana.tx.instructions import TOKEN_PROGRAM, associated_token_account
from velox.solana.tx.signer import KeypairSigner
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.testing import LocalCluster

from .markets import PROGRAMS, TICK, Trader, configured, market_of, trader_key
from .support import bundles_of

MIDDLE = 15_000


def give(cluster: LocalCluster, mint: Pubkey, owner: Pubkey, atoms: int) -> None:
    """Put tokens into a wallet."""
    account = TokenAccount(
        mint=mint,
        owner=owner,
        amount=atoms,
        delegate=None,
        state=TokenAccountState.Initialized,
        is_native=None,
        delegated_amount=0,
        close_authority=None,
    )
    key = associated_token_account(owner, mint)
    cluster.set_account(key, Account(10**9, bytes(account), TOKEN_PROGRAM))


@PROGRAMS
def test_a_new_trader_comes_to_a_market_and_leaves_it_again(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with market_of(program, slots="real", slot_ns=10_000_000) as cluster:
        path, keypair = configured(cluster, tmp_path)
        config, trader, spec = str(path), keypair.pubkey(), cluster.market.spec
        cluster.fund(trader, 10**10)
        give(cluster, spec.base_mint, trader, 7 * 10**9)
        give(cluster, spec.quote_mint, trader, 900 * 10**6)

        def run(*arguments: str) -> tuple[int, str, str]:
            status = main(list(arguments))
            told = capsys.readouterr()
            return status, told.out, told.err

        # Without a seat.
        status, out, _ = run("market", config)
        assert status == 0
        assert "seat        none" in out
        assert "7 base" in out
        assert "900 quote" in out
        status, _, error = run("deposit", config, "--base", "1")
        assert (status, "claim-seat" in error) == (2, True)
        before = len(cluster.executions)
        status, out, _ = run("claim-seat", config, "--dry-run")
        assert (status, len(cluster.executions)) == (0, before)
        assert "claim a seat: would be executed" in out
        assert cluster.market.seat(trader) is None
        assert run("claim-seat", config)[0] == 0
        assert cluster.market.seat(trader) is not None
        assert "already" in run("claim-seat", config)[1]

        # Deposits.
        status, out, _ = run("deposit", config, "--base", "2.5", "--quote", "100", "--dry-run")
        assert (status, cluster.market.seat(trader).base_atoms) == (0, 0)  # type: ignore[union-attr]
        status, out, _ = run("deposit", config, "--base", "2.5", "--quote", "100")
        assert status == 0, out
        seat = cluster.market.seat(trader)
        assert seat is not None
        assert (seat.base_atoms, seat.quote_atoms) == (2_500_000_000, 100_000_000)
        for base in ("4.6", "0", "-1", "1e-10", "x", "nan", "1_0", ""):
            status, _, error = run("deposit", config, f"--base={base}")
            assert (status, "base = " in error) == (2, True), (base, error)

        # Withdrawals.
        assert run("withdraw", config, "--base", "all", "--quote", "40.000001")[0] == 0
        seat = cluster.market.seat(trader)
        assert seat is not None
        assert (seat.base_atoms, seat.quote_atoms) == (0, 59_999_999)
        status, _, error = run("withdraw", config, "--quote", "60")
        assert (status, "59.999999 are not in orders" in error) == (2, True)
        assert "wallet    7 base" in run("market", config)[1]


@PROGRAMS
def test_all_orders_are_cancelled_also_those_that_no_journal_knows(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with market_of(program) as cluster:
        path, keypair = configured(cluster, tmp_path, tables="[queue]\ncapacity = 64")
        carrier = ManifestCarrier(cluster.market.spec)
        signer = KeypairSigner(keypair, trader_key(cluster).policy, clock=cluster.clock)
        cluster.market.admit(signer.pubkey)
        trader = Trader(cluster, tmp_path / "lost", signer=signer)
        trader.send(*[(ADD, 1 + n, (MIDDLE - n) * TICK, 5, 0, 0) for n in range(100)])
        trader.abandon()
        assert carrier.account is not None
        stop = Ticking(cluster)
        try:
            before = len(cluster.executions)
            assert main(["cancel-all", str(path), "--dry-run"]) == 0
            assert len(cluster.executions) == before
            assert len(trader.resting) == 100
            assert main(["market", str(path)]) == 0
            assert "our orders  100" in capsys.readouterr().out
            # A kill file does not stop it.
            (tmp_path / "stop").touch()
            path.write_text(path.read_text().replace("[submit]", 'kill_file = "stop"\n[submit]'))
            assert main(["cancel-all", str(path)]) == 0
            assert trader.resting == []
            assert "20 cancelled in slot" in capsys.readouterr().out
            assert main(["cancel-all", str(path)]) == 0
        finally:
            stop.close()


class Ticking:
    """Makes blocks on a thread: the commands wait in real time."""

    def __init__(self, cluster: LocalCluster) -> None:
        import threading  # noqa: PLC0415

        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(cluster,))
        self._thread.start()

    def _run(self, cluster: LocalCluster) -> None:
        while not self._over.wait(0.01):
            cluster.tick()

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("command", ["market", "cancel-all", "claim-seat", "deposit", "withdraw"])
def test_a_configuration_without_a_market_or_with_a_wrong_one_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more: Any = ["--base", "1"] if command in {"deposit", "withdraw"} else []
    with market_of("box", slots="real", slot_ns=10_000_000) as cluster:
        path, keypair = configured(cluster, tmp_path, quote_decimals=8)
        cluster.fund(keypair.pubkey(), 10**10)
        assert main([command, str(path), *more]) == 2
        assert "quote_decimals: 8 in the configuration; 6 on the chain" in capsys.readouterr().err
    empty = tmp_path / "empty.toml"
    empty.write_text(
        'memo = true\n[cluster]\nrpc = "http://127.0.0.1:1"\n'
        '[signer]\nkey_file = "key.json"\nmax_spend_lamports_per_minute = 1\n'
    )
    assert main([command, str(empty), *more]) == 2
    assert "[[market]] is missing" in capsys.readouterr().err
    os.unlink(path)
    assert main([command, str(path), *more]) == 2


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--duration", "0.1", "--submit"],
        ["replay", "flow.npy", "--submit"],
        ["submit", "bundles.npy", "--submit"],
    ],
)
def test_flow_of_others_leaves_this_machine_only_if_the_configuration_says_so(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--count", "100", "-o", "flow.npy"]) == 0
    np.save("bundles.npy", bundles_of(records((ADD, 1, 100, 1))))
    config = tmp_path / "chain.toml"
    text = (
        'memo = true\njournal = "journal"\n[cluster]\nrpc = "https://192.0.2.1"\n'
        "allow_mainnet = true\ntimeout_s = 0.01\n"
        '[signer]\nkey_file = "key.json"\nmax_spend_lamports_per_minute = 1\n'
    )
    config.write_text(text)
    assert main([*command, "chain.toml"]) == 2
    assert "https://192.0.2.1 is not a local cluster" in capsys.readouterr().err
    # Nothing was opened: there is no key.
    config.write_text("accept_forwarded = true\n" + text)
    assert main([*command, "chain.toml"]) == 2
    assert "key.json" in capsys.readouterr().err


def test_a_tunnel_to_a_public_cluster_is_not_a_local_cluster() -> None:
    config = ChainConfig(
        cluster=ClusterConfig(rpc="http://127.0.0.1:1"),
        signer=SignerConfig(key_file="key.json", max_spend_lamports_per_minute=1),
        memo=True,
    )
    require_local(config)
    require_local_genesis(config, Hash.default())
    for genesis, name in PUBLIC_CLUSTERS.items():
        with pytest.raises(ConfigError, match=name):
            require_local_genesis(config, Hash.from_string(genesis))
