"""The part of `velox.numba_strategy` that needs numba: compile, refuse what is unsafe, call.

A strategy is compiled twice. The *body* is the user's function. It is compiled by itself, so that
its types can be looked at before it runs. The *entry* is a C function of the published signature.
It calls the body and looks at its status: an exception becomes a return value of the strategy, and
the exception itself is kept for the `velox.errors.StrategyError`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numba as _numba
import numba.extending as _extending
import numpy as np
import numpy.typing as npt
from llvmlite import ir as _llvm  # type: ignore[import-untyped]
from numba.core import cgutils as _cgutils
from numba.core import config as _config
from numba.core import ir as numba_ir
from numba.core.datamodel import models

from velox.core.records import TRANSACTION_DTYPE
from velox.errors import StrategyError
from velox.runtime import strategy_helpers
from velox.runtime.book_view import BOOK_VIEW_DTYPE
from velox.runtime.strategy import FIRST_KEPT, KEPT_EXCEPTIONS, exception_keeper
from velox.runtime.strategy_view import ORDER_DTYPE, STRATEGY_VIEW_DTYPE

__all__ = ["BOOK_VIEW", "ORDER", "TRANSACTION", "VIEW", "compiled_strategy", "signature"]

# numba is typed in part only.
numba: Any = _numba
types: Any = _numba.types
llvm: Any = _llvm
cgutils: Any = _cgutils
config: Any = _config
extending: Any = _extending

Function = Callable[..., int]

INT32, INT64 = llvm.IntType(32), llvm.IntType(64)
BYTES = llvm.IntType(8).as_pointer()
# A double holds every integer up to here.
EXACT_IN_FLOAT = 2**53
COMPARISONS = {
    operator.eq: "==",
    operator.ne: "!=",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.contains: "in",
}


# --- types --------------------------------------------------------------------------------------


class ReadOnlyType(types.Record):  # type: ignore[misc]
    """numba's type of a record that a strategy reads and must not write."""

    def __init__(self, record: Any, name: str, word: str) -> None:
        fields = [
            (name, {"type": each.type, "offset": each.offset, "alignment": each.alignment})
            for name, each in record.fields.items()
        ]
        super().__init__(fields, record.size, record.aligned)
        # The name is what tells one type of numba's from another.
        self.name = name
        # What its parameter is called, for a refusal.
        self.word = word


class BookViewType(ReadOnlyType):
    """A view, whose `depth` can be called."""


class StrategyViewType(BookViewType):
    """A view whose `order`, `find` and `wake_at` can be called too."""


class OrderType(ReadOnlyType):
    """An order of the table."""


for each in (BookViewType, StrategyViewType, OrderType):
    extending.register_model(each)(models.RecordModel)

TRANSACTION = numba.from_dtype(TRANSACTION_DTYPE)
BOOK_VIEW = BookViewType(numba.from_dtype(BOOK_VIEW_DTYPE), "velox_book_view", "book")
VIEW = StrategyViewType(numba.from_dtype(STRATEGY_VIEW_DTYPE), "velox_view", "view")
ORDER = OrderType(numba.from_dtype(ORDER_DTYPE), "velox_order", "an order of the table")


def signature(user_data: np.dtype[Any] | None, *, reports: bool = False) -> Any:
    """Return the signature of a strategy whose `user_data` are such elements, or bytes."""
    try:
        element = types.uint8 if user_data is None else numba.from_dtype(user_data)
    except numba.core.errors.NumbaError as error:
        raise StrategyError(
            f"user_data of {user_data}: numba knows no such elements", code="elements"
        ) from error
    pointer = types.CPointer
    view = VIEW if reports else BOOK_VIEW
    return types.int32(
        pointer(TRANSACTION), pointer(view), pointer(TRANSACTION), types.uint32, pointer(element)
    )


# --- book.depth ---------------------------------------------------------------------------------


@extending.intrinsic  # type: ignore[untyped-decorator]
def _depth(  # noqa: PLR0917 - numba passes them by position
    typing: Any, book: Any, side: Any, n: Any, prices: Any, quantities: Any
) -> Any:
    """Call the view's function pointer."""
    arguments = (book, types.uint8, types.int64, prices, quantities)

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        book, side, n, prices, quantities = values
        view = builder.bitcast(book, BYTES)

        def field(name: str, kind: Any) -> Any:
            offset = llvm.Constant(INT64, BOOK_VIEW.offset(name))
            return builder.load(builder.bitcast(builder.gep(view, [offset]), kind.as_pointer()))

        pointers = [
            context.make_array(of)(context, builder, value).data
            for of, value in zip(signature.args[3:], (prices, quantities), strict=True)
        ]
        function = llvm.FunctionType(
            INT64, [BYTES, llvm.IntType(8), INT64, *(each.type for each in pointers)]
        )
        return builder.call(
            field("depth", function.as_pointer()), [field("book", BYTES), side, n, *pointers]
        )

    return types.int64(*arguments), code


