"""Any compiled function with the published signature, as a `Strategy`."""

import ctypes

cimport cython
import numpy as np
from cpython.exc cimport PyErr_Fetch, PyErr_NormalizeException
from cpython.ref cimport Py_XDECREF, PyObject
from cpython.pycapsule cimport (
    PyCapsule_CheckExact,
    PyCapsule_GetContext,
    PyCapsule_GetName,
    PyCapsule_GetPointer,
)

from velox.core.memory cimport STATIC_ASSERT

from velox.errors import StrategyError

cdef extern from "Python.h":
    int PyException_SetTraceback(object exception, object traceback)

cdef extern from "velox/strategy.h":
    const char *CAPSULE_NAME "VELOX_STRATEGY_CAPSULE"
    const char *FEEDBACK_CAPSULE_NAME "VELOX_FEEDBACK_CAPSULE"
    enum:
        PUBLISHED_ROOM "VELOX_STRATEGY_ROOM"
        PUBLISHED_VERSION "VELOX_VIEW_VERSION"
    ctypedef struct published_strategy_view "velox_view":
        pass
    ctypedef struct published_order "velox_order":
        pass
    ctypedef struct published_view "velox_book_view":
        pass
    ctypedef struct published_transaction "velox_transaction":
        pass

__all__ = ["Strategy"]


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(book_view) == sizeof(published_view))
    STATIC_ASSERT(sizeof(Transaction) == sizeof(published_transaction))
    STATIC_ASSERT(STRATEGY_ROOM == PUBLISHED_ROOM)
    STATIC_ASSERT(<size_t>&(<book_view *>NULL).position == 32)
    STATIC_ASSERT(<size_t>&(<book_view *>NULL).book == 64)
    STATIC_ASSERT(<size_t>&(<book_view *>NULL).depth == 72)
    STATIC_ASSERT(sizeof(order_slot) == sizeof(published_order))
    STATIC_ASSERT(sizeof(order_slot) == 64)
    STATIC_ASSERT(<size_t>&(<order_slot *>NULL).state == 40)
    STATIC_ASSERT(sizeof(strategy_view) == sizeof(published_strategy_view))
    STATIC_ASSERT(sizeof(strategy_view) == 256)
    STATIC_ASSERT(<size_t>&(<strategy_view *>NULL).inventory == 96)
    STATIC_ASSERT(<size_t>&(<strategy_view *>NULL).orders == 136)
    STATIC_ASSERT(<size_t>&(<strategy_view *>NULL).timer_at_ns == 152)
    STATIC_ASSERT(<size_t>&(<strategy_view *>NULL).reserved == 176)
    STATIC_ASSERT(VIEW_VERSION == PUBLISHED_VERSION)


assert_layout()

# What a compiled Python function that raised returns: the place of its exception, from here on.
FIRST_KEPT = -2**31
KEPT_EXCEPTIONS = 1 << 16
# How many records a strategy may emit at one record.
ROOM = STRATEGY_ROOM
PARAMETERS = 5
VIEW_PARAMETER = 1
ROOM_PARAMETER = 3


cdef int32_t keep_exception(PyObject *kept) noexcept with gil:
    """Move the exception that is set into a list; returns the strategy's answer that finds it."""
    cdef PyObject *kind = NULL
    cdef PyObject *value = NULL
    cdef PyObject *trace = NULL
    cdef list exceptions = <list>kept
    PyErr_Fetch(&kind, &value, &trace)
    if kind == NULL:
        return -1
    PyErr_NormalizeException(&kind, &value, &trace)
    if len(exceptions) >= KEPT_EXCEPTIONS:
        # A strategy that failed in so many runs: the oldest are told no more.
        exceptions.clear()
    if trace != NULL:
        PyException_SetTraceback(<object>value, <object>trace)
    exceptions.append(<object>value)
    Py_XDECREF(kind)
    Py_XDECREF(value)
    Py_XDECREF(trace)
    return FIRST_KEPT + len(exceptions) - 1


def exception_keeper():
    """The address of ``int32_t keep(list)``, for the code that numba makes; it holds the GIL.

    Returns
    -------
    int
    """
    return <size_t><void *>keep_exception


cdef int require_parameters(object function, object parameters, object is_pointer,
                            object is_room, object returns) except -1:
    """Refuse a declared signature that is not the published one."""
    if len(parameters) != PARAMETERS:
        raise StrategyError(
            f"a strategy takes {PARAMETERS} arguments; {function!r} is declared with "
            f"{len(parameters)}")
    for number, parameter in enumerate(parameters):
        if not (is_room if number == ROOM_PARAMETER else is_pointer)(parameter):
            raise StrategyError(
                f"argument {number + 1} of a strategy is "
                f"{'a uint32' if number == ROOM_PARAMETER else 'a pointer'}; {function!r} is "
                f"declared with {parameter}")
    if not returns:
        raise StrategyError(f"a strategy returns int32; {function!r} is declared otherwise")
    return 0


