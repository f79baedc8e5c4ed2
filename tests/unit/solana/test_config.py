"""A configuration is read completely, or refused with its file, key and value."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from velox.errors import ConfigError
from velox.solana import assembly
from velox.solana.config import load_config
from velox.solana.net.tips import FixedTip, FloorPercentileTip
from velox.solana.tx.instructions import MEMO_PROGRAM
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.instructions import MANIFEST_PROGRAM, OrderType
from velox.solana.venues.memo import MemoCarrier

KEY = "MNFSTqtC93rEfYHB6hF82sKdZpUDFWkViLByLd1k1Ms"
MINTS = (
    'base_mint = "So11111111111111111111111111111111111111112"\n'
    'quote_mint = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"\n'
)
LEAST = """
memo = true
[cluster]
rpc = "http://127.0.0.1:8899"
[signer]
key_file = "key.json"
max_spend_lamports_per_minute = 1_000_000
"""
WHOLE = f"""
journal = "journal"
deadline_s = 30
[cluster]
rpc = "https://rpc.example.org/key"
allow_mainnet = true
timeout_s = 2.5
[block_engine]
regions = ["https://ny.example.org", "https://tokyo.example.org"]
rate_per_s = 2
auth_file = "uuid"
[tip]
policy = "floor"
percentile = 75
maximum = 50_000
[signer]
key_fd = 3
max_spend_lamports_per_minute = 5_000_000
kill_file = "kill"
[submit]
atomic = true
attempts = 2
commitment = "finalized"
[queue]
capacity = 1024
shedding = "newest"
[[market]]
velox_market = 3
market = "{KEY}"
{MINTS}
base_decimals = 9
quote_decimals = 6
lot_atoms = 1_000_000
tick_size = 100
order_type = "limit"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "chain.toml"
    path.write_text(text)
    return path


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, LEAST))
    assert config.block_engine is None
    assert config.memo
    assert config.submit.attempts == 1
    assert config.relative(config.signer.key_file) == str(tmp_path / "key.json")
    assert assembly.tip_policy_of(config) is None
    (carrier,) = assembly.carriers_of(config)
    assert isinstance(carrier, MemoCarrier)


def test_everything_can_be_said(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, WHOLE))
    assert config.block_engine is not None
    assert config.block_engine.regions == ("https://ny.example.org", "https://tokyo.example.org")
    assert (config.submit.atomic, config.submit.commitment) == (True, "finalized")
    assert (config.queue.capacity, config.queue.shedding) == (1024, "newest")
    assert config.markets[0].spec.tick_size == 100
    (carrier,) = assembly.carriers_of(config)
    assert isinstance(carrier, ManifestCarrier)
    assert (carrier.order_type, carrier.spec.velox_market) == (OrderType.LIMIT, 3)
    assert isinstance(assembly.tip_policy_of(config), FloorPercentileTip)
    fixed = WHOLE.replace('policy = "floor"', "lamports = 2_000")
    assert isinstance(assembly.tip_policy_of(load_config(written(tmp_path, fixed))), FixedTip)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("memo = true", "memo = 1", "memo = 1: must be true or false"),
        ("memo = true", "", "market: at least one is needed"),
        ("memo = true", "memoo = true", "memoo: unknown key; did you mean 'memo'?"),
        ("[cluster]", "[clusters]", "clusters: unknown key; did you mean 'cluster'?"),
        ("rpc =", "rpk =", "cluster.rpk: unknown key; did you mean 'rpc'?"),
        ('rpc = "http://127.0.0.1:8899"', "", "cluster.rpc is missing"),
        ('rpc = "http://127.0.0.1:8899"', "rpc = 5", "cluster.rpc is an integer: must be a string"),
        ("key_file = ", "key_fd = 3\nkey_file = ", "set either key_file or key_fd"),
        ('key_file = "key.json"', "", "signer.key_file is a string: set either key_file or key_fd"),
        ("1_000_000", "-1", "signer.max_spend_lamports_per_minute = -1: must be an integer"),
        ("[signer]", "[queue]\ncapacity = 0\n[signer]", "queue.capacity = 0: must be"),
        ("[signer]", "[submit]\nwindow = '3'\n[signer]", "submit.window = '3': must be"),
        ("[signer]", "[submit]\natomic = true\n[signer]", "submit.atomic = True: needs a"),
        ("[signer]", "[tip]\nlamports = 5\n[signer]", "tip.lamports = 5: must be an integer, 1000"),
        (
            "[signer]",
            "[block_engine]\nregions = []\n[signer]",
            "block_engine.regions is a list: must be",
        ),
        ("[signer]", "[[market]]\nmarket = 'x'\n[signer]", "market[0].base_mint is missing"),
        ("memo = true", "memo = ", "Invalid value"),
        ("memo = true", "cluster = 3", "Cannot"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_file(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    path = written(tmp_path, LEAST.replace(before, after))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (KEY, "notakey", "market[0].market = 'notakey': must be a public key"),
        (
            "lot_atoms = 1_000_000",
            "lot_atoms = 0",
            "market[0].lot_atoms: must be an integer",
        ),
        ("order_type = ", "order_type = 'reverse' # ", "market[0].order_type = 'reverse': must be"),
        (
            "velox_market = 3",
            "velox_market = 256",
            "market[0].velox_market: must be an integer",
        ),
    ],
)
def test_a_market_that_cannot_be_is_named(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=r"chain\.toml: ") as caught:
        load_config(written(tmp_path, WHOLE.replace(before, after)))
    assert said in str(caught.value)


