"""The command line: options in, a `Pipeline` run, a report out.

Nothing is decided here. What an option means is checked where it is used, by `PipelineConfig`, the
ingresses and the feeds; this module turns text into their arguments and their errors into one line.
"""

from __future__ import annotations

import argparse
import errno
import io
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, NoReturn, TextIO

import numpy as np
import numpy.typing as npt

import velox
from velox import bench, feeds
from velox.core.clock import Clock
from velox.core.flow import MarketFlow
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Side
from velox.errors import (
    CaptureError,
    ConfigError,
    FeedError,
    LedgerError,
    PipelineError,
    VeloxError,
)
from velox.runtime.capture import recover_capture
from velox.runtime.config import PipelineConfig
from velox.runtime.hardware import describe_machine, usable_cpus
from velox.runtime.hiccups import Hiccups, measure_hiccups
from velox.runtime.ingress import Ingress, PoissonIngress, ReplayIngress
from velox.runtime.output import CaptureOutput, DiscardOutput, Output
from velox.runtime.pipeline import Pipeline
from velox.runtime.report import Report
from velox.telemetry import HistogramLog, document, replacing, terminal, write_document
from velox.testing import command as localnet

__all__ = ["main"]

GOOD, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130

EXAMPLES = """\
examples:
  velox                                              10 s of synthetic flow at 100 000/s
  velox run --rate max --placement paired --cpus 0,1 --json run.json
  velox replay data/lobster --format lobster --depth 30 --verify
  velox generate --count 1000000 --seed 7 -o flow.npy
  velox replay flow.npy --speed 1.0 --repeat 3 --capture bundles.npy
  velox bench --json bench.json
  velox hiccups --duration 10 --cpus 0-1

exit status: 0 good, 1 a check or a stage failed, 2 bad usage or bad input.
"""

# The longest that a request to stop waits to be seen, in seconds.
LOOK_AGAIN_S = 0.05
# Duty cycles between two looks at the time where this thread drives the stages.
STEPS_AT_ONCE = 64
# What the lanes' flows need to share one book: ids apart, see also MarketFlow's `drift`.
IDS_A_LANE = 1 << 48
# Ticks that prices of a generated market keep within of its base price, unless a book is narrower.
HALF_WIDTH = 384
CHUNK = 1 << 16
MOST_CPUS = 1 << 16
# Of the system rather than of what was asked for.
SYSTEM_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        ``sys.argv[1:]`` if not given.

    Returns
    -------
    int
        The exit status: 0 good, 1 a check or a stage failed, 2 bad usage or bad input, 130
        interrupted before there was anything to report.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``, and for usage errors: as argparse does it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, "run")
    # A path need not be text, nor a terminal speak UTF-8; neither is worth an exception.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with _Signals() as signals:
        options = _parser().parse_args(given)
        try:
            status: int = options.command(options, signals)
        except KeyboardInterrupt:
            _complain("interrupted; nothing was done")
            return INTERRUPTED
        except BrokenPipeError:
            _silence(sys.stdout)
            return FAILED
        except (VeloxError, OSError, MemoryError) as error:
            _complain(_text(error))
            failed = isinstance(error, LedgerError | MemoryError)
            failed = failed or getattr(error, "errno", None) in SYSTEM_FAILURES
            return FAILED if failed else UNUSABLE
    return status