@extending.overload_method(BookViewType, "depth")  # type: ignore[untyped-decorator]
def _depth_method(book: Any, side: Any, prices: Any, quantities: Any) -> Any:
    for each in (prices, quantities):
        if not (
            isinstance(each, types.Array)
            and (each.dtype, each.ndim, each.layout) == (types.int64, 1, "C")
            and each.mutable
        ):
            raise numba.core.errors.TypingError(
                "book.depth(side, prices, quantities): prices and quantities must be contiguous "
                f"arrays of int64 in one dimension, not {each}"
            )
    if not isinstance(side, types.Integer):
        raise numba.core.errors.TypingError(
            f"book.depth(side, prices, quantities): side must be an integer, not {side}"
        )

    def depth(book: Any, side: Any, prices: Any, quantities: Any) -> Any:
        if side < 0 or side > 1:
            raise ValueError("book.depth: side must be 0 (bid) or 1 (ask)")
        if len(prices) != len(quantities):
            raise ValueError("book.depth: prices and quantities must have the same length")
        return _depth(book, side, len(prices), prices, quantities)

    return depth


# --- the view of a strategy that takes reports ---------------------------------------------------


def _field(builder: Any, record: Any, offset: int, kind: Any) -> Any:
    """Return the address of a record's field."""
    at = builder.gep(builder.bitcast(record, BYTES), [llvm.Constant(INT64, offset)])
    return builder.bitcast(at, kind.as_pointer())


@extending.intrinsic  # type: ignore[untyped-decorator]
def _wake_at(typing: Any, view: Any, ns: Any) -> Any:
    """Write the view's timer request."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        view, ns = values
        builder.store(ns, _field(builder, view, VIEW.offset("timer_at_ns"), INT64))
        return context.get_dummy_value()

    return types.none(view, types.uint64), code


@extending.intrinsic  # type: ignore[untyped-decorator]
def _order(typing: Any, view: Any, index: Any) -> Any:
    """Return an order of the table, whose index was checked."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        view, index = values
        slots = builder.load(_field(builder, view, VIEW.offset("orders"), BYTES))
        offset = builder.mul(index, llvm.Constant(INT64, ORDER.size))
        return builder.bitcast(builder.gep(slots, [offset]), context.get_value_type(ORDER))

    return ORDER(view, types.int64), code


@extending.overload_method(StrategyViewType, "wake_at")  # type: ignore[untyped-decorator]
def _wake_at_method(view: Any, ns: Any) -> Any:
    if not isinstance(ns, types.Integer):
        raise numba.core.errors.TypingError(
            f"view.wake_at(ns): ns must be an integer, in ns of the pipeline's clock, not {ns}"
        )
    signed = getattr(ns, "literal_type", ns).signed

    def wake_at(view: Any, ns: Any) -> Any:
        if signed and ns < 0:
            raise ValueError("view.wake_at: ns must not be negative")
        _wake_at(view, ns)

    return wake_at


@extending.overload_method(StrategyViewType, "order")  # type: ignore[untyped-decorator]
def _order_method(view: Any, index: Any) -> Any:
    if not isinstance(index, types.Integer):
        raise numba.core.errors.TypingError(f"view.order(i): i must be an integer, not {index}")

    def order(view: Any, index: Any) -> Any:
        if index < 0 or np.int64(index) >= np.int64(view.order_capacity):
            raise IndexError("view.order: there is no slot of this number")
        return _order(view, index)

    return order


@extending.overload_method(StrategyViewType, "find")  # type: ignore[untyped-decorator]
def _find_method(view: Any, order_id: Any) -> Any:
    if not isinstance(order_id, types.Integer):
        raise numba.core.errors.TypingError(
            f"view.find(order_id): order_id must be an integer, not {order_id}"
        )

    def find(view: Any, order_id: Any) -> Any:
        wanted = np.uint64(order_id)
        for index in range(np.int64(view.order_capacity)):
            each = _order(view, index)
            if each.id == wanted and strategy_helpers.works(each):
                return index
        return -1

    return find