SECRET = "5Jm2WcPrivateYq8vKz3nR7tLxHd4gFbQeUaS9pZ6kXjN1iVwTyEoBhCuMfDsGr"
ARRAY = str([201, 7] * 32)
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"key.json"', ARRAY, "signer.key_file is a list: must be a string"),
        ('"key.json"', "{ a = '" + SECRET + "' }", "signer.key_file is a table: must be a"),
        ("key_file =", f"key_fd = '{SECRET}' #", "signer.key_fd is a string: must be an integer"),
        ("key_file =", f"key_fd = {ARRAY} #", "signer.key_fd is a list: must be an integer"),
        ("key_file =", f"key_fd = 3\nkey_file = '{SECRET}' #", "signer.key_file is a string: set"),
        ('"http://127.0.0.1:8899"', f"['https://h/{SECRET}']", "cluster.rpc is a list: must be"),
        (
            "[signer]",
            f"[block_engine]\nregions = 'https://h/{SECRET}'\n[signer]",
            "block_engine.regions is a string: must be a list of URLs, at least one",
        ),
        (
            "[signer]",
            f"[block_engine]\nregions = ['https://h', ['https://h/{SECRET}']]\n[signer]",
            "block_engine.regions[1] is a list: must be a URL",
        ),
        (
            "[signer]",
            f"[block_engine]\nregions = ['https://h']\nauth_file = ['{UUID}']\n[signer]",
            "block_engine.auth_file is a list: must be a string",
        ),
        (
            "[signer]",
            f"[tip]\nfloor_url = ['https://h/{SECRET}']\n[signer]",
            "tip.floor_url is a list: must be a string",
        ),
        ("memo = true", f"memo = true\ntip = '{SECRET}'", "tip is a string: must be a table"),
        ("memo = true", f"memo = true\nqueue = {ARRAY}", "queue is a list: must be a table"),
    ],
)
def test_where_a_secret_may_have_been_pasted_no_value_is_told(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, LEAST.replace(before, after)))
    assert f"chain.toml: {said}" in str(caught.value)
    assert not any(each in str(caught.value) for each in (SECRET, UUID, "201, 7"))