# Options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and what it is about; the usage is a --help away."""
        self.exit(UNUSABLE, f"velox: error: {message}; see '{self.prog} --help'\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="velox",
        description="A lock-free transaction pipeline: ingress, order book, bundles, output.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"velox {velox.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: Callable[..., int], summary: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=summary, description=summary, prog=f"velox {name}", allow_abbrev=False
        )
        made.set_defaults(command=function)
        return made

    run = command("run", _run, "Run the pipeline on synthetic flow; the default command.")
    run.add_argument(
        "--rate",
        type=_rate,
        default=100_000.0,
        metavar="N|max",
        help="transactions a second, Poisson; 'max': as fast as they are taken (100000)",
    )
    run.add_argument(
        "--seed",
        type=_count,
        default=0,
        metavar="N",
        help="the same seed gives the same transactions (0)",
    )
    run.add_argument(
        "--lanes",
        type=_integer,
        default=1,
        metavar="N",
        help="ingresses and book stages side by side, which share one book and the rate (1)",
    )
    _add_pipeline_options(run, duration=10.0)

    replay = command("replay", _replay, "Run the pipeline on recorded market data.")
    replay.add_argument(
        "paths", nargs="+", metavar="PATH", help="files; for LOBSTER also the directory of a pair"
    )
    replay.add_argument(
        "--format",
        choices=feeds.formats(),
        help="what the files are; needed unless their names tell",
    )
    replay.add_argument(
        "--speed",
        type=_rate,
        default="max",
        metavar="X|max",
        help="1.0: the recording's own time (max)",
    )
    replay.add_argument(
        "--repeat",
        type=_integer,
        default=1,
        metavar="N",
        help="passes, each from a cleared book (1)",
    )
    replay.add_argument(
        "--verify",
        action="store_true",
        help="compare the book with the recording's own oracle, after every event that has one",
    )
    replay.add_argument(
        "--depth", type=_integer, metavar="N", help="levels a side that --verify compares, at most"
    )
    replay.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="what a line that cannot be read does (stop)",
    )
    replay.add_argument(
        "--limit",
        type=_integer,
        metavar="N",
        help="read that many transactions, to the end of their event",
    )
    _add_pipeline_options(replay, duration=None)

    generate = command("generate", _generate, "Write synthetic flow to a file, to be replayed.")
    generate.add_argument(
        "--count",
        type=_integer,
        required=True,
        metavar="N",
        help="transactions in the file; the first two clear the book",
    )
    generate.add_argument("-o", "--output", required=True, metavar="PATH", help="a .npy file")
    generate.add_argument("--seed", type=_count, default=0, metavar="N", help="(0)")
    generate.add_argument(
        "--rate",
        type=_positive,
        default=100_000.0,
        metavar="N",
        help="transactions a second of the timestamps (100000)",
    )
    generate.add_argument(
        "--tick-size",
        type=_integer,
        default=100,
        metavar="N",
        help="in units of 1e-4 (100: a cent)",
    )
    generate.add_argument(
        "--base-price",
        type=_integer,
        default=1_000_000,
        metavar="N",
        help="in units of 1e-4 (1000000: 100)",
    )
    generate.add_argument("--market", type=_integer, default=0, metavar="N", help="0 to 255 (0)")

    recover = command("recover", _recover, "Make a capture whole that was cut off by a kill.")
    recover.add_argument("path", metavar="PATH", help="what --capture was writing")

    _add_chain_commands(commands, command)

    benchmarks = command("bench", _bench, "Measure what the parts cost on this machine.")
    benchmarks.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(bench.names())}; all unless told"
    )
    benchmarks.add_argument("--json", metavar="PATH", help="write the figures; '-' is stdout")
    _add_hiccups(benchmarks)

    hiccups = command("hiccups", _hiccups, "Measure what the host takes away from each CPU.")
    hiccups.add_argument(
        "--duration",
        type=_positive,
        default=5.0,
        metavar="S",
        help="seconds, of all CPUs at once (5)",
    )
    hiccups.add_argument(
        "--cpus", type=_cpus, metavar="LIST", help="to look at, as in 0,2-3; all unless told"
    )
    hiccups.add_argument("--json", metavar="PATH", help="write the figures; '-' is stdout")
    hiccups.add_argument("--hlog", metavar="PATH", help="write the histograms, tagged by CPU")
    return parser


def _add_hiccups(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--hiccups",
        type=_not_negative,
        default=0.25,
        metavar="S",
        help="seconds for which the same CPUs' own hiccups are measured afterwards; 0: not (0.25)",
    )