cdef object address_of_ctypes(object function):
    if function._flags_ & ctypes._FUNCFLAG_PYTHONAPI:
        raise StrategyError(
            "a ctypes.PYFUNCTYPE needs the GIL, which a strategy runs without; "
            "use ctypes.CFUNCTYPE or a function of a ctypes.CDLL")
    if function.argtypes is not None:
        require_parameters(
            function, function.argtypes,
            lambda each: issubclass(each, (ctypes.c_void_p, ctypes.c_char_p, ctypes._Pointer)),
            lambda each: each in (ctypes.c_uint32, ctypes.c_int32),
            function.restype is ctypes.c_int32)
    return ctypes.cast(function, ctypes.c_void_p).value


cdef object address_of_numba(object function):
    signature = function._sig
    require_parameters(
        function._pyfunc.__name__, signature.args,
        lambda each: str(each) == "void*" or each.name.endswith("*"),
        lambda each: str(each) in ("uint32", "int32"),
        str(signature.return_type) == "int32")
    return function.address


cdef int require_elements(object function, object dtype) except -1:
    """Refuse an array whose elements differ from those that a numba function was compiled for."""
    declared = getattr(getattr(function, "_sig", None), "args", None)
    if declared is None or not declared[PARAMETERS - 1].name.endswith("*"):
        return 0        # nothing is declared, or void *
    from numba import from_dtype
    element = declared[PARAMETERS - 1].dtype
    if from_dtype(dtype) != element:
        raise StrategyError(
            f"user_data is an array of {dtype}, and {function._pyfunc.__name__} takes it for one "
            f"of {element}: compile it with velox.strategy_signature(user_data.dtype)",
            code="elements")
    return 0


cdef int require_alike(object former, object user_data) except -1:
    """Refuse an array of another dtype or shape than the strategy was made for."""
    if user_data is not None and not (
            isinstance(user_data, np.ndarray) and user_data.dtype == former.dtype
            and user_data.shape == former.shape):
        raise StrategyError(
            f"user_data: the strategy was made for an array of {former.dtype} and shape "
            f"{former.shape}", code="memory")
    return 0


cdef size_t address_of(object function) except 0:
    if isinstance(function, ctypes._CFuncPtr):
        address = address_of_ctypes(function)
    elif hasattr(function, "address") and hasattr(function, "native_name"):    # numba.cfunc
        address = address_of_numba(function)
    elif isinstance(function, int) and not isinstance(function, bool):
        address = function
    else:
        raise StrategyError(
            f"{function!r} is no strategy: pass a numba cfunc, a ctypes function, a PyCapsule "
            f"named {CAPSULE_NAME.decode()!r} or {FEEDBACK_CAPSULE_NAME.decode()!r}, the address "
            "of a C function, or a Strategy", code="function")
    if not address or not 0 < address < 2**64:
        raise StrategyError(f"{function!r}: {address!r} is the address of no function",
                            code="function")
    return address


cdef bint takes_view(object function) except -1:
    """Whether a function of numba's is declared with the long view."""
    declared = getattr(getattr(function, "_sig", None), "args", None)
    if declared is None or len(declared) != PARAMETERS:
        return False
    element = getattr(declared[VIEW_PARAMETER], "dtype", None)
    return getattr(element, "name", None) == "velox_view"