# The helpers check their own indices: numba compiles them apart from the strategy.
for helper in strategy_helpers.COMPILED:
    extending.register_jitable(helper)


# --- compile ------------------------------------------------------------------------------------


def compiled_strategy(
    function: Function,
    state: npt.NDArray[Any] | None,
    boundscheck: bool,
    kept: list[BaseException],
    *,
    reports: bool = False,
    one_record: bool = False,
) -> Any:
    """Compile a function to a `numba.cfunc` of the published signature.

    Parameters
    ----------
    function : callable
        It takes record, book and out, and state if there is one.
    state : ndarray or None
    boundscheck : bool
        Whether an index outside an array raises IndexError.
    kept : list
        Receives each exception that the function raises. The caller keeps it alive as long as the
        result.
    reports : bool
        Whether it takes reports and timers, and so the longer view.
    one_record : bool
        Whether `state` is one record, which the function gets as such and not as an array.

    Raises
    ------
    StrategyError
        The function does something unsafe, or may return something that is no integer.
    Exception
        Whatever numba raises at what it cannot compile.
    """
    if boundscheck and config.BOUNDSCHECK == 0:
        raise StrategyError(
            "NUMBA_BOUNDSCHECK=0 turns the bounds checks off: unset it, or pass boundscheck=False",
            code="bounds",
        )
    entry = signature(None if state is None else state.dtype, reports=reports)
    body = numba.njit(error_model="numpy", boundscheck=boundscheck)(function)
    view = VIEW if reports else BOOK_VIEW
    arguments = [TRANSACTION, view, types.Array(TRANSACTION, 1, "C", aligned=False)]
    if one_record:
        arguments.append(entry.args[4].dtype)
    elif state is not None:
        arguments.append(types.Array(entry.args[4].dtype, state.ndim, "C", aligned=False))
    body.compile(tuple(arguments))
    result = body.overloads[tuple(arguments)]
    name = getattr(function, "__qualname__", repr(function))
    _require_integer(name, result.signature.return_type)
    _refuse_unsafe(name, result, boundscheck, set())
    call = _caller(result, id(kept))
    carray = numba.carray
    if state is None:

        def strategy(record, book, out, room, user_data):  # type: ignore[no-untyped-def]
            return call(room, carray(record, 1)[0], carray(book, 1)[0], carray(out, room))
    elif one_record:

        def strategy(record, book, out, room, user_data):  # type: ignore[no-untyped-def]
            return call(
                room,
                carray(record, 1)[0],
                carray(book, 1)[0],
                carray(out, room),
                carray(user_data, 1)[0],
            )
    else:
        shape = state.shape

        def strategy(record, book, out, room, user_data):  # type: ignore[no-untyped-def]
            return call(
                room,
                carray(record, 1)[0],
                carray(book, 1)[0],
                carray(out, room),
                carray(user_data, shape),
            )

    strategy.__name__ = getattr(function, "__name__", "strategy")
    return numba.cfunc(entry)(strategy)


def _require_integer(name: str, returned: Any) -> None:
    if isinstance(returned, types.Integer | types.Boolean):
        return
    if not (isinstance(returned, types.Literal) and isinstance(returned.literal_value, int)):
        raise StrategyError(
            f"{name} returns {returned}: every path of it must return how many transactions it "
            "wrote",
            code="returns",
        )