def _add_chain_commands(
    commands: Any, command: Callable[[str, Callable[..., int], str], argparse.ArgumentParser]
) -> None:
    submit = command("submit", _submit, "Send the orders of a capture to the chain.")
    submit.add_argument("path", metavar="BUNDLES.npy", help="what --capture wrote")
    submit.add_argument(
        "--submit", default="localnet", metavar="WHERE", help="localnet, or CONFIG.toml (localnet)"
    )
    submit.add_argument("--journal", metavar="PATH", help="what was signed; the configuration's")
    submit.add_argument("--json", metavar="PATH", help="write the ledger; '-' is stdout")

    status = command("status", _status, "Say what a journal of submissions holds.")
    status.add_argument("journal", metavar="JOURNAL", help="what --journal named")
    status.add_argument("--config", metavar="CONFIG.toml", help="ask its node, too")

    tips = command("tips", _tips, "Say whom a block engine wants tipped, and what landed.")
    tips.add_argument("config", metavar="CONFIG.toml", help="with a [block_engine]")

    localnet.add_parser(commands).set_defaults(command=_localnet)


def _add_pipeline_options(parser: argparse.ArgumentParser, *, duration: float | None) -> None:
    default = PipelineConfig()
    until = "until the recording ends" if duration is None else f"{duration:g}"
    where = parser.add_argument_group("where it runs")
    where.add_argument(
        "--placement",
        type=_placement,
        default="auto",
        metavar="P",
        help="auto, invoker, shared, paired, dedicated, or the CPU of each stage, "
        "as in ingress=0,orderbook=0,bundle=1,output=1 (auto)",
    )
    where.add_argument("--cpus", type=_cpus, metavar="LIST", help="to pin to, as in 0,2-3")
    where.add_argument(
        "--idle",
        default=default.idle,
        metavar="STRATEGY",
        help="what a thread without work does: spin, yield, backoff (spin)",
    )
    where.add_argument(
        "--strict", action="store_true", help="refuse more spinning threads than CPUs"
    )
    where.add_argument(
        "--clock",
        default=default.clock,
        metavar="SOURCE",
        help="auto, tsc, cntvct, kernel, virtual (auto)",
    )
    what = parser.add_argument_group("what it does")
    what.add_argument(
        "--duration", type=_positive, default=duration, metavar="S", help=f"seconds ({until})"
    )
    what.add_argument(
        "--levels",
        type=_integer,
        metavar="N",
        help="price levels a side that a book keeps hot, a power of two",
    )
    what.add_argument(
        "--writers",
        type=_integer,
        metavar="N",
        help="threads that may write the book; 2 or more: the shared book with a "
        "fixed window (1, or the lanes)",
    )
    what.add_argument(
        "--on-cross",
        default=default.on_cross,
        metavar="POLICY",
        help="count, reject, uncross, match (count)",
    )
    what.add_argument(
        "--on-full",
        choices=("block", "drop"),
        help="what a full first ring does to the newest (drop for a rate, else block)",
    )
    what.add_argument(
        "--seal",
        default=default.seal,
        metavar="WHEN",
        help="timeout, or idle: also as soon as there is no input (timeout)",
    )
    what.add_argument(
        "--bundle-timeout-us",
        type=_positive,
        metavar="US",
        default=default.bundle_timeout_ns / 1000,
        help="how long a bundle stays open (100)",
    )
    what.add_argument(
        "--batch",
        type=_integer,
        default=default.batch,
        metavar="N",
        help="most items that a stage moves at a time (256)",
    )
    what.add_argument(
        "--transaction-capacity",
        type=_integer,
        metavar="N",
        default=default.transaction_capacity,
        help="slots of a transaction ring (4096)",
    )
    what.add_argument(
        "--bundle-capacity",
        type=_integer,
        metavar="N",
        default=default.bundle_capacity,
        help="slots of the bundle ring (1024)",
    )
    result = parser.add_argument_group("what it leaves")
    result.add_argument("--capture", metavar="PATH", help="write the bundles to a .npy file")
    result.add_argument(
        "--submit",
        metavar="WHERE",
        help="send the orders to Solana: 'localnet', a cluster in this process, or CONFIG.toml",
    )
    result.add_argument(
        "--journal", metavar="PATH", help="of --submit: what was signed (the configuration's)"
    )
    result.add_argument(
        "--json",
        metavar="PATH",
        help="write the report; '-' is stdout, and moves the text to stderr",
    )
    result.add_argument(
        "--hlog",
        metavar="PATH",
        help="write the latencies of each second in HdrHistogram's log format",
    )
    _add_hiccups(result)
    result.add_argument("--quiet", action="store_true", help="no line a second")