@cython.final
cdef class Strategy:
    """A compiled function that reads each applied record and its book, and writes the records to
    emit.

    Its signature is ``velox_strategy`` of ``velox/strategy.h`` (see `velox.get_include`)::

        int32_t f(const velox_transaction *record, const velox_book_view *book,
                  velox_transaction *out, uint32_t room, void *user_data)

    A strategy that takes reports also gets what became of its orders, and timers, through the same
    function. Its signature is ``velox_feedback_strategy``: `book` is then a ``velox_view``.

    Parameters
    ----------
    function : numba.cfunc, ctypes function, PyCapsule, int or Strategy
        A capsule's name must be ``"velox_strategy/2"``, or ``"velox_strategy/3"`` for a strategy
        that takes reports; its context is the `user_data`. An int is the address of a function.
    user_data : ndarray, int or None
        What the function gets as its last argument: a writable array's memory, or an address. For a
        Strategy that has an array already, None or one of the same dtype and shape.
    reports : bool, optional
        Whether the function takes reports and timers. By default it does if it is declared so: by
        the capsule's name, or by a numba signature of ``strategy_signature(reports=True)``. A
        ctypes function or an address says nothing, so by default it takes none.

    Attributes
    ----------
    name : str
    reports : bool
    source : StrategySource or None
        Where it comes from, if `velox.strategy.load` loaded it.

    Raises
    ------
    StrategyError
        The object is not a compiled function, or its declared signature is another.

    Notes
    -----
    Thread-safety: the function runs on the book's thread, without the GIL; with several lanes, on
    several threads at once. `user_data` is not copied: Python may read it while the pipeline runs,
    as far as single aligned 8-byte fields go.

    A function that is called through the wrong signature, or that writes past `room`, corrupts the
    process: no check can prevent that.
    """

    def __init__(self, function, user_data=None, *, reports=None):
        cdef const char *capsule_name
        if reports is not None and not isinstance(reports, bool):
            raise StrategyError(
                f"reports = {reports!r}: must be True, False or None", code="argument")
        declared = None             # whether what was given says that it takes reports
        if isinstance(function, Strategy):
            declared = function.reports
            self.function = (<Strategy>function).function
            self.feedback = (<Strategy>function).feedback
            self.user_data = (<Strategy>function).user_data
            self.name = (<Strategy>function).name
            self.source = (<Strategy>function).source
        elif PyCapsule_CheckExact(function):
            capsule_name = PyCapsule_GetName(function)
            if capsule_name == NULL or capsule_name not in (
                    bytes(CAPSULE_NAME), bytes(FEEDBACK_CAPSULE_NAME)):
                raise StrategyError(
                    f"the capsule's name must be {CAPSULE_NAME.decode()!r} or "
                    f"{FEEDBACK_CAPSULE_NAME.decode()!r}; it is {function!r}", code="function")
            declared = capsule_name == bytes(FEEDBACK_CAPSULE_NAME)
            self.take(PyCapsule_GetPointer(function, capsule_name), declared)
            self.user_data = PyCapsule_GetContext(function)
            self.name = "capsule"
        else:
            if hasattr(function, "_sig"):
                declared = takes_view(function)
            self.take(<void *>address_of(function), bool(declared if reports is None else reports))
            self.name = getattr(getattr(function, "_pyfunc", function), "__name__",
                                type(function).__name__)
        if reports is not None and declared is not None and reports != declared:
            raise StrategyError(
                f"reports = {reports}: {self.name} is declared "
                f"{'with' if declared else 'without'} them")
        if isinstance(function, Strategy):
            for former in (<Strategy>function).kept:
                if isinstance(former, np.ndarray):
                    require_alike(former, user_data)
        if isinstance(user_data, np.ndarray):
            if not (user_data.flags.c_contiguous and user_data.flags.writeable):
                raise StrategyError("user_data must be a contiguous, writable array", code="memory")
            if user_data.dtype.hasobject:
                raise StrategyError(
                    "user_data holds Python objects, which a strategy cannot touch", code="memory")
            require_elements(function, user_data.dtype)
            self.user_data = <void *><size_t>user_data.ctypes.data
        elif isinstance(user_data, int) and not isinstance(user_data, bool):
            self.user_data = <void *><size_t>user_data
        elif user_data is not None:
            raise StrategyError(
                f"user_data must be an array, an address or None, not {type(user_data).__name__}",
                code="memory")
        self.kept = (function, user_data)
        if isinstance(function, Strategy):
            self.exceptions = (<Strategy>function).exceptions

    @property
    def state(self):
        """ndarray or None: The array that the function gets as its user data, if it is one."""
        for each in self.kept:
            if isinstance(each, np.ndarray):
                return each
            if isinstance(each, Strategy):
                return (<Strategy>each).state
        return None

    def _keeps(self, owner):
        """Keep an object alive as long as the strategy."""
        self.kept = (*self.kept, owner)

    cdef void take(self, void *address, bint reports) noexcept:
        if reports:
            self.feedback = <feedback_function>address
        else:
            self.function = <strategy_function>address

    @property
    def reports(self):
        """bool: Whether it also takes reports of its orders, and timers."""
        return self.feedback != NULL

    def _keeps_exceptions(self, list exceptions not None):
        """Say where the function puts what it raises; for `velox.numba_strategy`."""
        self.exceptions = exceptions

    def _comes_from(self, source):
        """Say what the strategy is, and what it was given; for the report of a run."""
        self.source = source

    cdef object exception_of(self, int answer):
        """The exception that an answer stands for, or None."""
        cdef int64_t place = <int64_t>answer - <int64_t>FIRST_KEPT
        if self.exceptions is not None and 0 <= place < len(self.exceptions):
            return self.exceptions[place]
        return None

    def __repr__(self):
        return f"<Strategy {self.name}>"


cdef Strategy new_strategy(strategy_function function, void *user_data, object owner):
    cdef Strategy strategy = Strategy.__new__(Strategy)
    strategy.function = function
    strategy.user_data = user_data
    strategy.name = "cython"
    strategy.kept = (owner,)
    return strategy


cdef Strategy new_feedback_strategy(feedback_function function, void *user_data, object owner):
    cdef Strategy strategy = new_strategy(NULL, user_data, owner)
    strategy.feedback = function
    return strategy
