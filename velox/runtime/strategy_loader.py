"""Finds a strategy by its name: in a Python file, a module or a shared library."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import itertools
import math
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from velox.errors import StrategyError, VeloxError
from velox.runtime.feedback import StrategySource
from velox.runtime.strategy import Strategy
from velox.settings import suggestion

__all__ = ["load", "parameters_of"]

LIBRARIES = (".so", ".dylib", ".dll")
FORMS = "FILE.py:name, module:name or lib.so:symbol"
PLACE = re.compile(r"\(.+:\d+\)")
# A parameter of so many elements is told in a report.
MOST_TOLD = 16
LONGEST_TOLD = 200
NUMBER = itertools.count()

# velox_strategy_info of velox/strategy.h.
TYPES = {0: "<i8", 1: "<u8", 2: "<f8"}


class _Parameter(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("type", ctypes.c_uint32), ("offset", ctypes.c_uint32)]


class _Info(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("version", ctypes.c_uint32),
        ("state_size", ctypes.c_uint64),
        ("state", ctypes.c_void_p),
        ("parameters", ctypes.POINTER(_Parameter)),
        ("parameter_count", ctypes.c_uint64),
    ]


def load(name: str, parameters: Mapping[str, Any] | None = None) -> Strategy:
    """Load a strategy by its name, and set its parameters.

    Parameters
    ----------
    name : str
        ``FILE.py:name``, ``module:name`` or ``lib.so:symbol``. In Python the name is that of a
        Strategy, such as `velox.strategy.compile` makes, or of anything that Strategy takes. The
        file or module is run. A library describes the state and the version of a symbol in a
        ``velox_strategy_info``; see ``velox/strategy.h``.
    parameters : mapping of str to int, float or str, optional
        New values for fields of the strategy's state. Text is converted to the field's type. A
        field that is an array takes as many values as it has elements, in a list or with commas.

    Returns
    -------
    Strategy
        Its `source` has the name, the digest of the file, and the parameters.

    Raises
    ------
    StrategyError
        There is no such file, module, name or symbol; running the file fails, and the message says
        in which line; the object is no strategy; or a parameter is unknown or does not fit its
        field.
    """
    where, colon, inside = name.rpartition(":")
    if not (where and colon and inside):
        raise StrategyError(f"strategy = {name!r}: must be {FORMS}")
    if where.endswith(LIBRARIES):
        path: Path | None = _file(name, where)
        strategy = _from_library(name, Path(where), inside)
    else:
        module = _from_file(name, where) if where.endswith(".py") else _module(name, where)
        path = Path(module.__file__) if module.__file__ else None
        strategy = _named(name, module, inside)
    for parameter, value in (parameters or {}).items():
        _set(name, strategy, parameter, value)
    digest = None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    strategy._comes_from(StrategySource(name, digest, parameters_of(strategy)))
    return strategy


def parameters_of(strategy: Strategy) -> dict[str, Any]:
    """Return the named fields of a strategy's state with their values now.

    Fields that are arrays of more than 16 elements are left out.

    Parameters
    ----------
    strategy : Strategy

    Returns
    -------
    dict of str to int, float or list
        Empty if the state has no named fields.
    """
    state = _fields(strategy)
    if state is None:
        return {}
    return {
        name: state[name][0].tolist()
        for name in state.dtype.names or ()
        if state[name][0].size <= MOST_TOLD and state.dtype[name].names is None
    }


def _file(name: str, where: str) -> Path:
    path = Path(where)
    if not path.is_file():
        raise StrategyError(f"strategy = {name!r}: there is no file {where!r}")
    return path


def _from_file(name: str, where: str) -> ModuleType:
    path = _file(name, where)
    # A number, so that the file can be loaded twice, each time with a state of its own.
    module_name = f"velox_strategy_{next(NUMBER)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise StrategyError(f"strategy = {name!r}: {where!r} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        with _telling(name, where), _searching(str(path.resolve().parent)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _module(name: str, where: str) -> ModuleType:
    with _telling(name, where), _searching(str(Path.cwd())):
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{where}.".startswith(f"{error.name}."):
                raise
            raise StrategyError(
                f"strategy = {name!r}: there is no module {where!r}; a file ends with .py"
            ) from None


@contextmanager
def _searching(folder: str) -> Iterator[None]:
    """Let the file import what lies beside it."""
    sys.path.append(folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


@contextmanager
def _telling(name: str, where: str) -> Iterator[None]:
    """Say of an error in the user's code where it is."""
    try:
        yield
    except SyntaxError as error:
        raise StrategyError(
            f"strategy = {name!r}: {error.filename or where}:{error.lineno}: {error.msg}"
        ) from error
    except StrategyError as error:
        if str(error).startswith("strategy = "):
            raise
        # The compiler's own place is nearer to the fault than the line of the decorator.
        place = "" if PLACE.search(str(error)) else _place(error, where)
        raise StrategyError(f"strategy = {name!r}: {place}{error}") from error
    except VeloxError:
        raise
    except Exception as error:  # whatever the user's code raises
        told = f"{type(error).__name__}: {error}"[:LONGEST_TOLD]
        raise StrategyError(f"strategy = {name!r}: {_place(error, where)}{told}") from error


