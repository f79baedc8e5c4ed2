"""`velox.strategy`: strategies in Python with a typed view and state, loaded by name."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import Array, compiled, orders, refused
from velox import (
    REPORT_RECORD_DTYPE,
    TRANSACTION_DTYPE,
    CaptureOutput,
    Instrument,
    Kind,
    Pipeline,
    PipelineConfig,
    ReplayIngress,
    Side,
    get_include,
    strategy,
)
from velox.errors import StrategyError

pytest.importorskip("numba")

OFFSETS = """
#include <velox/strategy.h>
#define F(s, f) offsetof(s, f)
const uint64_t view[] = {
    F(velox_view, size), F(velox_view, version), F(velox_view, price_decimals),
    F(velox_view, feed_state), F(velox_view, inventory), F(velox_view, cash),
    F(velox_view, fees), F(velox_view, open_bid), F(velox_view, open_ask),
    F(velox_view, orders), F(velox_view, order_capacity), F(velox_view, order_slot),
    F(velox_view, timer_at_ns), F(velox_view, market_ns), F(velox_view, inventory_lots),
    F(velox_view, reserved)};
const uint64_t order[] = {
    F(velox_order, id), F(velox_order, price), F(velox_order, leaves), F(velox_order, filled),
    F(velox_order, ahead), F(velox_order, sent_ns), F(velox_order, state), F(velox_order, side),
    F(velox_order, flags), F(velox_order, market), F(velox_order, reason),
    F(velox_order, venue_ns), F(velox_order, sequence)};
