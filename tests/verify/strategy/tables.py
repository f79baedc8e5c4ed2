"""A table of random writes and reads, the strategies that it drives, and what must come of it.

A table is an int64 array of `CALLS` + 1 rows. Its first row is the strategy's memory: how many
calls there were, an accumulator, and `SCRATCH` numbers. Row n says what call n does:

- whether it wipes its room first,
- what it returns,
- `OPERATIONS` times (code, index, field, value).
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

import velox
from velox.errors import StrategyError

__all__ = ["Table", "TableError", "check", "draw", "has_compiler", "has_numba"]

Array = npt.NDArray[Any]

SOURCE = Path(__file__).with_name("tables.c")
CALLS = 24
OPERATIONS = 6
WIDTH = 2 + 4 * OPERATIONS
SCRATCH = 8
ROOM = 16
WRITE, FORWARD, KEEP, LOAD, STORE, DEPTH = range(6)
FIELDS = ("id", "price", "size", "side", "kind", "flags", "market", "ingress_ts_ns")
BITS = (64, 64, 32, 8, 8, 8, 8, 64)
FAR = (
    -(2**40),
    -ROOM - 1,
    -ROOM,
    -SCRATCH - 1,
    -SCRATCH,
    -1,
    SCRATCH,
    ROOM,
    ROOM + 1,
    63,
    4_096,
    2**31,
    2**40,
)
TICKS = {0: 100, 3: 1}
REASONS = ("kind", "side", "market", "price", "off_tick", "size")


class TableError(AssertionError):
    """A run that a table drove did not come to what the model says."""


@dataclass(frozen=True)
class Table:
    """One run: what the strategy does, what comes in, and how the pipeline is set up.

    Attributes
    ----------
    seed : int
    native : bool
        Whether a C strategy reads it; else one of numba.
    rows : ndarray, shape (CALLS + 1, WIDTH), int64
    records : ndarray, TRANSACTION_DTYPE
    config : dict
        Of `velox.PipelineConfig.from_mapping`.
    """

    seed: int
    native: bool
    rows: Array
    records: Array
    config: dict[str, Any]


def has_compiler() -> bool:
    """Whether the C strategy can be made."""
    return shutil.which("gcc") is not None


def has_numba() -> bool:
    """Whether the one of numba can be made."""
    try:
        import numba  # noqa: F401, PLC0415
    except ImportError:
        return False
    return True


@functools.cache
def native_strategy() -> Any:
    """Compile the C strategy, once a process."""
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory, "tables.so")
        command = ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        command += [f"-I{velox.get_include()}", str(SOURCE), "-o", str(library)]
        subprocess.run(command, check=True)
        # The mapping outlives the file.
        return ctypes.CDLL(str(library)).velox_table_strategy


@functools.cache
def numba_strategy() -> velox.Strategy:
    """Compile the strategy of numba, once a process; its indices are checked by numba alone."""
    operations, scratch_size = OPERATIONS, SCRATCH

    @velox.numba_strategy(state=np.zeros((CALLS + 1, WIDTH), np.int64))
    def table_strategy(record, book, out, state):  # type: ignore[no-untyped-def] # noqa: PLR0912
        state[0, 0] += 1
        call = state[state[0, 0]]
        scratch = state[0, 2 : 2 + scratch_size]
        if call[0]:
            out["id"][:] = 0
            out["price"][:] = 0
            out["size"][:] = 0
            out["side"][:] = 0
            out["kind"][:] = 0
            out["flags"][:] = 0
            out["market"][:] = 0
            out["ingress_ts_ns"][:] = 0
        for place in range(operations):
            code = call[2 + 4 * place]
            index = call[3 + 4 * place]
            field = call[4 + 4 * place]
            value = call[5 + 4 * place]
            if code == 0:
                order = out[index]
                if field == 0:
                    order.id = value
                elif field == 1:
                    order.price = value
                elif field == 2:
                    order.size = value
                elif field == 3:
                    order.side = value
                elif field == 4:
                    order.kind = value
                elif field == 5:
                    order.flags = value
                elif field == 6:
                    order.market = value
                else:
                    order.ingress_ts_ns = value
            elif code == 1:
                out[index] = record
            elif code == 2:
                scratch[index] = value
            elif code == 3:
                state[0, 1] = scratch[index]
            elif code == 4:
                scratch[index] = np.int64(out[field].id) + state[0, 1]
            else:
                levels = np.empty((2, scratch_size), np.int64)
                if book.depth(field, levels[0, :index], levels[1, :index]) > index:
                    return -99
        return call[1]

    return table_strategy


# --- draw ---------------------------------------------------------------------------------------


def draw(seed: int) -> Table:
    """Draw a table; the same seed draws the same."""
    random = Random(seed)
    native = has_compiler() and (random.random() < 0.5 or not has_numba())
    rows = np.zeros((CALLS + 1, WIDTH), np.int64)
    # How often an index lies outside, and an answer is none.
    wild = 0.0 if native else random.choice([0.0, 0.002, 0.02])
    wrong = random.choice([0.0, 0.0, 0.02])
    for call in rows[1:]:
        call[0] = random.random() < 0.9
        call[1] = random.choice([0, 1, 1, 2, 3, random.randint(0, ROOM)])
        if random.random() < wrong:
            call[1] = random.choice([-1, -7, -(2**31), ROOM + 1, 2**31 - 1])
        most = int(call[1]) if 0 < call[1] <= ROOM else ROOM
        for place in range(2, WIDTH, 4):
            call[place : place + 4] = _operation(random, most, wild)
    return Table(seed, native, rows, _records(random), _config(random))


def _operation(random: Random, most: int, wild: float) -> list[int]:
    code = random.choice([WRITE, WRITE, FORWARD, FORWARD, KEEP, LOAD, STORE, DEPTH])
    limit = SCRATCH if code in (KEEP, LOAD, STORE) else most
    index = random.choice(FAR) if random.random() < wild else random.randrange(limit)
    field, value = random.randrange(len(FIELDS)), random.randint(-(2**63), 2**63 - 1)
    if code == WRITE and random.random() < 0.9:
        value = random.choice(
            [0, 0, 1, 2, 3, 5, 7, 8, 100, 1_000, 1_050, 2**32, 2**62, -1, 2**63 - 1]
        )
    elif code == STORE:
        field = random.choice(FAR) if random.random() < wild else random.randrange(most)
    elif code == DEPTH:
        index = random.randint(0, SCRATCH)
        field = random.randint(2, 300) if random.random() < wild else random.randrange(2)
    return [code, index, field, value]


def _records(random: Random) -> Array:
    count = random.randint(1, CALLS)
    records = np.zeros(count, velox.TRANSACTION_DTYPE)
    for number, record in enumerate(records, 1):
        record["id"] = number
        record["price"] = random.choice([100, 900, 1_000, 1_100, 1_200, 1_000_000])
        record["size"] = random.randint(1, 9)
        record["side"] = random.randrange(2)
        record["kind"] = random.choice([0, 0, 0, 1, 3, 4, 5, 6, 7])
        record["flags"] = random.randrange(256)
        record["market"] = random.choice([0, 0, 3])
        record["ingress_ts_ns"] = 10**9 + number
        if random.random() < 0.1:
            record["price"] = random.choice([0, -100, 1_001])
    return records


def _config(random: Random) -> dict[str, Any]:
    return {
        "placement": "invoker",
        "transaction_capacity": random.choice([16, 16, 32, 64, 4_096]),
        "bundle_capacity": random.choice([2, 8, 64]),
        "batch": random.choice([1, 3, 16, 256]),
        "on_bad_order": random.choice(["block", "block", "stop"]),
        "on_cross": random.choice(["count", "reject", "uncross", "match"]),
    }


# --- what must come of it -----------------------------------------------------------------------


@dataclass
class Expected:
    """What the model says: what leaves, what is blocked, and how the strategy ends."""

    passed: list[dict[str, int]]
    blocked: dict[str, int]
    scratch: list[int]
    emitted: int = 0
    known: bool = True
    failure: object = None  # IndexError, ValueError, a number returned, or a reason


def expected(table: Table, applied: Array) -> Expected:
    """Run the table over the applied records, in Python alone."""
    scratch, accumulator = [0] * SCRATCH, [0]
    model = Expected([], dict.fromkeys(REASONS, 0), scratch)
    for record, call in zip(applied, table.rows[1:].tolist(), strict=False):
        out = [dict.fromkeys(FIELDS, 0) for _ in range(ROOM)]
        # What an earlier call left in the room is not promised to be there, or to be gone.
        model.known &= bool(call[0])
        try:
            for place in range(2, WIDTH, 4):
                _operate(call[place : place + 4], record, out, scratch, accumulator)
        except (IndexError, ValueError) as error:
            model.failure = type(error)
            return model
        made = call[1]
        if not 0 <= made <= ROOM:
            # numba narrows what it returns; C returns it as it is.
            model.failure = made if table.native or made < 0 else ROOM + 1
            if not table.native and made == -(2**31):
                model.failure = -1
            return model
        reasons = [_fault(each) for each in out[:made]]
        if table.config["on_bad_order"] == "stop" and any(reasons):
            model.failure = next(filter(None, reasons))
            return model
        model.emitted += made
        for each, reason in zip(out, reasons, strict=False):
            if reason is not None:
                model.blocked[reason] += 1
            else:
                model.passed.append(each)
    return model


def _operate(
    operation: list[int],
    record: Any,
    out: list[dict[str, int]],
    scratch: list[int],
    accumulator: list[int],
) -> None:
    code, index, field, value = operation
    if code == WRITE:
        out[index][FIELDS[field]] = _held(field, value)
    elif code == FORWARD:
        out[index] = {name: int(record[name]) for name in FIELDS}
    elif code == KEEP:
        scratch[index] = value
    elif code == LOAD:
        accumulator[0] = scratch[index]
    elif code == STORE:
        order = out[field]
        total = order["id"] + accumulator[0]
        scratch[index] = (total + 2**63) % 2**64 - 2**63
    elif field not in (0, 1):
        raise ValueError("side")


def _held(field: int, value: int) -> int:
    """What a field holds after a value was written to it."""
    value %= 2 ** BITS[field]
    return value - 2**64 if FIELDS[field] == "price" and value >= 2**63 else value


def _fault(order: dict[str, int]) -> str | None:
    """Why no book could take a record, as the documentation has it."""
    kind, price, tick = order["kind"], order["price"], TICKS.get(order["market"])
    has_price = kind not in (6, 7)
    wide = kind == 4 and order["id"] >= 2**63
    faults = {
        "kind": kind > 7,
        "side": order["side"] > 1,
        "market": tick is None,
        "price": has_price and price <= 0,
        "off_tick": has_price and tick is not None and price % tick != 0,
        "size": wide or (kind in (0, 1, 2) and order["size"] == 0),
    }
    return next((reason for reason, faulty in faults.items() if faulty), None)


# --- check --------------------------------------------------------------------------------------


def _books(table: Table) -> velox.Books:
    return velox.Books(
        [
            velox.OrderBook(64, tick, market=market, on_cross=table.config["on_cross"])
            for market, tick in TICKS.items()
        ]
    )


def check(table: Table, folder: Path) -> Expected:
    """Run a table, and compare all that comes of it with the model.

    Raises
    ------
    TableError
        Something differs; the message has the seed.
    """
    strategy: Any = native_strategy() if table.native else numba_strategy()
    rows = table.rows.copy()
    capture = folder / "out.npy"
    capture.unlink(missing_ok=True)
    books = _books(table)
    pipeline = velox.Pipeline(
        velox.ReplayIngress(table.records, speed=1.0),
        velox.CaptureOutput(capture),
        strategy=velox.Strategy(strategy, user_data=rows),
        books=books,
        config=velox.PipelineConfig.from_mapping(table.config),
    )
    failed: StrategyError | None = None
    try:
        pipeline.run()
    except StrategyError as error:
        failed = error
    ledger = pipeline.ledger()
    _require(table, ledger.balanced, f"the ledger does not balance: {ledger.equations()}")
    # What the books took is what plain books take, whatever the strategy did.
    plain = _books(table)
    entered = table.records[: ledger.pushed]
    taken = [each for each in entered if _applies(plain, each)]
    applied = np.array(taken, velox.TRANSACTION_DTYPE)
    _require(table, len(applied) == ledger.applied, "another number of records was applied")
    for market, book in books.items():
        same = np.array_equal(book.depth(64), plain[market].depth(64))
        _require(table, same, f"the book of market {market} differs")
    model = expected(table, applied)
    delivered = _delivered(capture)
    _require(table, ledger.passed == len(delivered), "what passed is not what was delivered")
    if model.known:
        _compare(table, model, ledger, failed, delivered)
        _require(table, rows[0, 2 : 2 + SCRATCH].tolist() == model.scratch, "the scratch differs")
    return model


def _applies(books: velox.Books, record: Any) -> bool:
    result = books.apply(np.array([record], velox.TRANSACTION_DTYPE))
    return bool(result.applied)


def _compare(
    table: Table,
    model: Expected,
    ledger: Any,
    failed: StrategyError | None,
    delivered: Array,
) -> None:
    found: object = None
    if failed is not None:
        found = failed.reason if failed.reason is not None else failed.returned
        if found is None:
            found = type(failed.__cause__)
    _require(table, found == model.failure, f"ended by {found}, expected {model.failure}")
    _require(table, ledger.emitted == model.emitted, "another number of records was emitted")
    blocked = {name: ledger.blocked[name] for name in REASONS}
    _require(table, blocked == model.blocked, f"blocked {blocked}, expected {model.blocked}")
    _require(table, len(delivered) == len(model.passed), "another number of records was delivered")
    for left, wanted in zip(delivered, model.passed, strict=True):
        for name in FIELDS:
            # A time of 0 becomes that of the record.
            if name != "ingress_ts_ns" or wanted[name]:
                same = int(left[name]) == wanted[name]
                _require(table, same, f"{name} is {left[name]}, expected {wanted[name]}")


def _delivered(capture: Path) -> Array:
    bundles = np.load(capture)
    inside = np.arange(ROOM)[np.newaxis, :] < bundles["count"][:, np.newaxis]
    found: Array = bundles["transactions"][inside]
    return found


def _require(table: Table, holds: bool, what: str) -> None:
    if not holds:
        language = "C" if table.native else "numba"
        raise TableError(f"table {table.seed} ({language}): {what}")
