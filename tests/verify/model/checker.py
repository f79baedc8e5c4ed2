"""The checker from Python: one exploration, and how its findings are told."""

from __future__ import annotations

import ctypes
import importlib
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter

from .build import Tree, runtime_library

THREADS = 4
OUTCOMES = 64
PASSED, FAILED, UNSUPPORTED, UNFINISHED = range(4)
KINDS = ("load", "store", "update", "swap", "fence", "no news")
LOAD, STORE, UPDATE, SWAP, FENCE, IMPATIENCE = range(6)
ORDERS = ("relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst")
AT_END, NO_CHOICE = -1, -2
AS_WRITTEN, NO_ACQUIRE, NO_RELEASE, NO_FAILURE_ACQUIRE = range(4)
LIMITS = {
    1: "load buffering is possible on hardware, and was not explored",
    2: "stores of several threads to one word, of which not every order was explored",
    4: "sequentially consistent accesses, which are only approximated",
}


class Options(ctypes.Structure):
    _fields_ = (
        ("walks", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("most_executions", ctypes.c_uint64),
        ("most_steps", ctypes.c_uint64),
        ("spurious", ctypes.c_uint32),
        ("patience", ctypes.c_uint32),
        ("naive", ctypes.c_bool),
        ("sequential", ctypes.c_bool),
        ("replay", ctypes.c_char_p),
    )


class Result(ctypes.Structure):
    _fields_ = (
        ("verdict", ctypes.c_uint32),
        ("limits", ctypes.c_uint32),
        ("walks", ctypes.c_uint64),
        ("executions", ctypes.c_uint64),
        ("complete", ctypes.c_uint64),
        ("steps", ctypes.c_uint64),
        ("outcomes", ctypes.c_uint32),
        ("outcome", ctypes.c_uint64 * OUTCOMES),
        ("outcome_count", ctypes.c_uint64 * OUTCOMES),
        ("message", ctypes.c_char * 256),
        ("accesses", ctypes.c_size_t * 2),
    )


class Event(ctypes.Structure):
    _fields_ = (
        ("thread", ctypes.c_uint8),
        ("kind", ctypes.c_uint8),
        ("order", ctypes.c_uint8),
        ("written", ctypes.c_uint8),
        ("choice", ctypes.c_int16),
        ("position", ctypes.c_int16),
        ("read_from", ctypes.c_int32),
        ("offset", ctypes.c_uint32),
        ("seen", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("code", ctypes.c_size_t),
    )


class Site(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_size_t),
        ("kind", ctypes.c_uint8),
        ("order", ctypes.c_uint8),
        ("failure_order", ctypes.c_uint8),
        ("weakened", ctypes.c_uint8),
        ("executed", ctypes.c_uint64),
    )


class SharedObject(ctypes.Structure):
    _fields_ = (
        ("path", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Configuration:
    """One model with its sizes.

    Parameters
    ----------
    model, name : str
    parameters : mapping
        For the model's ``prepare``.
    spurious : int
        How often a weak compare-and-swap of each thread may fail for no reason.
    patience : int
        How often a bounded wait of each thread may end with no news.
    walks : int
        Random executions before the search.
    most : int
        Executions after which the search gives up.
    """

    model: str
    name: str
    parameters: Mapping[str, object]
    spurious: int = 1
    patience: int = 0
    walks: int = 200
    most: int = 20_000_000

    @property
    def label(self) -> str:
        return f"{self.model}/{self.name}"


@dataclass
class Finding:
    """What an exploration came to."""

    label: str
    verdict: int
    message: str
    limits: int
    walks: int
    executions: int
    complete: int
    steps: int
    seconds: float
    outcomes: dict[int, int]
    replay: str = ""
    trace: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.verdict == PASSED and not self.limits

    def explanation(self) -> str:
        """Why it did not pass; empty where it did."""
        said = [self.message] if self.message else []
        if self.verdict == UNFINISHED and not said:
            said.append("not all executions were explored")
        said += [text for bit, text in LIMITS.items() if self.limits & bit]
        return "; ".join(said)


@cache
def library() -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(runtime_library()))
    loaded.model_describe.restype = ctypes.c_char_p
    loaded.model_thread_name.restype = ctypes.c_char_p
    loaded.dladdr.argtypes = (ctypes.c_void_p, ctypes.POINTER(SharedObject))
    return loaded


def use(tree: Tree) -> None:
    """Import models, and the velox that they check, from a tree; once in a process."""
    if "velox" in sys.modules:
        raise RuntimeError("velox is imported already, and not from the tree to check")
    sys.path.insert(0, str(tree.directory))


def prepare(configuration: Configuration) -> object:
    checker = library()
    module = importlib.import_module(f"models.{configuration.model}")
    checker.model_begin()
    try:
        return module.prepare(**configuration.parameters)
    finally:
        checker.model_end()


def explore(
    configuration: Configuration,
    *,
    seed: int = 1,
    walks: int | None = None,
    replay: str | None = None,
    sequential: bool = False,
    most: int | None = None,
) -> Finding:
    kept = prepare(configuration)
    finding = explore_prepared(
        configuration.label,
        Options(
            walks=configuration.walks if walks is None else walks,
            seed=seed,
            most_executions=most or configuration.most,
            most_steps=60_000,
            spurious=configuration.spurious,
            patience=configuration.patience,
            sequential=sequential,
            replay=None if replay is None else replay.encode(),
        ),
    )
    del kept
    return finding


def explore_prepared(label: str, options: Options) -> Finding:
    checker, result = library(), Result()
    start = perf_counter()
    checker.model_explore(ctypes.byref(options), ctypes.byref(result))
    finding = Finding(
        label,
        result.verdict,
        result.message.decode(),
        result.limits,
        result.walks,
        result.executions,
        result.complete,
        result.steps,
        perf_counter() - start,
        {result.outcome[i]: result.outcome_count[i] for i in range(result.outcomes)},
    )
    if result.verdict in (FAILED, UNSUPPORTED):
        events = execution()
        finding.replay = choices(events)
        finding.trace = trace(events, [code for code in result.accesses if code])
    return finding


def execution() -> list[Event]:
    first = ctypes.POINTER(Event)()
    count = library().model_events(ctypes.byref(first))
    return [Event.from_buffer_copy(first[i]) for i in range(count)]


def sites() -> tuple[ctypes.Array[Site], int]:
    first = ctypes.POINTER(Site)()
    count = library().model_sites(ctypes.byref(first))
    return first, count  # type: ignore[return-value]


def choices(events: Iterable[Event]) -> str:
    """An execution as one word, for ``--replay``."""
    word = []
    for event in events:
        if event.thread >= THREADS:
            break
        if event.kind == IMPATIENCE:
            word.append("abcd"[event.thread] + "!")
        elif event.choice != NO_CHOICE:
            choice = "." if event.choice == AT_END else str(event.choice)
            word.append("abcd"[event.thread] + choice)
    return "".join(word)


def loaded_from(code: int) -> tuple[str, int]:
    """The shared object that holds an address, and the address within it."""
    info = SharedObject()
    library().dladdr(code, ctypes.byref(info))
    return info.path.decode(), code - info.base


def source_lines(codes: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Of each return address, the source lines of its call: the innermost first.

    More than one where functions were inlined.
    """
    by_object: dict[str, list[tuple[int, int]]] = {}
    for code in dict.fromkeys(codes):
        path, offset = loaded_from(code - 1)
        by_object.setdefault(path, []).append((code, offset))
    found = {}
    for path, addresses in by_object.items():
        lines = subprocess.run(
            ["addr2line", "-a", "-i", "-e", path, *(hex(offset) for _, offset in addresses)],
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        frames: list[list[str]] = []
        for line in lines:
            if line.startswith("0x"):
                frames.append([])
            else:
                frames[-1].append(tidy(line))
        for (code, _), chain in zip(addresses, frames, strict=True):
            found[code] = tuple(chain)
    return found


def source_text(tree: Tree, line: str) -> str:
    """The text of ``core/ring.pxd:12``."""
    name, _, number = line.rpartition(":")
    path = tree.directory / "velox" / name
    if not number.isdigit() or not path.exists():
        return ""
    return path.read_text(encoding="utf-8").splitlines()[int(number) - 1].strip()


def tidy(line: str) -> str:
    """``/where/it/was/built/velox/core/ring.pxd:12 (discriminator 3)`` → ``core/ring.pxd:12``."""
    line = line.split(" (", maxsplit=1)[0]
    # The last of them: the checkout itself may well be called velox.
    root = max(line.rfind("/velox/"), line.rfind("/models/"))
    return line[root + 1 :].removeprefix("velox/") if root >= 0 else Path(line).name


def trace(events: Sequence[Event], accesses: Sequence[int]) -> list[str]:
    """Return the execution, one line an operation.

    Consecutive loads of memory that no thread has written share one line.
    """
    codes = [event.code for event in events if event.code] + list(accesses)
    lines = source_lines(codes)
    rows: list[str] = []
    untouched = 0
    for number, event in enumerate(events):
        name = library().model_thread_name(event.thread).decode()
        after = events[number + 1] if number + 1 < len(events) else None
        if is_untouched(event) and after and is_untouched(after) and event.thread == after.thread:
            untouched += 1
            continue
        row = f"{number:4} {name:10} {describe(event):60} "
        if untouched:
            row += f"(and {untouched} before) "
        rows.append(row + (lines[event.code][0] if event.code else ""))
        untouched = 0
    rows += [f"     at {' < '.join(lines[code])}" for code in accesses]
    return rows


def is_untouched(event: Event) -> bool:
    return event.kind == LOAD and event.read_from < 0


def describe(event: Event) -> str:
    if event.kind == IMPATIENCE:
        return "waits no longer"
    order = ORDERS[event.order]
    if event.kind == FENCE:
        return f"fence {order}"
    within = ctypes.c_uint32()
    word = library().model_describe(event.offset, ctypes.byref(within)).decode()
    if within.value:
        word += f"+{within.value}"
    text = f"{KINDS[event.kind]} {order} {word}"
    if event.kind != STORE:
        source = f"of {event.read_from}" if event.read_from >= 0 else "initial"
        text += f" = {number_of(event.seen)} ({source})"
    if event.written:
        text += f" := {number_of(event.value)}"
    return text


def number_of(value: int) -> str:
    """Near 2**64, as the negative number that it also is."""
    return f"2^64-{2**64 - value}" if value > 2**63 else str(value)