def _caller(result: Any, kept: int) -> Any:
    """Return an intrinsic that calls a compiled function and returns a strategy's int32.

    numba itself would print an exception and return 0. This one keeps it in the list at the
    address `kept`, and returns the number that finds it there.
    """

    def code(context: Any, builder: Any, _: Any, values: Any) -> Any:
        context.active_code_library.add_linking_library(result.library)
        status, made = context.call_internal_no_propagate(
            builder, result.fndesc, result.signature, values[1:]
        )
        returned = cgutils.alloca_once(builder, INT32)
        with builder.if_else(status.is_error, likely=False) as (failed, done):
            with failed:
                builder.store(_keep(context, builder, status, kept), returned)
            with done:
                builder.store(_narrowed(context, builder, made, values[0]), returned)
        return builder.load(returned)

    def _narrowed(context: Any, builder: Any, made: Any, room: Any) -> Any:
        """Narrow to 32 bits; what is no count of records stays none."""
        of = result.signature.return_type
        of = getattr(of, "literal_type", of)
        wide = context.cast(builder, made, of, types.uint64 if _is_unsigned(of) else types.int64)
        most = builder.zext(builder.add(room, llvm.Constant(INT32, 1)), INT64)
        if _is_unsigned(of):
            over = builder.icmp_unsigned(">", wide, most)
            return builder.trunc(builder.select(over, most, wide), INT32)
        least = llvm.Constant(INT64, FIRST_KEPT + KEPT_EXCEPTIONS)
        over = builder.icmp_signed(">", wide, most)
        under = builder.icmp_signed("<", wide, least)
        wide = builder.select(over, most, wide)
        return builder.trunc(builder.select(under, llvm.Constant(INT64, -1), wide), INT32)

    def typed(typing: Any, room: Any, *arguments: Any) -> Any:
        return types.int32(room, *arguments), code

    # numba wants the arguments by name.
    if len(result.signature.args) == 3:

        def call(typing: Any, room: Any, record: Any, book: Any, out: Any) -> Any:
            return typed(typing, room, record, book, out)

        return extending.intrinsic(call)

    def call_with_state(  # noqa: PLR0917 - numba passes them by position
        typing: Any, room: Any, record: Any, book: Any, out: Any, state: Any
    ) -> Any:
        return typed(typing, room, record, book, out, state)

    return extending.intrinsic(call_with_state)


def _is_unsigned(of: Any) -> bool:
    return isinstance(of, types.Integer) and not of.signed


def _keep(context: Any, builder: Any, status: Any, kept: int) -> Any:
    """Make the Python exception of a failed call, and keep it; returns the strategy's answer."""
    python = context.get_python_api(builder)
    gil = python.gil_ensure()
    context.call_conv.raise_error(builder, python, status)
    keeper = llvm.FunctionType(INT32, [BYTES])
    function = builder.inttoptr(llvm.Constant(INT64, exception_keeper()), keeper.as_pointer())
    answer = builder.call(function, [builder.inttoptr(llvm.Constant(INT64, kept), BYTES)])
    python.gil_release(gil)
    return answer


# --- what is refused ----------------------------------------------------------------------------


def _refuse_unsafe(name: str, result: Any, boundscheck: bool, seen: set[int]) -> None:
    """Refuse what compiles and may still do harm, in a function and in those that it calls."""
    if id(result) in seen:
        return
    seen.add(id(result))
    typed = result.type_annotation
    if isinstance(typed, str):  # it comes from numba's cache, which keeps no types
        raise StrategyError(
            f"{name} comes from numba's cache and cannot be checked: compile it without cache=True",
            code="compile",
        )
    _refuse_mixed_choice(name, typed)
    for block in typed.blocks.values():
        for statement in block.body:
            _refuse_write(name, typed, statement)
            value = getattr(statement, "value", None)
            if isinstance(value, numba_ir.Expr):
                _refuse_mixed(name, typed, value)
                if value.op == "call":
                    _refuse_unsafe_call(name, typed, value, boundscheck, seen)


def _refuse_write(name: str, typed: Any, statement: Any) -> None:
    writes = numba_ir.SetAttr | numba_ir.SetItem | numba_ir.StaticSetItem
    if isinstance(statement, writes):
        target = typed.typemap.get(statement.target.name)
        if isinstance(target, ReadOnlyType):
            raise StrategyError(
                f"{_place(name, statement.loc)} writes to {target.word}, which is read-only",
                code="read_only",
            )


def _refuse_unsafe_call(
    name: str, typed: Any, call: Any, boundscheck: bool, seen: set[int]
) -> None:
    called = typed.typemap.get(call.func.name)
    if not isinstance(called, types.Dispatcher):
        return
    helper = called.dispatcher
    result = helper.get_compile_result(typed.calltypes[call])
    helper_name = getattr(helper.py_func, "__qualname__", repr(helper))
    if boundscheck and not helper.targetoptions.get("boundscheck"):
        typemap = getattr(result.type_annotation, "typemap", {})
        if any(isinstance(each, types.Array) for each in typemap.values()):
            raise StrategyError(
                f"{_place(name, call.loc)} calls {helper_name}, which uses arrays and checks no "
                "bounds: compile it with numba.njit(boundscheck=True), or the strategy with "
                "boundscheck=False",
                code="bounds",
            )
    _refuse_unsafe(helper_name, result, boundscheck, seen)