"""


def run(
    made: strategy.Strategy, records: Array, *, reports: Array | None = None, **config: Any
) -> Any:
    """Replay records at their own times, a millisecond apart, on the virtual clock."""
    pipeline = Pipeline(
        ReplayIngress(records, speed=1.0),
        strategy=made,
        config=PipelineConfig(placement="invoker", **config),
    )
    if reports is not None:
        assert pipeline.reports.push(reports) == len(reports)
    return pipeline.run()


def market(count: int, **fields: Any) -> Array:
    due = 1_000_000 * (1 + np.arange(count, dtype=np.uint64))
    return orders(count, **{"ingress_ts_ns": due, **fields})


# The view and the state


def test_the_dtypes_are_those_of_the_header(tmp_path: Path) -> None:
    source = tmp_path / "offsets.c"
    source.write_text(OFFSETS, encoding="utf-8")
    library = compiled(source, tmp_path)
    book = len(strategy.STRATEGY_VIEW_DTYPE.names or ()) - 16
    view = list((ctypes.c_uint64 * 16).in_dll(library, "view"))
    fields = strategy.STRATEGY_VIEW_DTYPE.fields or {}
    assert view == [offset for _, offset in list(fields.values())[book:]]  # type: ignore[misc]
    order = list((ctypes.c_uint64 * 13).in_dll(library, "order"))
    slots = strategy.ORDER_DTYPE.fields or {}
    assert order == [offset for _, offset in slots.values()]  # type: ignore[misc]
    assert strategy.STRATEGY_VIEW_DTYPE.itemsize == 256
    assert strategy.ORDER_DTYPE.itemsize == 64


def test_a_state_is_one_record_of_typed_fields() -> None:
    ids = np.zeros(3, np.uint64)
    made = strategy.state(spread=2, share=0.5, next_id=np.uint64(7), on=True, ids=ids)
    assert made.shape == (1,)
    assert [made.dtype[name].base.str for name in made.dtype.names or ()] == [
        "<i8", "<f8", "<u8", "<i8", "<u8",
    ]  # fmt: skip
    assert made["ids"].shape == (1, 3)
    assert made["next_id"][0] == 7


@pytest.mark.parametrize("bad", [{}, {"name": "text"}, {"big": 2**63}, {"none": None}])
def test_a_state_takes_numbers_alone(bad: dict[str, Any]) -> None:
    with pytest.raises(StrategyError):
        strategy.state(**bad)


def test_a_compiled_function_reads_like_python() -> None:
    state = strategy.state(
        adds=0, reports=0, timers=0, fills=0, decimals=0, market_ns=np.uint64(0), bid=0, size=0
    )

    @strategy.compile(state=state)
    def listen(record, view, out, state):  # type: ignore[no-untyped-def]
        if record.kind == strategy.TIMER:
            state.timers += 1
            return 0
        if record.kind >= strategy.FIRST_REPORT:
            state.reports += 1
            if record.kind == strategy.FILLED:
                state.fills += record.size
            return 0
        state.adds += 1
        state.decimals = view.price_decimals
        state.market_ns = view.market_ns
        state.bid = view.bid_price
        state.size = view.size
        view.wake_at(view.now_ns + np.uint64(500))
        return 0

    assert listen.reports
    told = np.zeros(2, REPORT_RECORD_DTYPE)
    told["kind"], told["size"] = [Kind.FILLED, Kind.PLACED], 3
    run(listen, market(2), reports=told)
    assert state[0].tolist() == (2, 2, 1, 3, 4, 2_000_000, 1_000_000, 256)


def test_orders_are_written_by_the_helpers(tmp_path: Path) -> None:
    @strategy.compile
    def make(record, view, out):  # type: ignore[no-untyped-def]
        n = strategy.add(out, 0, 2**63, strategy.ASK, 1_010_000, 5, record.market, 3)
        return strategy.cancel(out, n, record.id, strategy.BID, record.price, 1, record.market)

    path = tmp_path / "out.npy"
    Pipeline(
        ReplayIngress(market(1)),
        CaptureOutput(path),
        strategy=make,
        books=[Instrument(tick_size=10_000)],
        config=PipelineConfig(placement="invoker"),
    ).run()
    sent = np.load(path)["transactions"][0][:2]
    assert sent[0].tolist()[:7] == (2**63, 1_010_000, 5, Side.ASK, Kind.ADD, 3, 0)
    assert sent[1].tolist()[:7] == (1, 1_000_000, 1, Side.BID, Kind.CANCEL, 0, 0)
    # The same in Python.
    room = np.zeros(16, TRANSACTION_DTYPE)
    n = strategy.add(room, 0, 2**63, strategy.ASK, 1_010_000, 5, 0, 3)
    assert strategy.cancel(room, n, 1, strategy.BID, 1_000_000, 1, 0) == 2
    assert room[0].tolist()[:7] == sent[0].tolist()[:7]
    assert room[1].tolist()[:7] == sent[1].tolist()[:7]


@pytest.mark.parametrize("n", [16, -1])
def test_a_helper_checks_the_room(n: int) -> None:
    state = strategy.state(n=n)

    @strategy.compile(state=state, boundscheck=False)
    def too_far(record, view, out, state):  # type: ignore[no-untyped-def]
        return strategy.add(out, state.n, 1, 0, 1_000_000, 1, 0)

    with pytest.raises(StrategyError, match="out has no room"):
        run(too_far, market(1))
    with pytest.raises(IndexError):
        strategy.add(np.zeros(16, TRANSACTION_DTYPE), n, 1, 0, 1_000_000, 1, 0)


def test_a_slot_outside_the_table_is_an_error() -> None:
    @strategy.compile
    def look(record, view, out):  # type: ignore[no-untyped-def]
        return np.int64(view.order(view.order_capacity).leaves)

    with pytest.raises(StrategyError, match="there is no slot of this number"):
        run(look, market(1))


def test_an_order_that_is_not_in_the_table_is_not_found() -> None:
    state = strategy.state(found=7)

    @strategy.compile(state=state)
    def look(record, view, out, state):  # type: ignore[no-untyped-def]
        state.found = view.find(12345)
        return 0

    run(look, market(1))
    assert state["found"][0] == -1


def test_a_time_under_zero_is_an_error() -> None:
    @strategy.compile
    def wake(record, view, out):  # type: ignore[no-untyped-def]
        view.wake_at(np.int64(view.size) - 257)
        return 0

    with pytest.raises(StrategyError, match="must not be negative"):
        run(wake, market(1))


def test_depth_can_be_called_on_the_longer_view() -> None:
    state = strategy.state(prices=np.zeros(4, np.int64), quantities=np.zeros(4, np.int64), found=0)

    @strategy.compile(state=state)
    def look(record, view, out, state):  # type: ignore[no-untyped-def]
        state.found = view.depth(strategy.BID, state.prices, state.quantities)
        return 0

    run(look, market(3, price=[1_000_000, 990_000, 1_010_000], size=[1, 2, 3]))
    assert state["found"][0] == 3
    assert state["prices"][0].tolist() == [1_010_000, 1_000_000, 990_000, 0]
    assert state["quantities"][0].tolist() == [3, 1, 2, 0]


def test_what_is_unsafe_is_refused_with_its_line() -> None:
    def writes_view(record, view, out):  # type: ignore[no-untyped-def]
        view.timer_at_ns = record.id
        return 0

    def writes_order(record, view, out):  # type: ignore[no-untyped-def]
        order = view.order(0)
        order.leaves = 3
        return 0

    def mixes(record, view, out):  # type: ignore[no-untyped-def]
        return 1 if record.id > view.inventory else 0

    def no_field(record, view, out):  # type: ignore[no-untyped-def]
        return view.inventori

    for function, words in {
        writes_view: "writes to view, which is read-only",
        writes_order: "writes to an order of the table, which is read-only",
        mixes: "compares uint64 > int64",
        no_field: "a record has no field 'inventori'",
    }.items():
        with pytest.raises(StrategyError, match=words) as caught:
            strategy.compile(function)
        line = function.__code__.co_firstlineno
        assert any(f"{Path(__file__).name}:{line + after}" in str(caught.value) for after in (1, 2))


def test_an_exception_has_its_words() -> None:
    @strategy.compile
    def give_up(record, view, out):  # type: ignore[no-untyped-def]
        if record.kind == strategy.REJECTED:
            raise ValueError("the venue does not want us")
        return 0

    told = np.zeros(1, REPORT_RECORD_DTYPE)
    told["kind"] = Kind.REJECTED
    with pytest.raises(StrategyError, match="the venue does not want us"):
        run(give_up, market(1), reports=told)


def test_an_old_function_gets_no_reports_unless_it_asks() -> None:
    import velox  # noqa: PLC0415

    state = np.zeros(2, np.int64)

    def count(record, book, out, state):  # type: ignore[no-untyped-def]
        state[0] += 1
        state[1] += record.kind >= 16
        return 0

    assert not velox.numba_strategy(count, state=state).reports
    asked = velox.numba_strategy(count, state=state, reports=True)
    assert asked.reports
    told = np.zeros(2, REPORT_RECORD_DTYPE)
    told["kind"] = Kind.PLACED
    run(asked, market(3), reports=told)
    assert state.tolist() == [5, 2]


def test_a_cfunc_says_by_its_signature_that_it_takes_reports() -> None:
    import numba  # noqa: PLC0415

    import velox  # noqa: PLC0415

    def quiet(record, view, out, room, user_data):  # type: ignore[no-untyped-def]
        return 0

    short = numba.cfunc(velox.strategy_signature())(quiet)
    long = numba.cfunc(velox.strategy_signature(reports=True))(quiet)
    assert not velox.Strategy(short).reports
    assert velox.Strategy(long).reports
    with pytest.raises(StrategyError):
        velox.Strategy(short, reports=True)


# Loading


SOURCE = """
import numpy as np
from velox import strategy

