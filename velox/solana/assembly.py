"""Assembles a submitter from a configuration."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from solders.hash import Hash
from solders.pubkey import Pubkey

from velox.errors import ConfigError, EndpointRefusedError, KeyFileError
from velox.solana.config import ORDER_TYPES, ChainConfig
from velox.solana.journal.file import SubmissionJournal
from velox.solana.net.address import Address, Secret
from velox.solana.net.block_engine import TIP_FLOOR_URL, BlockEngineClient
from velox.solana.net.rpc import RpcClient
from velox.solana.net.tips import FixedTip, FloorPercentileTip, TipFloorClient, TipPolicy
from velox.solana.orders.outcomes import Observer
from velox.solana.submit.submitter import Submitter
from velox.solana.tx.carrier import Carrier
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.memo import MemoCarrier

__all__ = [
    "Statement",
    "Submission",
    "block_engine_of",
    "carriers_of",
    "inputs_of",
    "journal_path_of",
    "open_submission",
    "require_local",
    "require_local_genesis",
    "rpc_of",
    "signer_of",
    "tip_floor_of",
    "tip_policy_of",
]

# The largest file with a UUID.
MAX_AUTH_BYTES = 1024
# A key in base 58 or in hex, or a UUID.
_KEY = re.compile(r"[0-9A-Za-z]{32,}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
#: The public clusters, by their genesis hash.
PUBLIC_CLUSTERS = MappingProxyType(
    {
        "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d": "mainnet",
        "4uhcVJyU9pJkvQyS88uRDiswHXSCkY3zQawwpjk2NsNY": "testnet",
        "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG": "devnet",
    }
)
# The longest file name without a folder or a suffix that a message may repeat.
A_WORD = 16


class Statement(Protocol):
    """What the accounts of a venue show of a trader."""

    def check(self) -> None:
        """Raise LedgerError if it contradicts itself."""

    def format(self) -> str:
        """Return a table for a terminal."""

    def to_dict(self) -> dict[str, Any]:
        """Return the same for JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A submitter that is ready, and its endpoints.

    Attributes
    ----------
    submitter : Submitter
    journal : SubmissionJournal
    capacity : int
        Orders that may wait.
    deadline_s : float
        How long closing may wait for transactions in flight, in seconds.
    on_exit : {"cancel", "leave"}
        What happens to resting orders at the end.
    payer : Pubkey
    genesis : Hash
        It identifies the cluster.
    rpc : str
        The node: scheme, host and port.
    block_engine : str or None
        The block engine, likewise; None if transactions go to the node.
    statement : callable or None
        Returns what the accounts of the venue show now; None if nothing here reads them.
    """

    submitter: Submitter
    journal: SubmissionJournal
    capacity: int
    deadline_s: float
    payer: Pubkey
    genesis: Hash
    rpc: str
    block_engine: str | None = None
    on_exit: str = "cancel"
    statement: Callable[[], Statement] | None = None


@contextmanager
def _naming(config: ChainConfig, key: str) -> Iterator[None]:
    """Name the file and the key of a value that cannot be used."""
    path = f"{config.path}: " if config.path else ""
    try:
        yield
    except ConfigError as error:
        # The message names the key of the table itself.
        raise ConfigError(f"{path}{key.partition('.')[0]}.{error}") from error
    except (EndpointRefusedError, KeyFileError) as error:
        raise ConfigError(f"{path}{key}: {error}") from error


def carriers_of(config: ChainConfig) -> list[Carrier]:
    """Return a carrier for each market, and one for memos if they are enabled."""
    carriers: list[Carrier] = [
        ManifestCarrier(each.spec, order_type=ORDER_TYPES[each.order_type])
        for each in config.markets
    ]
    return [*carriers, MemoCarrier()] if config.memo else carriers


def signer_of(config: ChainConfig, carriers: Sequence[Carrier]) -> KeypairSigner:
    """Load the key, with the policy that follows from the configuration."""
    policy = SignerPolicy(
        programs=frozenset(each.program for each in carriers),
        cancels={each.program: each.only_cancels for each in carriers},
        rents={each.program: each.most_rent for each in carriers},
        max_tip_lamports=config.tip.maximum if config.block_engine is not None else 0,
        max_spend_lamports_per_minute=config.signer.max_spend_lamports_per_minute,
    )
    table = config.signer
    kill_file = config.relative(table.kill_file) if table.kill_file else None
    if table.key_fd >= 0:
        with _naming(config, "signer.key_fd"):
            return KeypairSigner.from_fd(table.key_fd, policy, kill_file=kill_file)
    with _naming(config, "signer.key_file"):
        path = _file_of(config, table.key_file)
        return KeypairSigner.from_file(path, policy, kill_file=kill_file)


def rpc_of(config: ChainConfig, *, retries: int = 0) -> RpcClient:
    """Return a client of the RPC node."""
    with _naming(config, "cluster.rpc"):
        return RpcClient(
            config.cluster.rpc,
            timeout_s=config.cluster.timeout_s,
            retries=retries,
            allow_mainnet=config.cluster.allow_mainnet,
        )


def block_engine_of(config: ChainConfig) -> BlockEngineClient | None:
    """Return a client of the block engine; None if there is none."""
    engine = config.block_engine
    if engine is None:
        return None
    auth = None
    if engine.auth_file:
        with _naming(config, "block_engine.auth_file"):
            auth = _auth_of(_file_of(config, engine.auth_file))
    with _naming(config, "block_engine.regions"):
        return BlockEngineClient(
            engine.regions,
            auth=auth,
            rate_per_s=engine.rate_per_s,
            burst=engine.burst,
            timeout_s=config.cluster.timeout_s,
            allow_mainnet=config.cluster.allow_mainnet,
        )


def tip_floor_of(config: ChainConfig) -> TipFloorClient:
    """Return a client of the service that publishes landed tips."""
    url = config.tip.floor_url or TIP_FLOOR_URL
    with _naming(config, "tip.floor_url"):
        return TipFloorClient(url, allow_mainnet=config.cluster.allow_mainnet)


_FORWARDED = (
    "recorded or generated flow would be traded there with real funds; accept_forwarded = true "
    "allows it"
)


def require_local(config: ChainConfig) -> None:
    """Refuse a configuration with an endpoint on another machine.

    Raises
    ------
    ConfigError
        The message names the endpoint.
    """
    engine = config.block_engine
    for url in (config.cluster.rpc, *(engine.regions if engine is not None else ())):
        with _naming(config, "cluster.rpc"):
            address = Address.parse(url)
        if not address.is_loopback:
            raise ConfigError(
                f"{config.path}: {address.label} is not a local cluster: {_FORWARDED}"
            )


def require_local_genesis(config: ChainConfig, genesis: Hash) -> None:
    """Refuse a public cluster behind an address of this machine.

    Raises
    ------
    ConfigError
        The message names the cluster.
    """
    name = PUBLIC_CLUSTERS.get(str(genesis))
    if name is not None:
        raise ConfigError(f"{config.path}: cluster.rpc leads to {name}: {_FORWARDED}")


def tip_policy_of(config: ChainConfig) -> TipPolicy | None:
    """Return the tip policy; None without a block engine."""
    if config.block_engine is None:
        return None
    tip = config.tip
    if tip.policy == "fixed":
        return FixedTip(tip.lamports, tip.maximum)
    floor = tip_floor_of(config)
    return FloorPercentileTip(floor.fetch, tip.percentile, tip.maximum, tip.minimum)


def _file_of(config: ChainConfig, text: str) -> str:
    """Return the path of a file with a secret. The text may be the secret itself."""
    path = config.relative(text)
    if not os.path.lexists(path) and not _looks_like_a_path(text):
        raise KeyFileError("no such file; the text may be the key itself", path="(name not shown)")
    return path


def _looks_like_a_path(text: str) -> bool:
    """Return whether a message may repeat a text: no array, key, UUID or URL."""
    if _KEY.fullmatch(text.strip()) or text.lstrip().startswith(("[", "{")) or "://" in text:
        return False
    return len(text) <= A_WORD or "/" in text or "." in text


def _auth_of(path: str) -> Secret:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(error.strerror or "cannot be opened", path=path) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & ~0o600:
            raise KeyFileError("must be a regular file of mode 0600 or stricter", path=path)
        text = os.read(descriptor, MAX_AUTH_BYTES).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)
    try:
        return Secret(text, "auth_file")
    except ConfigError as error:
        why = str(error)
    # The raising frame must not hold the secret, and the error must have no context that holds it.
    del text
    raise KeyFileError(why, path=path)


def journal_path_of(config: ChainConfig, journal: str | None = None) -> str:
    """Return the path of the journal: the given one, or the configuration's.

    Raises
    ------
    ConfigError
        Neither is set.
    """
    path = journal or (config.relative(config.journal) if config.journal else None)
    if path is None:
        raise ConfigError(
            f"{config.path}: journal is missing: set it there, or give --journal; a crash must not "
            "lose what was sent"
        )
    return path


def inputs_of(config: ChainConfig) -> list[tuple[str, str]]:
    """Return the name and path of each file of a configuration."""
    signer, engine = config.signer, config.block_engine
    named = {
        "signer.key_file": signer.key_file,
        "signer.kill_file": signer.kill_file,
        "block_engine.auth_file": engine.auth_file if engine is not None else "",
    }
    return [
        ("configuration", config.path),
        *((key, config.relative(text)) for key, text in named.items() if text),
    ]


@contextmanager
def open_submission(
    config: ChainConfig,
    journal: str | None = None,
    observer: Observer | None = None,
    *,
    on_open: Callable[[SubmissionJournal], None] | None = None,
) -> Iterator[Submission]:
    """Open the files and connections of a configuration, and close them at the end.

    Parameters
    ----------
    config : ChainConfig
    journal : str, optional
        The journal's path, instead of the configuration's.
    observer : callable, optional
        See `Tally`.
    on_open : callable, optional
        Called with the journal once it is open, before the submitter reads it.

    Raises
    ------
    SolanaError, ConfigError
        Something cannot be opened; the message names it.
    """
    path = journal_path_of(config, journal)
    with ExitStack() as stack:
        carriers = carriers_of(config)
        signer = signer_of(config, carriers)
        rpc = rpc_of(config)
        stack.callback(rpc.close)
        engine = block_engine_of(config)
        if engine is not None:
            stack.callback(engine.close)
        opened = stack.enter_context(SubmissionJournal(path))
        if on_open is not None:
            on_open(opened)
        submitter = Submitter(
            rpc,
            engine,
            signer,
            carriers,
            tip_policy_of(config),
            opened,
            options=config.submit,
            capacity=config.queue.capacity,
            shedding=config.queue.shedding,
            observer=observer,
        )
        yield Submission(
            submitter=submitter,
            journal=opened,
            capacity=config.queue.capacity,
            deadline_s=config.deadline_s,
            payer=signer.pubkey,
            genesis=submitter.genesis,
            rpc=rpc.label,
            on_exit=config.submit.on_exit,
            block_engine=engine.label if engine is not None else None,
        )
