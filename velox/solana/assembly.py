"""A configuration's parts put together, and a cluster of one's own where nothing is configured."""

from __future__ import annotations

import os
import re
import shlex
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from velox.errors import ConfigError, EndpointRefusedError, KeyFileError
from velox.solana.config import ORDER_TYPES, ChainConfig, QueueConfig, SubmitOptions
from velox.solana.journal.file import SubmissionJournal
from velox.solana.net.address import Secret
from velox.solana.net.block_engine import TIP_FLOOR_URL, BlockEngineClient
from velox.solana.net.rpc import RpcClient
from velox.solana.net.tips import FixedTip, FloorPercentileTip, TipFloorClient, TipPolicy
from velox.solana.orders.outcomes import Observer
from velox.solana.submit.submitter import Submitter
from velox.solana.tx.carrier import Carrier, ManifestCarrier, MemoCarrier
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy

__all__ = [
    "Submission",
    "block_engine_of",
    "configured",
    "inputs_of",
    "journal_path_of",
    "local",
    "rpc_of",
    "tip_floor_of",
    "tip_policy_of",
]

# A local cluster's slots, and its payer's purse.
LOCAL_SLOT_NS = 50_000_000
LOCAL_LAMPORTS = 1_000_000_000_000
# Of a file with a UUID.
MAX_AUTH_BYTES = 1024
# A key in base 58 or in hex, or a UUID; and how long a name with neither folder nor suffix may be.
_KEY = re.compile(r"[0-9A-Za-z]{32,}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
A_WORD = 16


@dataclass(frozen=True, slots=True)
class Submission:
    """A submitter that is ready, and what to say about it.

    Attributes
    ----------
    submitter : Submitter
    journal : SubmissionJournal
    capacity : int
        Orders that may wait.
    deadline_s : float
        How long its end may wait for what is under way.
    description : str
        Where it sends.
    resumption : str
        The command that follows what this one leaves; empty where nothing can.
    """

    submitter: Submitter
    journal: SubmissionJournal
    capacity: int
    deadline_s: float
    description: str
    resumption: str = ""


@contextmanager
def _naming(config: ChainConfig, key: str) -> Iterator[None]:
    """Say of a value that turns out to be unusable in which file it is, and under which key."""
    path = f"{config.path}: " if config.path else ""
    try:
        yield
    except ConfigError as error:
        # It names the key itself.
        raise ConfigError(f"{path}{key.partition('.')[0]}.{error}") from error
    except (EndpointRefusedError, KeyFileError) as error:
        raise ConfigError(f"{path}{key}: {error}") from error


def carriers_of(config: ChainConfig) -> list[Carrier]:
    """Return the carriers of the markets, and of memos."""
    carriers: list[Carrier] = [
        ManifestCarrier(each.spec, order_type=ORDER_TYPES[each.order_type])
        for each in config.markets
    ]
    return [*carriers, MemoCarrier()] if config.memo else carriers


def signer_of(config: ChainConfig, carriers: Sequence[Carrier]) -> KeypairSigner:
    """Load the key, behind the policy that the configuration amounts to."""
    policy = SignerPolicy(
        programs=frozenset(each.program for each in carriers),
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
    """Return a client of the node."""
    with _naming(config, "cluster.rpc"):
        return RpcClient(
            config.cluster.rpc,
            timeout_s=config.cluster.timeout_s,
            retries=retries,
            allow_mainnet=config.cluster.allow_mainnet,
        )


def block_engine_of(config: ChainConfig) -> BlockEngineClient | None:
    """Return a client of the block engine, if there is one."""
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
    """Return a client of whoever publishes the tips that landed."""
    url = config.tip.floor_url or TIP_FLOOR_URL
    with _naming(config, "tip.floor_url"):
        return TipFloorClient(url, allow_mainnet=config.cluster.allow_mainnet)


def tip_policy_of(config: ChainConfig) -> TipPolicy | None:
    """Return what a bundle pays, if there are bundles."""
    if config.block_engine is None:
        return None
    tip = config.tip
    if tip.policy == "fixed":
        return FixedTip(tip.lamports, tip.maximum)
    floor = tip_floor_of(config)
    return FloorPercentileTip(floor.fetch, tip.percentile, tip.maximum, tip.minimum)


def _file_of(config: ChainConfig, text: str) -> str:
    """Return the path of a file with a secret; what names none may be that secret itself."""
    path = config.relative(text)
    if not os.path.lexists(path) and not _looks_like_a_path(text):
        raise KeyFileError(
            "no file is there, and it may be the key itself", path="a name not shown"
        )
    return path


def _looks_like_a_path(text: str) -> bool:
    """Whether one may repeat a text: no array, no key in base 58 or in hex, no UUID, no URL."""
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
    # No frame that raises holds what it read, and no error is raised while another one is handled.
    del text
    raise KeyFileError(why, path=path)


def journal_path_of(config: ChainConfig, journal: str | None = None) -> str:
    """Return where the journal is: as it is given, or as the configuration says.

    Raises
    ------
    ConfigError
        Neither says.
    """
    path = journal or (config.relative(config.journal) if config.journal else None)
    if path is None:
        raise ConfigError(
            f"{config.path}: journal is missing; name one there, or give --journal: what was sent "
            "must be known after a crash"
        )
    return path


def inputs_of(config: ChainConfig) -> list[tuple[str, str]]:
    """Name the files that a configuration consists of: what each is, and its path."""
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


def _journal_at(path: str, warn: Callable[[str], None] | None) -> SubmissionJournal:
    journal = SubmissionJournal(path)
    if warn is not None and journal.torn_path is not None:
        warn(
            f"{path}: {journal.torn_bytes:,} bytes after its last good frame were cut off and are "
            f"kept in {journal.torn_path}: a crash or a full disk leaves such, unsent; but a "
            "transaction in them, if it was sent, is not followed"
        )
    return journal


@contextmanager
def configured(
    config: ChainConfig,
    journal: str | None = None,
    observer: Observer | None = None,
    *,
    warn: Callable[[str], None] | None = None,
) -> Iterator[Submission]:
    """Open everything that a configuration names, and close it in the end.

    Parameters
    ----------
    config : ChainConfig
    journal : path, optional
        Instead of the configuration's.
    observer : callable, optional
        See `Tally`.
    warn : callable, optional
        Is told what a person can act on.

    Raises
    ------
    SolanaError, ConfigError
        Something cannot be opened; the message says what.
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
        opened = stack.enter_context(_journal_at(path, warn))
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
        way = rpc.label if engine is None else f"block engine {engine.label}, asking {rpc.label}"
        again = ["velox", "resume", config.path, *(["--journal", journal] if journal else [])]
        yield Submission(
            submitter,
            opened,
            config.queue.capacity,
            config.deadline_s,
            f"{way}, payer {signer.pubkey}",
            shlex.join(again),
        )


@contextmanager
def local(
    journal: str | None = None,
    observer: Observer | None = None,
    *,
    warn: Callable[[str], None] | None = None,
    slot_ns: int = LOCAL_SLOT_NS,
    clock: Callable[[], int] = time.monotonic_ns,
    **options: Any,
) -> Iterator[Submission]:
    """Start a cluster in this process, with a payer that dies with it; orders go into memos.

    Parameters
    ----------
    journal : path, optional
        A temporary file unless told: the cluster does not outlive the process anyway.
    observer : callable, optional
        See `Tally`.
    warn : callable, optional
        Is told what a person can act on.
    slot_ns : int
        Length of a slot.
    clock : callable
        Monotonic ns.
    **options
        Fields of `SubmitOptions`.
    """
    from velox.testing import LocalCluster  # noqa: PLC0415 - it loads a virtual machine

    with ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster(slots="real", slot_ns=slot_ns))
        carrier = MemoCarrier()
        signer = KeypairSigner.generate(
            SignerPolicy(
                programs=frozenset([carrier.program]),
                max_tip_lamports=0,
                max_spend_lamports_per_minute=LOCAL_LAMPORTS,
            )
        )
        cluster.fund(signer.pubkey, LOCAL_LAMPORTS)
        rpc = RpcClient(cluster.url, retries=0)
        stack.callback(rpc.close)
        if journal is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="velox-"))
            journal = os.path.join(folder, "journal")
        opened = stack.enter_context(_journal_at(journal, warn))
        capacity = QueueConfig().capacity
        submitter = Submitter(
            rpc,
            None,
            signer,
            carrier,
            None,
            opened,
            options=SubmitOptions(**{"poll_ns": slot_ns, **options}),
            capacity=capacity,
            observer=observer,
            clock=clock,
        )
        slots = f"{slot_ns / 1e6:g} ms slots"
        way = f"a local cluster at {cluster.url}, {slots}, by memo"
        yield Submission(submitter, opened, capacity, 30.0, way)
