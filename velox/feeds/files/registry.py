"""The formats by name, and `load`, which reads any of them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from velox.errors import ConfigError, FeedError
from velox.feeds.files.source import Faults, Source, first_line, first_lines, require_file
from velox.feeds.recording import Recording

__all__ = ["OnError", "formats", "load", "options_of", "recognise", "register"]

Reader = Callable[..., Recording]
# What happens with a line that cannot be read.
OnError: TypeAlias = Literal["stop", "skip"]
PathLike = str | os.PathLike[str]

# How many lines of a file are read to find its format.
LINES_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class _Format:
    read: Reader
    looks_like: Callable[[bytes], bool]
    options: tuple[str, ...]


_formats: dict[str, _Format] = {}


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
        options = tuple(
            parameter.name
            for parameter in inspect.signature(read).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        )
        _formats[name] = _Format(read, looks_like, options)
        return read

    return decorate


def formats() -> tuple[str, ...]:
    """The names that `load` knows, in alphabetical order.

    Examples
    --------
    >>> formats()
    ('binance', 'lobster', 'npy', 'okx')
    """
    return tuple(sorted(_formats))


def load(
    paths: PathLike | Iterable[PathLike],
    format: str | None = None,
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
        The files, plain or gzip; for LOBSTER also the directory that holds the pair.
    format : str, optional
        One of `formats`. Unless told, the first lines of the files must tell it.
    on_error : {'stop', 'skip'}
        What happens with a line that cannot be read. ``'stop'`` raises `FeedError`; ``'skip'``
        leaves the line out and counts it in `Recording.skipped`. A fault of a whole file always
        raises.
    limit : int, optional
        Stop after the venue event that reaches this number of transactions. Events are never cut,
        so a few more may come.
    depth : int, optional
        The most levels a side of each depth check. LOBSTER's default is 10.
    **options
        The options of the format: see ``velox.feeds.lobster.read``, ``velox.feeds.binance.read``,
        ``velox.feeds.okx.read`` and ``velox.feeds.npy.read``.

    Returns
    -------
    Recording

    Raises
    ------
    FeedError
        The input violates its format; `path`, `line` and `field` say where.
    ConfigError
        The format or an option is unknown, or has a value that cannot be used.

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
    if format is not None and format not in _formats:
        raise ConfigError(f"format = {format!r}: known are {', '.join(formats())}")
    if on_error not in get_args(OnError):
        words = " or ".join(map(repr, get_args(OnError)))
        raise ConfigError(f"on_error = {on_error!r}: must be {words}")
    for name, value in (("limit", limit), ("depth", depth)):
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigError(f"{name} = {value!r}: must be an integer of at least 1, or None")
    if isinstance(paths, str | os.PathLike):
        paths = (paths,)
    try:
        files = tuple(Path(path) for path in paths)
    except TypeError:
        raise ConfigError(f"paths = {paths!r}: must be a path, or an iterable of paths") from None
    if not files:
        raise ConfigError("paths = (): at least one file is needed")
    if format is None:
        format = recognise(files)
    chosen = _formats[format]
    for name in options:
        if name not in chosen.options:
            known = ", ".join(chosen.options) or "none"
            raise ConfigError(f"{name}: is not an option of format {format!r}; it has: {known}")
    for path in files:
        _refuse_another_format(path, format)
    source = Source(files, Faults(skip=on_error == "skip"), limit, depth)
    return chosen.read(source, **options)


def options_of(format: str) -> tuple[str, ...]:
    """The options that `load` passes on to a format.

    Raises
    ------
    ConfigError
        The format is unknown.

    Examples
    --------
    >>> options_of("lobster")
    ('tick_size', 'name', 'levels')
    """
    if format not in _formats:
        raise ConfigError(f"format = {format!r}: known are {', '.join(formats())}")
    return _formats[format].options


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
    raise FeedError(
        f"the content does not tell; say which, one of {', '.join(formats())}",
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