def _place(error: Exception, where: str) -> str:
    """Return the last line of the user's own file that led to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    wanted = Path(where).name
    lines = [each.lineno for each in frames if Path(each.filename).name == wanted]
    return f"{where}:{lines[-1]}: " if lines else ""


def _named(name: str, module: ModuleType, inside: str) -> Strategy:
    try:
        found = getattr(module, inside)
    except AttributeError:
        public = [each for each in vars(module) if not each.startswith("_")]
        raise StrategyError(
            f"strategy = {name!r}: {module.__file__ or module.__name__} has no {inside!r}; "
            f"{suggestion(inside, public)}"
        ) from None
    if isinstance(found, Strategy):
        return found
    if callable(found) and hasattr(found, "__code__"):
        raise StrategyError(
            f"strategy = {name!r}: {inside} is a plain function of Python; compile it with "
            "@velox.strategy.compile"
        )
    try:
        return Strategy(found)
    except StrategyError as error:
        raise StrategyError(f"strategy = {name!r}: {error}") from error


def _from_library(name: str, path: Path, symbol: str) -> Strategy:
    try:
        library = ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise StrategyError(f"strategy = {name!r}: {error}") from error
    try:
        function = library[symbol]
    except AttributeError:
        raise StrategyError(f"strategy = {name!r}: {path} has no symbol {symbol!r}") from None
    try:
        info = _Info.in_dll(library, f"{symbol}_info")
    except ValueError:
        return Strategy(function)
    if info.size < ctypes.sizeof(_Info) or info.version not in (2, 3):
        raise StrategyError(
            f"strategy = {name!r}: {symbol}_info has size {info.size} and version {info.version}; "
            f"this Velox takes versions 2 and 3, of {ctypes.sizeof(_Info)} bytes"
        )
    state = _state_of(name, symbol, info)
    strategy = Strategy(function, state, reports=info.version == 3)
    strategy._keeps(library)
    return strategy


def _state_of(name: str, symbol: str, info: _Info) -> npt.NDArray[Any] | None:
    """Make the state that a library describes."""
    given = [info.parameters[number] for number in range(info.parameter_count)]
    for each in given:
        if each.type not in TYPES or each.offset % 8 or each.offset + 8 > info.state_size:
            raise StrategyError(
                f"strategy = {name!r}: {symbol}_info: parameter {each.name!r} has type {each.type} "
                f"and offset {each.offset}, in a state of {info.state_size} bytes"
            )
    if not info.state_size:
        return None
    state: npt.NDArray[Any] = np.zeros(
        1,
        {
            "names": [each.name.decode() for each in given],
            "formats": [TYPES[each.type] for each in given],
            "offsets": [each.offset for each in given],
            "itemsize": info.state_size,
        }
        if given
        else f"V{info.state_size}",
    )
    if info.state:
        ctypes.memmove(state.ctypes.data, info.state, info.state_size)
    return state


def _fields(strategy: Strategy) -> npt.NDArray[Any] | None:
    state = strategy.state
    if state is None or state.dtype.names is None or state.shape != (1,):
        return None
    return state


def _set(name: str, strategy: Strategy, parameter: str, value: Any) -> None:
    state = _fields(strategy)
    if state is None:
        raise StrategyError(
            f"{parameter} = {value!r}: the state of {name} has no named fields; make it with "
            "velox.strategy.state"
        )
    names = state.dtype.names or ()
    if parameter not in names:
        raise StrategyError(
            f"{parameter} = {value!r}: {name} has no such parameter; {suggestion(parameter, names)}"
        )
    field = state[parameter]
    if field.dtype.names is not None:
        raise StrategyError(f"{parameter} = {value!r}: it is no number, but a record")
    items = value.split(",") if isinstance(value, str) else np.ravel(value).tolist()
    if len(items) != field[0].size:
        raise StrategyError(
            f"{parameter} = {value!r}: takes {field[0].size} values, and {len(items)} were given"
        )
    converted = [_converted(parameter, each, field.dtype) for each in items]
    field[0] = np.array(converted, field.dtype).reshape(field[0].shape)


def _converted(parameter: str, value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a value as the field's type; text, as it comes from the command line, too."""
    refusal = f"{parameter} = {value!r}: must be"
    if dtype.kind == "f":
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise StrategyError(f"{refusal} a number") from None
        if not math.isfinite(number):
            raise StrategyError(f"{refusal} a finite number")
        return number
    if dtype.kind == "b":
        words = {"true": True, "false": False, "1": True, "0": False}
        if str(value).lower() not in words:
            raise StrategyError(f"{refusal} true or false")
        return words[str(value).lower()]
    try:
        whole = int(value) if isinstance(value, str) or int(value) == value else None
    except (TypeError, ValueError, OverflowError):
        whole = None
    limits = np.iinfo(dtype)
    if whole is None or not limits.min <= whole <= limits.max:
        raise StrategyError(f"{refusal} an integer, {limits.min} to {limits.max}")
    return whole