state = strategy.state(spread=2, share=0.5, next_id=np.uint64(1), levels=np.zeros(3, np.int64))

@strategy.compile(state=state)
def quote(record, view, out, state):
    return 0

def plain(record, view, out):
    return 0

nothing = 3.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "quotes.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_file_is_loaded_with_parameters_of_their_types(file: Path) -> None:
    given = {"spread": "-7", "share": "1e-3", "next_id": str(2**64 - 1), "levels": "1,2,3"}
    made = strategy.load(f"{file}:quote", given)
    assert made.reports
    assert made.state is not None
    assert made.state[0].tolist()[:3] == (-7, 0.001, 2**64 - 1)
    assert made.source is not None
    assert made.source.name == f"{file}:quote"
    assert made.source.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert made.source.parameters == {
        "spread": -7, "share": 0.001, "next_id": 2**64 - 1, "levels": [1, 2, 3],
    }  # fmt: skip
    report = run(made, market(2))
    assert report.to_dict()["strategy"] == made.source.to_dict()
    assert f"{file}:quote, sha256 {made.source.digest[:16]}" in str(report)


def test_a_file_loaded_twice_has_two_states(file: Path) -> None:
    first = strategy.load(f"{file}:quote", {"spread": 5})
    second = strategy.load(f"{file}:quote")
    assert strategy.parameters_of(first)["spread"] == 5
    assert strategy.parameters_of(second)["spread"] == 2