def _refused(text: str, why: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r}: {why}")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _refused(text, "must be an integer") from None


def _count(text: str) -> int:
    number = _integer(text)
    if number < 0:
        raise _refused(text, "must be at least 0")
    return number


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise _refused(text, "must be a number") from None
    if not (math.isfinite(number) and number > 0):
        raise _refused(text, "must be a number above 0, and finite")
    return number


def _not_negative(text: str) -> float:
    try:
        return 0.0 if float(text) == 0 else _positive(text)
    except (ValueError, argparse.ArgumentTypeError):
        raise _refused(text, "must be a number of at least 0, and finite") from None


def _rate(text: str) -> float | str:
    if text == "max":
        return text
    try:
        return _positive(text)
    except argparse.ArgumentTypeError:
        raise _refused(text, "must be 'max', or a number above 0") from None


def _cpus(text: str) -> tuple[int, ...]:
    cpus: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise _refused(text, "must be CPU numbers and ranges, as in 0,2-3")
        low, high = int(first), int(last if dash else first)
        if not low <= high < MOST_CPUS:
            raise _refused(text, f"{part!r} is no range of CPU numbers")
        cpus.extend(range(low, high + 1))
    return tuple(cpus)


def _placement(text: str) -> str | dict[str, int]:
    if "=" not in text:
        return text
    placed: dict[str, int] = {}
    for part in text.split(","):
        stage, _, cpu = part.strip().partition("=")
        if not (stage and cpu.isdecimal()):
            raise _refused(text, f"{part!r} is not of the form STAGE=CPU")
        if stage in placed:
            raise _refused(text, f"{stage!r} is there twice")
        placed[stage] = int(cpu)
    return placed


# Commands


def _run(options: argparse.Namespace, signals: _Signals) -> int:
    config = _config(options, lanes=options.lanes)
    if (
        options.rate == "max"
        and options.placement == "invoker"
        and config.clock
        in (
            "auto",
            "virtual",
        )
    ):
        raise ConfigError(
            "rate = 'max': in placement 'invoker' time passes only while there is nothing to do; "
            "give a rate, or --clock kernel"
        )
    pace = "as fast as it is taken" if options.rate == "max" else f"{options.rate:,.10g}/s, Poisson"
    source = f"synthetic flow, {pace}, seed {options.seed}"
    if config.lanes > 1:
        source += f", in {config.lanes} lanes"
    return _drive(options, signals, config, _flows(options, config), source)


