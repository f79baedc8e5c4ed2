"""The configuration of a submission: one TOML file.

This module opens no connection and no key. `velox.solana.assembly` does.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar, get_args

from solders.pubkey import Pubkey

from velox.core.integers import INT64_MAX
from velox.errors import ConfigError, MarketError
from velox.settings import (
    check_choice,
    check_integers,
    check_numbers,
    check_types,
    kind_of,
    refusal,
    suggestion,
)
from velox.solana.files import read_regular
from velox.solana.net.tips import Percentile
from velox.solana.orders.queue import DEFAULT_CAPACITY, MAX_CAPACITY, Shedding
from velox.solana.submit.options import SubmitOptions
from velox.solana.tx.limits import MIN_TIP_LAMPORTS
from velox.solana.venues.manifest.instructions import OrderType
from velox.solana.venues.manifest.market import MarketSpec

__all__ = [
    "BlockEngineConfig",
    "ChainConfig",
    "ClusterConfig",
    "MarketConfig",
    "QueueConfig",
    "SignerConfig",
    "TipConfig",
    "load_config",
]

_T = TypeVar("_T")
TipRule: TypeAlias = Literal["fixed", "floor"]
ORDER_TYPES: Final = MappingProxyType(
    {
        "limit": OrderType.LIMIT,
        "immediate_or_cancel": OrderType.IMMEDIATE_OR_CANCEL,
        "post_only": OrderType.POST_ONLY,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """The RPC node; the table ``[cluster]``.

    Attributes
    ----------
    rpc : str
        The node's URL.
    allow_mainnet : bool
        Whether endpoints may be on other machines.
    timeout_s : float
        The time limit of one request, in seconds.
    """

    # A key may have been pasted here, or a URL with one.
    PRIVATE: ClassVar = frozenset({"rpc"})

    rpc: str = field(repr=False)
    allow_mainnet: bool = False
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        check_types(self, {str: ("rpc",), bool: ("allow_mainnet",)})
        check_numbers(self, {"timeout_s": (0.001, 600.0)})


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEngineConfig:
    """The block engine; the table ``[block_engine]``. Without it, transactions go to the node.

    Attributes
    ----------
    regions : tuple of str
        URLs without ``/api/v1``. The first is used as long as it works.
    rate_per_s : float
        Requests a second to each region.
    burst : int
        Requests to a region at once.
    auth_file : str
        The file with the UUID for ``x-jito-auth``, of mode 0600 or stricter; empty for none.
    """

    # A key may have been pasted here, or a URL with one.
    PRIVATE: ClassVar = frozenset({"auth_file", "regions"})

    regions: tuple[str, ...] = field(repr=False)
    rate_per_s: float = 1.0
    burst: int = 1
    auth_file: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        regions = self.regions
        if not isinstance(regions, list | tuple) or not regions:
            raise refusal(self, "regions", regions, "must be a list of URLs, at least one")
        for number, each in enumerate(regions):
            if not isinstance(each, str):
                raise refusal(self, f"regions[{number}]", each, "must be a URL")
        object.__setattr__(self, "regions", tuple(regions))
        check_numbers(self, {"rate_per_s": (0.001, 1e6)})
        check_integers(self, {"burst": (1, 1 << 16)})
        check_types(self, {str: ("auth_file",)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TipConfig:
    """The tip of a bundle; the table ``[tip]``, required with a block engine.

    Attributes
    ----------
    policy : {"fixed", "floor"}
    lamports : int
        The tip of the policy ``fixed``, in lamports.
    percentile : {25, 50, 75, 95, 99, "ema50"}
        The percentile of landed tips that the policy ``floor`` pays.
    minimum, maximum : int
        Lamports. `maximum` is also the most that the signer lets a transaction transfer.
    floor_url : str
        The URL of the landed tips; empty for Jito's own.
    """

    # A key may have been pasted here, or a URL with one.
    PRIVATE: ClassVar = frozenset({"floor_url"})

    policy: TipRule = "fixed"
    lamports: int = MIN_TIP_LAMPORTS
    percentile: Percentile = 50
    minimum: int = MIN_TIP_LAMPORTS
    maximum: int = 100_000
    floor_url: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_choice(self, "policy", get_args(TipRule))
        check_choice(self, "percentile", get_args(Percentile))
        check_integers(self, {"maximum": (MIN_TIP_LAMPORTS, INT64_MAX)})
        bounds = (MIN_TIP_LAMPORTS, self.maximum)
        check_integers(self, {"lamports": bounds, "minimum": bounds})
        check_types(self, {str: ("floor_url",)})


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerConfig:
    """The signing key and its limits; the table ``[signer]``.

    Attributes
    ----------
    key_file : str
        The key file, as the Solana tools write it, of mode 0600 or stricter. Or
    key_fd : int
        a file descriptor of one.
    max_spend_lamports_per_minute : int
        The limit on fees, tips and deposits together.
    kill_file : str
        While this file exists, nothing is signed; empty for none.
    """

    # A key may have been pasted here, or a URL with one.
    PRIVATE: ClassVar = frozenset({"key_fd", "key_file", "kill_file"})

    key_file: str = field(default="", repr=False)
    key_fd: int = -1
    max_spend_lamports_per_minute: int
    kill_file: str = ""

    def __post_init__(self) -> None:
        check_types(self, {str: ("key_file", "kill_file")})
        check_integers(
            self, {"key_fd": (-1, 1 << 20), "max_spend_lamports_per_minute": (0, INT64_MAX)}
        )
        if bool(self.key_file) == (self.key_fd >= 0):
            raise refusal(self, "key_file", self.key_file, "set either key_file or key_fd")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketConfig:
    """A Manifest market; one of the tables ``[[market]]``.

    Attributes
    ----------
    market, base_mint, quote_mint : str
        Public keys in base 58.
    base_decimals, quote_decimals, lot_atoms, tick_size, velox_market : int
        See `MarketSpec`.
    order_type : {"limit", "immediate_or_cancel", "post_only"}
    """

    market: str
    base_mint: str
    quote_mint: str
    base_decimals: int
    quote_decimals: int
    lot_atoms: int
    tick_size: int = 1
    velox_market: int = 0
    order_type: str = "post_only"
    spec: MarketSpec = field(init=False)

    def __post_init__(self) -> None:
        check_choice(self, "order_type", tuple(ORDER_TYPES))
        keys: dict[str, Any] = {}
        for name in ("market", "base_mint", "quote_mint"):
            value = getattr(self, name)
            try:
                keys[name] = Pubkey.from_string(value)
            except (TypeError, ValueError):
                raise refusal(self, name, value, "must be a public key in base 58") from None
        names = ("base_decimals", "quote_decimals", "lot_atoms", "tick_size", "velox_market")
        try:
            spec = MarketSpec(**keys, **{name: getattr(self, name) for name in names})
        except MarketError as error:
            raise ConfigError(f"{error.field or 'market'}: {error.why}") from error
        object.__setattr__(self, "spec", spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """The order queue; the table ``[queue]``.

    Attributes
    ----------
    capacity : int
        Orders that may wait.
    shedding : {"oldest", "newest"}
        Which orders are shed first when it is full.
    """

    capacity: int = DEFAULT_CAPACITY
    shedding: Shedding = "oldest"

    def __post_init__(self) -> None:
        check_integers(self, {"capacity": (1, MAX_CAPACITY)})
        check_choice(self, "shedding", get_args(Shedding))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainConfig:
    """A whole configuration.

    Attributes
    ----------
    cluster : ClusterConfig
    signer : SignerConfig
    block_engine : BlockEngineConfig or None
    tip : TipConfig
    submit : SubmitOptions
    queue : QueueConfig
    markets : tuple of MarketConfig
    memo : bool
        Whether the orders of all other markets go into memos, which execute nothing.
    journal : str
        The journal's path; empty if the command line gives it.
    accept_forwarded : bool
        Whether recorded or generated flow may be sent to anything but a local cluster. Such orders
        are those of others, or of nobody.
    deadline_s : float
        How long the end of a run waits for transactions in flight, in seconds.
    path : str
        The configuration file. Relative paths in it start at its folder.
    """

    cluster: ClusterConfig
    signer: SignerConfig
    block_engine: BlockEngineConfig | None = None
    tip: TipConfig = field(default_factory=TipConfig)
    submit: SubmitOptions = field(default_factory=SubmitOptions)
    queue: QueueConfig = field(default_factory=QueueConfig)
    markets: tuple[MarketConfig, ...] = ()
    memo: bool = False
    accept_forwarded: bool = False
    journal: str = ""
    deadline_s: float = 90.0
    path: str = ""

    def __post_init__(self) -> None:
        check_types(self, {bool: ("memo", "accept_forwarded"), str: ("journal", "path")})
        check_numbers(self, {"deadline_s": (0.0, 1e6)})
        if not self.markets and not self.memo:
            raise ConfigError("market: at least one is needed, or memo = true")
        numbers = [each.spec.velox_market for each in self.markets]
        for number in numbers:
            if numbers.count(number) > 1:
                raise refusal(self, "market.velox_market", number, "occurs twice")
        if self.submit.atomic and self.block_engine is None:
            raise refusal(self, "submit.atomic", True, "needs a [block_engine]")

    def relative(self, path: str) -> str:
        """Return a path of the file, relative to the file's folder."""
        return os.path.join(os.path.dirname(self.path), os.path.expanduser(path))