def test_a_module_is_loaded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    try:
        made = strategy.load("quotes:quote", {"spread": 3})
    finally:
        sys.modules.pop("quotes", None)
    assert strategy.parameters_of(made)["spread"] == 3


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        ("spred", "1", "did you mean 'spread'"),
        ("spread", "1.5", "must be an integer"),
        ("spread", 1.5, "must be an integer"),
        ("spread", "x", "must be an integer"),
        ("spread", str(2**63), "must be an integer, -9223372036854775808 to 9223372036854775807"),
        ("next_id", "-1", "must be an integer, 0 to 18446744073709551615"),
        ("share", "nan", "must be a finite number"),
        ("share", "half", "must be a number"),
        ("levels", "1,2", "takes 3 values, and 2 were given"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused(
    file: Path, parameter: str, value: Any, words: str
) -> None:
    with pytest.raises(StrategyError, match=words) as caught:
        strategy.load(f"{file}:quote", {parameter: value})
    assert str(caught.value).startswith(f"{parameter} = {value!r}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quotes.py", "must be FILE.py:name"),
        ("other.py:quote", "there is no file 'other.py'"),
        ("quotes.py:quot", "has no 'quot'; did you mean 'quote'"),
        ("quotes.py:plain", "compile it with @velox.strategy.compile"),
        ("quotes.py:nothing", "3.5 is no strategy"),
        ("no_such_module:quote", "there is no module 'no_such_module'"),
        ("syntax.py:quote", "syntax.py:2: invalid syntax"),
        ("raises.py:quote", "raises.py:3: ZeroDivisionError"),
        ("imports.py:quote", "imports.py:1: ModuleNotFoundError: No module named 'no_such'"),
        ("wrong.py:quote", r"\(.*wrong.py:4\): a record has no field 'nothing'"),
        ("quotes.so:quote", "there is no file 'quotes.so'"),
        ("text.so:quote", "text.so: "),
    ],
)
def test_what_cannot_be_loaded_says_why(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(file.parent)
    texts = {
        "syntax.py": "import velox\ndef quote(:\n",
        "raises.py": "import velox\n\nquote = 1 / 0\n",
        "imports.py": "import no_such\n",
        "wrong.py": "from velox import strategy\n@strategy.compile\ndef quote(record, view, out):\n"
        "    return view.nothing\n",
        "text.so": "no library\n",
    }
    for each, text in texts.items():
        Path(each).write_text(text, encoding="utf-8")
    with pytest.raises(StrategyError, match=words) as caught:
        strategy.load(name)
    assert str(caught.value).startswith(f"strategy = {name!r}: ")


def test_a_strategy_without_named_fields_takes_no_parameters(tmp_path: Path) -> None:
    path = tmp_path / "array.py"
    path.write_text(
        "import numpy as np\nimport velox\n\n"
        "@velox.numba_strategy(state=np.zeros(3, np.int64))\n"
        "def quote(record, book, out, state):\n    return 0\n",
        encoding="utf-8",
    )
    made = strategy.load(f"{path}:quote")
    assert not made.reports
    assert made.source is not None
    assert made.source.parameters == {}
    with pytest.raises(StrategyError, match="no named fields"):
        strategy.load(f"{path}:quote", {"spread": 1})


LIBRARY = """
#include <velox/strategy.h>

typedef struct state { int64_t spread; double share; uint64_t calls; uint64_t next_id; } state;

int32_t quote(const velox_transaction *record, velox_view *view, velox_transaction *out,
              uint32_t room, void *user_data)
{
    state *self = (state *)user_data;
    (void)view; (void)out; (void)room;
    self->calls++;
    return record->kind == VELOX_FILLED && self->spread == 9 ? -5 : 0;
}

static const velox_parameter parameters[] = {
    {"spread", VELOX_INT64, offsetof(state, spread)},
    {"share", VELOX_FLOAT64, offsetof(state, share)},
    {"next_id", VELOX_UINT64, offsetof(state, next_id)},
};
static const state first = {3, 0.25, 0, 100};

#ifdef __cplusplus
extern "C"
#endif
const velox_strategy_info quote_info = {
    sizeof(velox_strategy_info), 3, sizeof(state), &first, parameters, 3};

int32_t plain(const velox_transaction *record, const velox_book_view *book,
              velox_transaction *out, uint32_t room, void *user_data)
{
    (void)record; (void)book; (void)out; (void)room; (void)user_data;
    return 0;
}

int32_t newer(void) { return 0; }
const velox_strategy_info newer_info = {sizeof(velox_strategy_info), 4, 0, 0, 0, 0};
static const velox_parameter outside[] = {{"far", VELOX_INT64, 8}};
int32_t wrong(void) { return 0; }
const velox_strategy_info wrong_info = {sizeof(velox_strategy_info), 3, 8, 0, outside, 1};
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    (folder / "quotes.c").write_text(LIBRARY, encoding="utf-8")
    return Path(compiled(folder / "quotes.c", folder)._name)


def test_a_library_tells_its_version_state_and_parameters(library: Path) -> None:
    assert Path(get_include()).is_dir()
    made = strategy.load(f"{library}:quote", {"next_id": str(2**63)})
    assert made.reports
    assert made.source is not None
    assert made.source.parameters == {"spread": 3, "share": 0.25, "next_id": 2**63}
    told = np.zeros(1, REPORT_RECORD_DTYPE)
    told["kind"] = Kind.FILLED
    run(made, market(3), reports=told)
    assert made.state is not None
    assert made.state.view("<u8")[2] == 4
    with refused(StrategyError, returned=-5):
        run(strategy.load(f"{library}:quote", {"spread": 9}), market(3), reports=told)


def test_a_library_that_tells_nothing_is_of_version_2(library: Path) -> None:
    made = strategy.load(f"{library}:plain")
    assert not made.reports
    run(made, market(1))
    with pytest.raises(StrategyError, match="no named fields"):
        strategy.load(f"{library}:plain", {"spread": 1})


@pytest.mark.parametrize(
    ("symbol", "words"),
    [
        ("missing", "has no symbol 'missing'"),
        ("newer", "version 4; this Velox takes versions 2 and 3"),
        ("wrong", "parameter b'far' has type 0 and offset 8, in a state of 8 bytes"),
    ],
)
def test_a_library_that_cannot_be_used_says_why(library: Path, symbol: str, words: str) -> None:
    with pytest.raises(StrategyError, match=words):
        strategy.load(f"{library}:{symbol}")