def _flows(options: argparse.Namespace, config: PipelineConfig) -> list[Ingress]:
    """One flow, or one a lane whose orders can interleave in any way."""
    market: dict[str, Any] = {}
    if config.writers > 1:
        # The window of a shared book stays where it is.
        market["half_width"] = min(HALF_WIDTH, config.levels // 2 - 1)
    if config.lanes == 1:
        return [PoissonIngress(options.rate, options.seed, **market)]
    rate = options.rate if options.rate == "max" else options.rate / config.lanes
    return [
        PoissonIngress(rate, seed, drift=False, first_id=1 + lane * IDS_A_LANE, **market)
        for lane, seed in enumerate(np.random.SeedSequence(options.seed).spawn(config.lanes))
    ]


def _replay(options: argparse.Namespace, signals: _Signals) -> int:
    config = _config(options, lanes=1)
    format = options.format or _format_of(options.paths)
    with signals.immediate():
        recording = feeds.load(
            options.paths,
            format,
            on_error=options.on_error,
            limit=options.limit,
            depth=options.depth,
        )
    if options.verify and not recording.checks:
        raise ConfigError(
            f"--verify: {options.paths[0]} holds nothing to compare a book with; LOBSTER's "
            "orderbook file, Binance's bookTicker and OKX's checksums do"
        )
    for name in ("capture", "json", "hlog"):
        _refuse_overwriting(name, getattr(options, name), recording.source)
    if recording.skipped:
        first = recording.problems[0]
        _warn(f"{recording.skipped:,} lines were left out; the first: {first}")
    instruments = recording.instruments
    if options.levels is not None:
        instruments = tuple(replace(each, levels=options.levels) for each in instruments)
    names = [each.name for each in instruments[:4]] + ["…"] * (len(instruments) > 4)
    source = (
        f"{len(recording):,} transactions of {', '.join(names)} from {recording.source[0]}, "
        f"speed {options.speed}, {options.repeat} times over"
    )
    return _drive(
        options,
        signals,
        config,
        [ReplayIngress(recording.transactions, options.speed, options.repeat)],
        source,
        books=instruments,
        checks=recording.checks if options.verify else None,
    )


def _format_of(paths: Sequence[str]) -> str:
    """What the names alone make certain; the feed then looks whether it is true."""
    for path in map(Path, paths):
        if path.suffix == ".npy":
            return "npy"
        if path.is_dir() or "_message_" in path.name or "_orderbook_" in path.name:
            return "lobster"
    if not os.path.exists(paths[0]):
        raise FeedError("no such file", path=paths[0])
    raise ConfigError(
        f"{paths[0]}: its name does not tell its format; give --format, one of "
        f"{', '.join(feeds.formats())}"
    )


def _refuse_overwriting(name: str, path: str | None, inputs: Sequence[Path]) -> None:
    """A recording is mapped while it is replayed: writing to it would end the process."""
    for each in inputs:
        with suppress(OSError):
            if path is not None and os.path.samefile(path, each):
                raise ConfigError(f"{name} = {path!r}: is the recording itself")


def _generate(options: argparse.Namespace, signals: _Signals) -> int:
    if options.output == "-":
        raise ConfigError("output = '-': a .npy file needs a name")
    if options.count < 3:
        raise ConfigError(f"count = {options.count}: must be at least 3, of which two clear")
    flow = MarketFlow(
        options.seed,
        rate=options.rate,
        tick_size=options.tick_size,
        base_price=options.base_price,
        market=options.market,
    )
    with signals.immediate(), replacing(options.output) as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(TRANSACTION_DTYPE),
            "fortran_order": False,
            "shape": (options.count,),
        }
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in _chunks(flow, options.count, options.market):
            file.write(chunk.data)
    size = options.count * TRANSACTION_DTYPE.itemsize / 1e6
    _Screen(sys.stdout).say(f"{options.output}: {options.count} transactions, {size:,.1f} MB")
    return GOOD


def _chunks(flow: MarketFlow, count: int, market: int) -> Iterator[npt.NDArray[np.void]]:
    """The book's clearing, so that the file can be replayed back to back, and then the flow."""
    clears = np.zeros(2, TRANSACTION_DTYPE)
    clears["kind"] = Kind.CLEAR
    clears["side"] = Side.BID, Side.ASK
    clears["flags"] = Flags.SNAPSHOT, Flags.SNAPSHOT | Flags.LAST
    clears["market"] = market
    yield clears
    left = count - len(clears)
    while left > 0:
        chunk = flow.generate(min(left, CHUNK))
        left -= len(chunk)
        yield chunk


def _recover(options: argparse.Namespace, signals: _Signals) -> int:
    bundles = recover_capture(options.path)
    _Screen(sys.stdout).say(f"{options.path}: {bundles} bundles")
    return GOOD


def _bench(options: argparse.Namespace, signals: _Signals) -> int:
    screen = _Screen(sys.stderr if options.json == "-" else sys.stdout)
    with signals.immediate(), _json_file(options.json) as file:
        machine, results = describe_machine(), {}
        measured = bench.run(options.names or None)
        screen.say(f"velox {velox.__version__}, {machine}", "", terminal.benchmark_heading())
        for name, result in measured:
            screen.say(terminal.benchmark_line(name, result))
            results[name] = result.to_dict()
        hiccups: tuple[Hiccups, ...] = ()
        if options.hiccups:
            # Those that the benchmarks of two threads are pinned to.
            usable = usable_cpus()
            hiccups = measure_hiccups(usable.order[:2] if usable.can_pin else None, options.hiccups)
            screen.say("", *terminal.hiccup_table(hiccups))
        if file is not None:
            figures = {
                "velox": velox.__version__,
                "machine": machine,
                "benchmarks": results,
                "hiccups": [each.to_dict() for each in hiccups],
            }
            write_document(figures, file)
    return GOOD