@pytest.mark.parametrize(
    "secret",
    [SECRET, ARRAY, f" {ARRAY}", UUID, "ab" * 32, f"https://h/{SECRET}", "one-private-word-3"],
)
def test_a_secret_in_the_place_of_its_file_is_not_told(tmp_path: Path, secret: str) -> None:
    signer = LEAST.replace("key.json", secret)
    engine = LEAST + f"[block_engine]\nregions = ['http://127.0.0.1:1']\nauth_file = '{secret}'"
    for text, key in ((signer, "signer.key_file"), (engine, "block_engine.auth_file")):
        config = load_config(written(tmp_path, text))
        assert secret not in repr(config)
        with pytest.raises(ConfigError) as caught:
            if key == "signer.key_file":
                assembly.signer_of(config, assembly.carriers_of(config))
            else:
                assembly.block_engine_of(config)
        assert f"chain.toml: {key}: (name not shown): no such file" in str(caught.value)
        assert secret.strip() not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["key.json", "payer", "~/nowhere/payer", f"keys/{KEY}.json", "a long name.json"]
)
def test_a_file_that_is_not_there_is_named_where_its_name_is_a_path(
    tmp_path: Path, name: str
) -> None:
    config = load_config(written(tmp_path, LEAST.replace("key.json", name)))
    with pytest.raises(ConfigError, match="No such file") as caught:
        assembly.signer_of(config, assembly.carriers_of(config))
    assert name.removeprefix("~/") in str(caught.value)


def test_two_tables_for_one_market_are_refused(tmp_path: Path) -> None:
    table = WHOLE[WHOLE.index("[[market]]") :]
    with pytest.raises(ConfigError, match="velox_market = 3: occurs twice"):
        load_config(written(tmp_path, WHOLE + table))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "missing.toml")
    (tmp_path / "chain.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"chain\.toml: is not TOML: byte 0 is not UTF-8"):
        load_config(tmp_path / "chain.toml")


def test_the_signer_may_call_what_the_carriers_need_and_nothing_else(tmp_path: Path) -> None:
    from solders.keypair import Keypair  # noqa: PLC0415

    key = tmp_path / "key.json"
    key.touch(mode=0o600)
    key.write_text(str(list(bytes(Keypair()))))
    config = load_config(written(tmp_path, LEAST))
    signer = assembly.signer_of(config, assembly.carriers_of(config))
    assert signer.policy.programs == {MEMO_PROGRAM}
    assert MANIFEST_PROGRAM not in signer.policy.programs
    assert signer.policy.max_tip_lamports == 0
    os.chmod(key, 0o644)
    with pytest.raises(ConfigError, match=r"chain\.toml: signer\.key_file: .*key\.json: mode 0644"):
        assembly.signer_of(config, assembly.carriers_of(config))


def test_endpoints_elsewhere_need_to_be_allowed(tmp_path: Path) -> None:
    text = LEAST.replace("http://127.0.0.1:8899", "https://rpc.example.org/secret")
    with pytest.raises(ConfigError, match=r"chain\.toml: cluster\.rpc: https:") as caught:
        assembly.rpc_of(load_config(written(tmp_path, text)))
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(load_config(written(tmp_path, text)))


def test_a_uuid_is_read_from_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    uuid = tmp_path / "uuid"
    with pytest.raises(ConfigError, match=r"block_engine\.auth_file: .*uuid: No such file"):
        assembly.block_engine_of(load_config(written(tmp_path, WHOLE)))
    uuid.touch(mode=0o600)
    uuid.write_text("8a3f-very-private\n")
    client = assembly.block_engine_of(load_config(written(tmp_path, WHOLE)))
    assert client is not None
    assert "private" not in repr(client)
    client.close()
    os.chmod(uuid, 0o640)
    with pytest.raises(ConfigError, match=r"auth_file: .*0600"):
        assembly.block_engine_of(load_config(written(tmp_path, WHOLE)))
    os.chmod(uuid, 0o600)
    uuid.write_text("two words")
    with pytest.raises(ConfigError, match=r"auth_file: .*visible") as caught:
        assembly.block_engine_of(load_config(written(tmp_path, WHOLE)))
    error: BaseException | None = caught.value
    while error is not None:
        frames = traceback.StackSummary.extract(
            traceback.walk_tb(error.__traceback__), capture_locals=True
        )
        shown = [each.locals for each in frames if each.filename != __file__]
        assert "two words" not in f"{error} {shown}"
        error = error.__cause__ or error.__context__


def test_a_configuration_without_a_journal_needs_one_named(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, LEAST))
    with pytest.raises(ConfigError, match="journal is missing"):
        with assembly.open_submission(config):
            pass
