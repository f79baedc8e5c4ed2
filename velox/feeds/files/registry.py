"""The formats by name, and `load`, which reads any of them.

A format is built in, or belongs to another package that names its reader in the entry-point group
``velox.readers``. A reader can also be given to `load` itself.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from velox.core.records import TRANSACTION_DTYPE, validate
from velox.errors import ConfigError, FeedError, RecordError
from velox.feeds.decode.malformed import MalformedError
from velox.feeds.files.source import Faults, Source, first_line, first_lines, require_file
from velox.feeds.recording import Recording

__all__ = ["GROUP", "OnError", "formats", "load", "options_of", "recognise", "register"]

Reader = Callable[..., Recording]
# What happens with a line that cannot be read.
OnError: TypeAlias = Literal["stop", "skip"]
PathLike = str | os.PathLike[str]

# The entry-point group of readers in other packages.
GROUP = "velox.readers"
# How many lines of a file are read to find its format.
LINES_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class _Format:
    read: Reader
    looks_like: Callable[[bytes], bool]
    options: tuple[str, ...]
    built_in: bool


_formats: dict[str, _Format] = {}
# Readers of other packages that cannot be used, with the reason.
_refused: dict[str, str] = {}
# The entry-point groups that have been read.
_searched: set[str] = set()


def register(name: str, *, looks_like: Callable[[bytes], bool]) -> Callable[[Reader], Reader]:
    """Register a reader, so that `load` finds it by `name`.

    A format is one such function in one file.

    Parameters
    ----------
    name : str
        The value of `load`'s parameter `format`.
    looks_like : callable
        Told one line of a file, as bytes: is it one of this format? `recognise` asks it, and `load`
        does, to say so when a file is loaded as something else.

    Returns
    -------
    callable
        A decorator for ``read(source, *, option=default, …) -> Recording``; its keyword-only
        parameters are the options that `load` passes on.

    Raises
    ------
    ConfigError
        The name is already registered.
    """

    def decorate(read: Reader) -> Reader:
        if name in _formats:
            raise ConfigError(f"format = {name!r}: is registered already")
        _formats[name] = _format_of(read, looks_like)
        return read

    return decorate


def _format_of(read: Reader, looks_like: Callable[[bytes], bool]) -> _Format:
    try:
        parameters = inspect.signature(read).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"format = {read!r}: has no signature: {error}") from None
    options = tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)
    built_in = getattr(read, "__module__", "").startswith("velox.")
    return _Format(read, looks_like, options, built_in)


def _never(line: bytes) -> bool:
    return False


def _discover() -> None:
    """Register the readers of other packages, once."""
    if _searched:
        return
    _searched.add(GROUP)
    for each in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        try:
            if each.name in _formats:
                raise ConfigError(f"format = {each.name!r}: is registered already")
            _discovered(each)
        # A package that cannot be used must not hinder the others. Its error is told when its
        # format is asked for, and when no format fits.
        except Exception as error:
            _refused[each.name] = f"{each.value}: {type(error).__name__}: {error}"


def _discovered(each: EntryPoint) -> None:
    read = each.load()
    if each.name not in _formats:
        # The function was not decorated with `register`.
        _formats[each.name] = _format_of(read, getattr(read, "looks_like", _never))


def _chosen(format: str | Reader) -> tuple[str, _Format]:
    """The name and the reader of a format: by its name, by ``module:function``, or itself."""
    if not isinstance(format, str):
        if not callable(format):
            raise ConfigError(f"format = {format!r}: must be a name or a function")
        return getattr(format, "__qualname__", repr(format)), _format_of(format, _never)
    _discover()
    if format in _formats:
        return format, _formats[format]
    if ":" in format:
        return format, _format_of(_imported(format), _never)
    known = f"known are {', '.join(formats())}"
    if format in _refused:
        known = f"cannot be loaded: {_refused[format]}"
    raise ConfigError(f"format = {format!r}: {known}")


def _imported(reference: str) -> Reader:
    """The function that ``module:function`` names."""
    module, _, name = reference.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    # The module's own code may raise anything.
    except Exception as error:
        raise ConfigError(
            f"format = {reference!r}: cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ConfigError(f"format = {reference!r}: is not a function")
    reader: Reader = found
    return reader


def formats() -> tuple[str, ...]:
    """The names that `load` knows, in alphabetical order.

    Examples
    --------
    >>> "okx" in formats()
    True
    """
    _discover()
    return tuple(sorted(_formats))


def load(
    paths: PathLike | Iterable[PathLike],
    format: str | Reader | None = None,
    *,
    on_error: OnError = "stop",
    limit: int | None = None,
    depth: int | None = None,
    **options: Any,
) -> Recording:
    """Read recorded market data, exactly.

    Parameters
    ----------
    paths : path or iterable of paths
        The files, plain, gzip or zstd; for LOBSTER also the directory that holds the pair.
    format : str or callable, optional
        One of `formats`; or a reader of your own, as ``"module:function"`` or as the function
        itself. If not given, the first lines of the files must tell it.
    on_error : {'stop', 'skip'}
        What happens with a line that cannot be read. ``'stop'`` raises `FeedError`; ``'skip'``
        leaves the line out and counts it in `Recording.skipped`. A fault of a whole file always
        raises.
    limit : int, optional
        Stop after the venue event that reaches this number of transactions. Events are never cut,
        so a few more may come.
    depth : int, optional
        The most levels a side of each depth check; for LOBSTER, whose default is 10. A format
        whose checks have no such limit refuses it.
    **options
        The options of the format: see the function ``read`` of its module, such as
        ``velox.feeds.binance.read``.

    Returns
    -------
    Recording

    Raises
    ------
    FeedError
        The input violates its format; `path`, `line` and `field` say where.
    ConfigError
        The format or an option is unknown, or has a value that cannot be used. Or a reader of
        another package cannot be imported, or returns no valid recording.

    Notes
    -----
    Thread-safe: calls share no mutable state.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp(), "orders.csv")
    >>> _ = file.write_text("34200.5,1,17,200,308700,1\\n")
    >>> recording = load(file, "lobster")
    >>> recording.transactions[["price", "size", "ingress_ts_ns"]][-1].item()
    (308700, 200, 34200500000000)
    """
    if on_error not in get_args(OnError):
        words = " or ".join(map(repr, get_args(OnError)))
        raise ConfigError(f"on_error = {on_error!r}: must be {words}")
    for name, value in (("limit", limit), ("depth", depth)):
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigError(f"{name} = {value!r}: must be an integer of at least 1, or None")
    files = _files_of(paths)
    if format is None:
        format = recognise(files)
    name, chosen = _chosen(format)
    for each in options:
        if each not in chosen.options:
            known = ", ".join(chosen.options) or "none"
            raise ConfigError(f"{each}: is not an option of format {name!r}; it has: {known}")
    if name in _formats:
        for path in files:
            _refuse_another_format(path, name)
    source = Source(files, Faults(skip=on_error == "skip"), limit, depth)
    if chosen.built_in:
        recording = chosen.read(source, **options)
    else:
        recording = _checked(name, source, chosen, options)
    if depth is not None and not source.depth_read:
        raise ConfigError(
            f"depth = {depth}: format {name!r} does not take it; its checks are as the recording "
            "has them"
        )
    return recording


def _files_of(paths: PathLike | Iterable[PathLike]) -> tuple[Path, ...]:
    if isinstance(paths, str | os.PathLike):
        paths = (paths,)
    try:
        files = tuple(Path(path) for path in paths)
    except TypeError:
        raise ConfigError(f"paths = {paths!r}: must be a path, or an iterable of paths") from None
    if not files:
        raise ConfigError("paths = (): at least one file is needed")
    return files


def _checked(name: str, source: Source, chosen: _Format, options: dict[str, Any]) -> Recording:
    """Read with a reader of another package, and check what it returns."""
    try:
        recording: object = chosen.read(source, **options)
    except MalformedError as error:
        raise FeedError(error.why, path=source.paths[0], field=error.field) from error
    if not isinstance(recording, Recording):
        raise ConfigError(
            f"format = {name!r}: returned {type(recording).__name__}, and not a Recording"
        )
    transactions = recording.transactions
    if transactions.dtype != TRANSACTION_DTYPE or transactions.ndim != 1:
        raise ConfigError(
            f"format = {name!r}: returned records of dtype {transactions.dtype}, shape "
            f"{transactions.shape}"
        )
    try:
        validate(transactions)
    except RecordError as error:
        raise FeedError(
            f"format {name!r} made an invalid record: {error}",
            path=source.paths[0],
            field=error.field,
        ) from error
    markets = {each.market for each in recording.instruments}
    unknown = sorted(set(np.unique(transactions["market"]).tolist()) - markets)
    if unknown:
        raise ConfigError(f"format = {name!r}: returned no instrument of market {unknown[0]}")
    return recording


def options_of(format: str | Reader) -> tuple[str, ...]:
    """The options that `load` passes on to a format.

    Parameters
    ----------
    format : str or callable
        As `load` takes it.

    Raises
    ------
    ConfigError
        The format is unknown.

    Examples
    --------
    >>> options_of("lobster")
    ('tick_size', 'name', 'levels')
    """
    return _chosen(format)[1].options


def recognise(paths: Iterable[PathLike]) -> str:
    """Tell the format of a recording from the first lines of its files.

    Parameters
    ----------
    paths : iterable of paths
        Plain or gzip. The first line that is of one format alone decides. A directory is LOBSTER's.

    Returns
    -------
    str
        One of `formats`.

    Raises
    ------
    FeedError
        A file cannot be read, or no line tells; the field is then ``"format"``.
    """
    files = [Path(path) for path in paths]
    for path in files:
        if path.is_dir():
            return "lobster"
        require_file(path)
        for line in first_lines(path, LINES_LOOKED_AT):
            names = [name for name in formats() if _formats[name].looks_like(line)]
            if len(names) == 1:
                return names[0]
    hint = "".join(f"; {each} cannot be loaded: {why}" for each, why in _refused.items())
    raise FeedError(
        f"the content does not tell; say which, one of {', '.join(formats())}{hint}",
        path=files[0],
        line=1,
        field="format",
    )


def _refuse_another_format(path: Path, format: str) -> None:
    line = first_line(path)
    if _formats[format].looks_like(line):
        return
    for name in formats():
        if _formats[name].looks_like(line):
            raise FeedError(
                f"is not of format {format!r}; it looks like {name!r}", path=path, line=1
            )