def _hiccups(options: argparse.Namespace, signals: _Signals) -> int:
    _refuse_sharing(json=options.json, hlog=options.hlog)
    screen = _Screen(sys.stderr if options.json == "-" else sys.stdout)
    with signals.immediate(), _json_file(options.json) as file, _histogram_log(options.hlog) as log:
        machine, clock = describe_machine(), Clock()
        screen.say(
            *terminal.hiccup_opening(
                version=velox.__version__,
                machine=machine,
                clock={"source": clock.source, "reason": clock.reason},
            ),
            "",
        )
        hiccups = measure_hiccups(options.cpus, options.duration, clock=clock)
        screen.say(*terminal.hiccup_table(hiccups))
        if log is not None:
            gaps = {f"cpu{'' if each.cpu is None else each.cpu}": each.gaps for each in hiccups}
            log.write_interval(gaps, until_s=options.duration)
        if file is not None:
            figures = {
                "velox": velox.__version__,
                "machine": machine,
                "clock": {"source": clock.source, "reason": clock.reason},
                "hiccups": [each.to_dict() for each in hiccups],
            }
            write_document(figures, file)
    return GOOD


@contextmanager
def _histogram_log(path: str | None) -> Iterator[HistogramLog | None]:
    """Open the log, whose lines can be read while they come; None where there is to be none."""
    if path is None:
        yield None
        return
    if path == "-":
        raise ConfigError("hlog = '-': an .hlog file needs a name")
    with open(path, "wb") as file:
        comment = f"velox {velox.__version__}, {describe_machine()}; values in ns"
        yield HistogramLog(file, time.time(), comment)


