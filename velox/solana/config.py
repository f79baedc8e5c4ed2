"""Where to send, what to sign with and how, as one TOML file says it.

Nothing here opens a connection or a key; `velox.solana.assembly` does.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar, get_args

from solders.pubkey import Pubkey

from velox.errors import ConfigError, MarketError
from velox.solana.files import read_regular
from velox.solana.net.tips import Percentile
from velox.solana.orders.queue import MAX_CAPACITY, Shedding
from velox.solana.tx.instructions import OrderType
from velox.solana.tx.limits import MIN_TIP_LAMPORTS
from velox.solana.venues.manifest.market import MarketSpec

__all__ = [
    "BlockEngineConfig",
    "ChainConfig",
    "ClusterConfig",
    "MarketConfig",
    "QueueConfig",
    "SignerConfig",
    "SubmitOptions",
    "TipConfig",
    "load_config",
]

_U63: Final = 2**63 - 1
_T = TypeVar("_T")
ORDER_TYPES: Final = MappingProxyType(
    {
        "limit": OrderType.LIMIT,
        "immediate_or_cancel": OrderType.IMMEDIATE_OR_CANCEL,
        "post_only": OrderType.POST_ONLY,
    }
)


# What a key may have been pasted into, or a URL with one: of their values, only the kind is said.
_PRIVATE: Final = frozenset(
    {"auth_file", "floor_url", "key_fd", "key_file", "kill_file", "regions", "rpc"}
)
_KINDS: Final[Mapping[type, str]] = MappingProxyType(
    {
        str: "a string",
        int: "an integer",
        float: "a number",
        bool: "true or false",
        list: "a list",
        dict: "a table",
    }
)


def _refuse(name: str, value: object, why: str) -> ConfigError:
    is_private = name.partition("[")[0] in _PRIVATE
    shown = f"is {_kind_of(value)}" if is_private else f"= {value!r}"
    return ConfigError(f"{name} {shown}: {why}")


def _kind_of(value: object) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _check_integers(table: object, ranges: Mapping[str, tuple[int, int]]) -> None:
    for name, (least, most) in ranges.items():
        value = getattr(table, name)
        if type(value) is not int or not least <= value <= most:
            raise _refuse(name, value, f"must be an integer, {least} to {most}")


def _check_numbers(table: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    for name, (least, most) in ranges.items():
        value = getattr(table, name)
        if type(value) not in (int, float) or not least <= value <= most:
            raise _refuse(name, value, f"must be a number, {least:g} to {most:g}")


def _check_types(table: object, kinds: Mapping[type, tuple[str, ...]]) -> None:
    for kind, names in kinds.items():
        for name in names:
            value = getattr(table, name)
            if type(value) is not kind:
                raise _refuse(name, value, f"must be {_KINDS[kind]}")


def _check_choice(table: object, name: str, choices: tuple[str | int, ...]) -> None:
    value = getattr(table, name)
    if type(value) not in (str, int) or value not in choices:
        raise _refuse(name, value, f"must be one of {', '.join(map(repr, choices))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """How a `Submitter` works; the table ``[submit]``.

    Attributes
    ----------
    window : int
        Transactions under way at once.
    attempts : int
        How often an order may be signed. More than 1 places orders that can be a minute old.
    atomic : bool
        Whether up to five transactions share a bundle of the block engine: all land, or none.
    commitment : {"confirmed", "finalized"}
        How sure an execution must be to count. What is ``finalized`` is for good; to undo what is
        ``confirmed``, a third of the stake would have to be slashed.
    poll_ns : int
        Time between two looks at the chain, 10 s at most.
    resend_blocks : int
        Blocks after which the same bytes are sent again; then after twice as many, and so on.
    order_valid_slots : int
        Slots that an order lives on the market, from its blockhash on; 0 for ever.
    unit_price : int
        Priority, in millionths of a lamport for a compute unit.
    skip_preflight : bool
        Whether the node forwards without having simulated.
    rpc_fallback : bool
        Whether what the block engine does not take goes to the RPC node, in everybody's sight;
        not with `atomic`, which a node knows nothing of.
    isolate : bool
        Whether the orders of a transaction that the chain executed with an error are signed once
        more, each by itself, once that failure is *finalized*, whatever `commitment` says. A market
        executes all of a transaction or nothing: one order that would cross, or the cancel of one
        that is filled, fails all that are with it. Without it they all end as `FAILED`.

    Raises
    ------
    ConfigError
        A value cannot be used; the message names it.
    """

    window: int = 32
    attempts: int = 1
    atomic: bool = False
    commitment: Literal["confirmed", "finalized"] = "confirmed"
    poll_ns: int = 400_000_000
    resend_blocks: int = 4
    order_valid_slots: int = 0
    unit_price: int = 0
    skip_preflight: bool = True
    rpc_fallback: bool = False
    isolate: bool = False

    def __post_init__(self) -> None:
        _check_integers(
            self,
            {
                "window": (1, 1 << 16),
                "attempts": (1, 1 << 16),
                # A blockhash lives for 30 to 60 s.
                "poll_ns": (0, 10_000_000_000),
                "resend_blocks": (1, 1 << 16),
                "order_valid_slots": (0, 1 << 31),
                "unit_price": (0, 1 << 40),
            },
        )
        _check_types(self, {bool: ("atomic", "skip_preflight", "rpc_fallback", "isolate")})
        _check_choice(self, "commitment", ("confirmed", "finalized"))
        if self.atomic and self.rpc_fallback:
            raise _refuse("rpc_fallback", True, "a node knows no atomic = true")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Whom to ask; the table ``[cluster]``.

    Attributes
    ----------
    rpc : str
        The node's URL.
    allow_mainnet : bool
        Whether endpoints may be other machines'.
    timeout_s : float
        Seconds for one exchange.
    """

    # A provider's key may be in its path.
    rpc: str = field(repr=False)
    allow_mainnet: bool = False
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        _check_types(self, {str: ("rpc",), bool: ("allow_mainnet",)})
        _check_numbers(self, {"timeout_s": (0.001, 600.0)})


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEngineConfig:
    """Where bundles go; the table ``[block_engine]``, without which transactions go to the node.

    Attributes
    ----------
    regions : tuple of str
        URLs without ``/api/v1``, the first for as long as it works.
    rate_per_s : float
        Requests a second to each.
    burst : int
    auth_file : str
        The file with the UUID for ``x-jito-auth``, of mode 0600 or stricter; empty for none.
    """

    regions: tuple[str, ...] = field(repr=False)
    rate_per_s: float = 1.0
    burst: int = 1
    auth_file: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        regions = self.regions
        if not isinstance(regions, list | tuple) or not regions:
            raise _refuse("regions", regions, "must be a list of URLs, at least one")
        for number, each in enumerate(regions):
            if not isinstance(each, str):
                raise _refuse(f"regions[{number}]", each, "must be a URL")
        object.__setattr__(self, "regions", tuple(regions))
        _check_numbers(self, {"rate_per_s": (0.001, 1e6)})
        _check_integers(self, {"burst": (1, 1 << 16)})
        _check_types(self, {str: ("auth_file",)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TipConfig:
    """What a bundle pays; the table ``[tip]``, needed with a block engine.

    Attributes
    ----------
    policy : {"fixed", "floor"}
    lamports : int
        Of ``fixed``.
    percentile : {25, 50, 75, 95, 99, "ema50"}
        Of ``floor``: of the tips that landed.
    minimum, maximum : int
        Lamports; `maximum` is also the most that the signer lets a transaction transfer.
    floor_url : str
        Where the tips that landed are published; empty for Jito's own.
    """

    policy: Literal["fixed", "floor"] = "fixed"
    lamports: int = MIN_TIP_LAMPORTS
    percentile: Percentile = 50
    minimum: int = MIN_TIP_LAMPORTS
    maximum: int = 100_000
    floor_url: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _check_choice(self, "policy", ("fixed", "floor"))
        _check_choice(self, "percentile", get_args(Percentile))
        _check_integers(self, {"maximum": (MIN_TIP_LAMPORTS, _U63)})
        bounds = (MIN_TIP_LAMPORTS, self.maximum)
        _check_integers(self, {"lamports": bounds, "minimum": bounds})
        _check_types(self, {str: ("floor_url",)})


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerConfig:
    """Who signs, and what for at most; the table ``[signer]``.

    Attributes
    ----------
    key_file : str
        As the Solana tools write it, of mode 0600 or stricter; or
    key_fd : int
        a descriptor that gives the same.
    max_spend_lamports_per_minute : int
        Fees, tips and deposits together.
    kill_file : str
        While it exists, nothing is signed; empty for none.
    """

    key_file: str = field(default="", repr=False)
    key_fd: int = -1
    max_spend_lamports_per_minute: int
    kill_file: str = ""

    def __post_init__(self) -> None:
        _check_types(self, {str: ("key_file", "kill_file")})
        _check_integers(self, {"key_fd": (-1, 1 << 20), "max_spend_lamports_per_minute": (0, _U63)})
        if bool(self.key_file) == (self.key_fd >= 0):
            raise _refuse("key_file", self.key_file, "give either this or key_fd")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketConfig:
    """A market on Manifest; one of the tables ``[[market]]``.

    Attributes
    ----------
    market, base_mint, quote_mint : str
        In base 58.
    base_decimals, quote_decimals, lot_atoms, tick_size, velox_market : int
        As in `MarketSpec`.
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
        _check_choice(self, "order_type", tuple(ORDER_TYPES))
        keys: dict[str, Any] = {}
        for name in ("market", "base_mint", "quote_mint"):
            value = getattr(self, name)
            try:
                keys[name] = Pubkey.from_string(value)
            except (TypeError, ValueError):
                raise _refuse(name, value, "must be a public key in base 58") from None
        names = ("base_decimals", "quote_decimals", "lot_atoms", "tick_size", "velox_market")
        try:
            spec = MarketSpec(**keys, **{name: getattr(self, name) for name in names})
        except MarketError as error:
            raise ConfigError(f"{error.field or 'market'}: {error.why}") from error
        object.__setattr__(self, "spec", spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """What waits; the table ``[queue]``.

    Attributes
    ----------
    capacity : int
        Orders.
    shedding : {"oldest", "newest"}
        Which go when there are more.
    """

    capacity: int = 8192
    shedding: Shedding = "oldest"

    def __post_init__(self) -> None:
        _check_integers(self, {"capacity": (1, MAX_CAPACITY)})
        _check_choice(self, "shedding", get_args(Shedding))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainConfig:
    """All of it.

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
        Whether orders of all other markets are written into memos, which execute nothing.
    journal : str
        The journal's path; empty where the command line says it.
    deadline_s : float
        How long the end of a run waits for what is under way.
    path : str
        The file, which relative paths in it start from.
    """

    cluster: ClusterConfig
    signer: SignerConfig
    block_engine: BlockEngineConfig | None = None
    tip: TipConfig = field(default_factory=TipConfig)
    submit: SubmitOptions = field(default_factory=SubmitOptions)
    queue: QueueConfig = field(default_factory=QueueConfig)
    markets: tuple[MarketConfig, ...] = ()
    memo: bool = False
    journal: str = ""
    deadline_s: float = 90.0
    path: str = ""

    def __post_init__(self) -> None:
        _check_types(self, {bool: ("memo",), str: ("journal", "path")})
        _check_numbers(self, {"deadline_s": (0.0, 1e6)})
        if not self.markets and not self.memo:
            raise ConfigError("market: none is given, and memo is not true: nothing can be carried")
        numbers = [each.spec.velox_market for each in self.markets]
        for number in numbers:
            if numbers.count(number) > 1:
                raise _refuse("market.velox_market", number, "is there twice")
        if self.submit.atomic and self.block_engine is None:
            raise _refuse("submit.atomic", True, "needs a [block_engine]")

    def relative(self, path: str) -> str:
        """Return a path of the file's, from where the file lies."""
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
        It cannot be read, is no TOML, or a value cannot be used; the message names the file, the
        table and the key, and the value, or its kind alone where it may hold a key or a URL.
    """
    name = os.fspath(path)
    try:
        raw = tomllib.loads(read_regular(path).decode())
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: no TOML: byte {error.start} is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: {error}") from error
    given: dict[str, Any] = {"path": name}
    known = [*_TABLES, "market", "memo", "journal", "deadline_s"]
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
        # What is there instead may be a key.
        raise ConfigError(f"{path}: {table} is {_kind_of(value)}: must be a table")
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
        near = get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
        raise ConfigError(f"{path}: {prefix}{key}: no such key; {hint}")