_TABLES: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        "cluster": ClusterConfig,
        "signer": SignerConfig,
        "block_engine": BlockEngineConfig,
        "tip": TipConfig,
        "submit": SubmitOptions,
        "queue": QueueConfig,
    }
)


def load_config(path: str | os.PathLike[str]) -> ChainConfig:
    """Read a TOML file.

    Parameters
    ----------
    path : path

    Returns
    -------
    ChainConfig

    Raises
    ------
    ConfigError
        The file cannot be read, is not TOML, or a value cannot be used. The message names the file,
        the table, the key and the value. It names only the kind of a value that may be a secret.
    """
    name = os.fspath(path)
    try:
        raw = tomllib.loads(read_regular(path).decode())
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: is not TOML: byte {error.start} is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: {error}") from error
    given: dict[str, Any] = {"path": name}
    known = [*_TABLES, "market", "memo", "journal", "deadline_s", "accept_forwarded"]
    for key, value in raw.items():
        _check_key(name, "", key, known)
        if key in _TABLES:
            given[key] = _table(name, key, value, _TABLES[key])
        elif key == "market":
            rows = value if isinstance(value, list) else [value]
            given["markets"] = tuple(
                _table(name, f"market[{number}]", row, MarketConfig)
                for number, row in enumerate(rows)
            )
        else:
            given[key] = value
    for key in ("cluster", "signer"):
        if key not in given:
            raise ConfigError(f"{name}: [{key}] is missing")
    return _made(name, "", ChainConfig, given)


def _table(path: str, table: str, value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, dict):
        # The value may be a secret.
        raise ConfigError(f"{path}: {table} is {kind_of(value)}: must be a table")
    known = [each.name for each in fields(kind) if each.init]  # type: ignore[arg-type]
    for key in value:
        _check_key(path, table + ".", key, known)
    return _made(path, table + ".", kind, value)


def _made(path: str, prefix: str, kind: type[_T], values: dict[str, Any]) -> _T:
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {prefix}{error}") from error
    except TypeError:
        missing = [
            each.name
            for each in fields(kind)  # type: ignore[arg-type]
            if each.init and each.name not in values and _is_required(each)
        ]
        raise ConfigError(f"{path}: {prefix}{missing[0]} is missing") from None


def _is_required(each: Any) -> bool:
    return each.default is each.default_factory


def _check_key(path: str, prefix: str, key: str, known: list[str]) -> None:
    if key not in known:
        raise ConfigError(f"{path}: {prefix}{key}: unknown key; {suggestion(key, known)}")