def _refuse_mixed(name: str, typed: Any, value: Any) -> None:
    """Refuse what numba does to an int64 and a uint64 by way of floats."""
    typemap = typed.typemap
    if value.op in ("binop", "inplace_binop") and value.fn in COMPARISONS:
        left, right = (typemap[each.name] for each in (value.lhs, value.rhs))
        if _mixed([*_elements(left)], [*_elements(right)]):
            what = f"compares {_word(left)} {COMPARISONS[value.fn]} {_word(right)}"
            raise _float_error(name, value.loc, what)
    elif value.op == "call":
        called = typemap.get(value.func.name)
        key = getattr(called, "typing_key", None)
        module = getattr(key, "__module__", None) or ""
        if key in (min, max) or module.partition(".")[0] == "numpy":
            given = [typemap[each.name] for each in value.args]
            elements = [element for each in given for element in _elements(each)]
            if _mixed(elements, elements):
                what = f"calls {getattr(key, '__name__', key)} with " + " and ".join(
                    map(_word, given)
                )
                raise _float_error(name, value.loc, what)
    elif value.op == "arrayexpr":
        for function, leaves in _array_comparisons(value.expr):
            given = [typemap[each.name] for each in leaves]
            elements = [element for each in given for element in _elements(each)]
            if _mixed(elements, elements):
                what = f"compares {f' {COMPARISONS[function]} '.join(map(_word, given))}"
                raise _float_error(name, value.loc, what)


def _array_comparisons(expression: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Yield each comparison in an expression of arrays, and the variables in it."""
    if not isinstance(expression, tuple):
        return
    function, arguments = expression
    if function in COMPARISONS:
        yield function, [*_leaves(expression)]
    for each in arguments:
        yield from _array_comparisons(each)


def _leaves(expression: Any) -> Iterator[Any]:
    if isinstance(expression, tuple):
        for each in expression[1]:
            yield from _leaves(each)
    elif isinstance(expression, numba_ir.Var):
        yield expression


def _refuse_mixed_choice(name: str, typed: Any) -> None:
    """Refuse a variable that gets an int64 on one path and a uint64 on another."""
    sources: dict[str, list[Any]] = {}
    places: dict[str, Any] = {}
    for block in typed.blocks.values():
        for each in block.body:
            if (
                isinstance(each, numba_ir.Assign)
                and isinstance(each.value, numba_ir.Var)
                and isinstance(typed.typemap[each.target.name], types.Float)
            ):
                sources.setdefault(each.target.name, []).append(typed.typemap[each.value.name])
                places[each.target.name] = each.loc
    for variable, given in sources.items():
        if all(isinstance(each, types.Integer | types.IntegerLiteral) for each in given) and _mixed(
            given, given
        ):
            what = f"makes one value of {' and '.join(map(_word, given))}"
            raise _float_error(name, places[variable], what)


def _float_error(name: str, loc: Any, what: str) -> StrategyError:
    return StrategyError(
        f"{_place(name, loc)} {what}: numba would do that in floating point, which is exact only "
        "to 2**53; make both uint64 or both int64, such as np.uint64(x) or a state of np.uint64",
        code="floating",
    )


def _place(name: str, loc: Any) -> str:
    return f"{name} ({loc.filename}:{loc.line})"


def _word(of: Any) -> str:
    if isinstance(of, types.Array):
        return f"an array of {of.dtype}"
    return str(getattr(of, "literal_type", of))


def _elements(of: Any) -> Iterator[Any]:
    """Yield the numbers that a comparison of such a value looks at."""
    if isinstance(of, types.Array):
        yield of.dtype
    elif isinstance(of, types.BaseTuple):
        for each in of:
            yield from _elements(each)
    else:
        yield of


def _mixed(left: list[Any], right: list[Any]) -> bool:
    return any(
        (_wide(a, signed=True) and _wide(b, signed=False))
        or (_wide(a, signed=False) and _wide(b, signed=True))
        for a in left
        for b in right
    )


def _wide(of: Any, *, signed: bool) -> bool:
    """Whether it is a 64-bit integer of this kind that a float may not hold."""
    if isinstance(of, types.IntegerLiteral):
        if abs(of.literal_value) <= EXACT_IN_FLOAT:
            return False
        of = of.literal_type
    return isinstance(of, types.Integer) and of.bitwidth == 64 and of.signed == signed