def _refuse_sharing(**paths: str | None) -> None:
    """Refuse that two results are to be written to one file."""
    taken: dict[str, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        other = taken.setdefault(os.path.realpath(path), name)
        if other != name:
            raise ConfigError(f"{other} and {name} are the same file, {path!r}")


# Running


def _config(options: argparse.Namespace, *, lanes: int) -> PipelineConfig:
    writers = options.writers if options.writers is not None else 1
    return PipelineConfig(
        placement=options.placement,
        cpus=options.cpus,
        idle=options.idle,
        strict=options.strict,
        lanes=lanes,
        # A count that cannot be used is left for the configuration to refuse.
        writers=max(writers, lanes) if writers > 0 else writers,
        levels=options.levels if options.levels is not None else PipelineConfig().levels,
        on_cross=options.on_cross,
        on_full=options.on_full,
        transaction_capacity=options.transaction_capacity,
        bundle_capacity=options.bundle_capacity,
        bundle_timeout_ns=round(options.bundle_timeout_us * 1000),
        seal=options.seal,
        batch=options.batch,
        clock=options.clock,
    )


def _drive(
    options: argparse.Namespace,
    signals: _Signals,
    config: PipelineConfig,
    ingresses: list[Ingress],
    source: str,
    **parts: Any,
) -> int:
    """Build the pipeline, run it to its end or to the first signal, and say what it came to."""
    _refuse_sharing(capture=options.capture, json=options.json, hlog=options.hlog)
    screen = _Screen(sys.stderr if options.json == "-" else sys.stdout)
    with (
        _json_file(options.json) as file,
        _submission(options, signals) as submitting,
        ExitStack() as stack,
    ):
        pipeline = Pipeline(ingresses, _output(options, submitting), config=config, **parts)
        log = stack.enter_context(_histogram_log(options.hlog))
        screen.say(
            *terminal.opening(
                version=velox.__version__,
                machine=describe_machine(),
                plan=pipeline.plan,
                clock={"source": pipeline.clock.source, "reason": pipeline.clock.reason},
                source=source,
            )
        )
        for warning in pipeline.plan.warnings:
            _warn(warning)
        if submitting is not None:
            screen.say(f"to          {submitting.description}")
        pipeline.start()
        if submitting is not None:
            submitting.start()
        errors: list[str] = []
        try:
            _watch(pipeline, options, signals, screen, log)
        finally:
            # Nothing that happens while it is watched leaves a capture half-written.
            errors += _stop(pipeline)
        report = pipeline.report()
        if log is not None:
            log.write_interval(report.latency, until_s=max(report.elapsed_s, log.until_s))
        hiccups = _hiccups_of(pipeline, options.hiccups)
        screen.say(*terminal.closing(report, hiccups))
        chain = _finish(submitting, report, screen, errors) if submitting is not None else None
        for warning in report.warnings[len(pipeline.plan.warnings) :]:
            _warn(warning)
        if report.verification is not None and report.verification.mismatched:
            errors.append(
                f"the book differs from its oracle at {report.verification.mismatched} of "
                f"{report.verification.checked} moments"
            )
        if options.capture is not None and not errors:
            screen.say(f"captured {report.ledger.delivered_bundles} bundles in {options.capture}")
        if file is not None:
            value = document(
                report,
                command="run" if isinstance(ingresses[0], PoissonIngress) else "replay",
                version=velox.__version__,
                interrupted=signals.requested or screen.broken,
                errors=tuple(errors),
                capture=options.capture,
                hlog=options.hlog,
                hiccups=hiccups,
                chain=chain,
            )
            write_document(value, file)
    for error in errors:
        _complain(error)
    return GOOD if report.passed and not errors else FAILED


def _hiccups_of(pipeline: Pipeline, duration: float) -> tuple[Hiccups, ...]:
    """What the host takes from the CPUs that ran the stages, now that they do not."""
    if not duration or pipeline.clock.source == "virtual":
        return ()
    cpus = {each.cpu for each in pipeline.plan.runners}
    pinned = None if None in cpus or not cpus else sorted(cpu for cpu in cpus if cpu is not None)
    try:
        return measure_hiccups(pinned, duration, clock=pipeline.clock)
    except (ConfigError, PipelineError) as error:
        # The CPUs that this process may use can change; what has been measured stands.
        _warn(f"no hiccups: {_text(error)}")
        return ()


def _output(options: argparse.Namespace, submitting: Any) -> Output:
    if submitting is not None:
        output: Output = submitting.output
        return output
    return DiscardOutput() if options.capture is None else CaptureOutput(options.capture)


@contextmanager
def _submission(options: argparse.Namespace, signals: _Signals) -> Iterator[Any]:
    """The way to the chain, where one is asked for."""
    if options.submit is None:
        if options.journal is not None:
            raise ConfigError(f"journal = {options.journal!r}: only with --submit")
        yield None
        return
    if options.capture is not None:
        raise ConfigError("capture and submit: a run has one output; 'velox submit' sends captures")
    with ExitStack() as stack:
        with signals.immediate():
            opened = _chain().submission(options.submit, options.journal)
            submitting = stack.enter_context(opened)
        yield submitting


def _chain() -> Any:
    """The commands that reach the chain; what they need may not be installed."""
    try:
        from velox.solana import command  # noqa: PLC0415 - and it takes long to load
    except ImportError as error:
        raise ConfigError(str(error)) from error
    return command


def _finish(submitting: Any, report: Report, screen: _Screen, errors: list[str]) -> dict[str, Any]:
    """Follow what was sent to its end, and say what it came to."""
    ledger, failed = submitting.finish()
    errors += failed
    screen.say("", *ledger.format().splitlines())
    for warning in submitting.warnings():
        _warn(warning)
    try:
        ledger.check(delivered_transactions=report.ledger.delivered_transactions)
    except LedgerError as error:
        errors.append(str(error))
    result: dict[str, Any] = ledger.to_dict()
    return result


def _submit(options: argparse.Namespace, signals: _Signals) -> int:
    screen = _Screen(sys.stderr if options.json == "-" else sys.stdout)
    with _json_file(options.json) as file:
        ledger, warnings, failed = _chain().submit(
            options.path,
            options.submit,
            options.journal,
            say=screen.say,
            stopped=lambda: signals.requested or screen.broken,
        )
        screen.say("", *ledger.format().splitlines())
        for warning in warnings:
            _warn(warning)
        if file is not None:
            write_document({"velox": velox.__version__, "chain": ledger.to_dict()}, file)
    for error in failed:
        _complain(error)
    return GOOD if ledger.balanced and not failed else FAILED


def _status(options: argparse.Namespace, signals: _Signals) -> int:
    with signals.immediate():
        _chain().status(options.journal, options.config, say=_Screen(sys.stdout).say)
    return GOOD


def _tips(options: argparse.Namespace, signals: _Signals) -> int:
    with signals.immediate():
        _chain().tips(options.config, say=_Screen(sys.stdout).say)
    return GOOD


def _localnet(options: argparse.Namespace, signals: _Signals) -> int:
    # A KeyboardInterrupt is how it is stopped, in order.
    with signals.immediate():
        try:
            return localnet.run(options)
        except ImportError as error:
            raise ConfigError(str(error)) from error


def _watch(
    pipeline: Pipeline,
    options: argparse.Namespace,
    signals: _Signals,
    screen: _Screen,
    log: HistogramLog | None,
) -> None:
    """Return when the pipeline has ended, its time is over, or it is asked to stop."""
    invoker = pipeline.plan.placement == "invoker"
    begin, begin_ns = time.monotonic(), pipeline.clock.now()
    second = 1
    while not (signals.requested or screen.broken):
        now = time.monotonic()
        if now >= begin + second:
            if not options.quiet:
                screen.say(terminal.progress(int(now - begin), pipeline.statistics()))
            if log is not None:
                log.write_interval(pipeline.latency(), until_s=pipeline.statistics().elapsed_s)
            second = int(now - begin) + 1
        next_look = min(begin + second - now, LOOK_AGAIN_S)
        if options.duration is not None:
            elapsed_s = (pipeline.clock.now() - begin_ns) / 1e9
            if elapsed_s >= options.duration:
                return
            next_look = min(next_look, options.duration - elapsed_s)
        if _step(pipeline) if invoker else pipeline.wait(next_look):
            return


def _step(pipeline: Pipeline) -> bool:
    """Some duty cycles on this thread; whether every stage has finished."""
    return any(pipeline.step() < 0 for _ in range(STEPS_AT_ONCE))


def _stop(pipeline: Pipeline) -> list[str]:
    try:
        pipeline.stop()
    except ExceptionGroup as group:
        return [_text(error) for error in group.exceptions]
    except (VeloxError, OSError) as error:
        return [_text(error)]
    return []


class _Signals:
    """Requests from outside to end: Ctrl-C, a service manager's stop, a terminal that closes.

    A request is only noted in `requested`, the second as the first: a stop in order takes
    milliseconds, and there is nothing that cutting it short would make better. Where nothing needs
    an order, in a block of `immediate`, it raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.requested = False
        self._immediate = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # nohup's word stands.
                if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            # One who asked more than once must not end the process after all, at its very end.
            signal.signal(number, signal.SIG_IGN if self.requested else handler)

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Let a request, also one that has come already, end the block at once."""
        self._immediate = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._immediate = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self._immediate:
            raise KeyboardInterrupt


# Printing


class _Screen:
    """Where the report goes. One that nobody reads any more ends the run, in order."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.broken = False

    def say(self, *lines: str) -> None:
        if self.broken:
            return
        try:
            print(*lines, sep="\n", file=self.stream, flush=True)
        except BrokenPipeError:
            self.broken = True
            _silence(self.stream)
        except OSError as error:
            self.broken = True
            _silence(self.stream)
            raise OSError(error.errno, error.strerror, "standard output") from error


def _silence(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, so that the interpreter's end does not complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def _json_file(path: str | None) -> Iterator[IO[bytes] | None]:
    """Where the document goes; opened before anything runs, so that it does not run for nothing."""
    with ExitStack() as stack:
        if path == "-":
            if sys.stdout is None:
                raise ConfigError("json = '-': standard output is closed")
            yield sys.stdout.buffer
            sys.stdout.flush()
        else:
            yield None if path is None else stack.enter_context(replacing(path))


def _text(error: BaseException) -> str:
    if isinstance(error, CaptureError):
        text = error.strerror or str(error)
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    else:
        text = str(error) or ("out of memory" if isinstance(error, MemoryError) else repr(error))
    return " ".join(text.split())


def _complain(text: str) -> None:
    with suppress(OSError):
        print(f"velox: error: {text}", file=sys.stderr, flush=True)


def _warn(text: str) -> None:
    with suppress(OSError):
        print(f"velox: warning: {text}", file=sys.stderr, flush=True)
