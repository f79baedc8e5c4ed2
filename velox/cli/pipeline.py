"""A pipeline, from its options to its report: what `run` and `replay` have in common."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import velox
from velox.cli.commands.chain import destination_of, files_of, finish, submission
from velox.cli.options import (
    add_hiccups_option,
    cpus,
    integer,
    microseconds,
    path,
    placement,
    positive,
)
from velox.cli.results import histogram_log, json_file, refuse_sharing
from velox.cli.screen import FAILED, GOOD, Screen, complain, one_line, warn
from velox.cli.signals import Signals
from velox.config import PipelineConfig
from velox.errors import ConfigError, PipelineError, VeloxError
from velox.runtime.hardware import describe_machine
from velox.runtime.hiccups import Hiccups, measure_hiccups
from velox.runtime.ingress import Ingress
from velox.runtime.output import Output
from velox.runtime.pipeline import Pipeline
from velox.runtime.sinks import CaptureOutput, DiscardOutput
from velox.runtime.sources import PoissonIngress
from velox.telemetry import HistogramLog, document, terminal, write_document

if TYPE_CHECKING:
    from velox.cli.submission import PipelineRun, SubmissionRun

__all__ = ["add_pipeline_options", "configuration", "drive"]

# The longest that a request to stop waits to be seen, in seconds.
LOOK_AGAIN_S = 0.05
# Duty cycles between two looks at the time where this thread drives the stages.
STEPS_AT_ONCE = 64


def add_pipeline_options(parser: argparse.ArgumentParser, *, duration: float | None) -> None:
    """Give a parser what `configuration` and `drive` ask its options for."""
    default = PipelineConfig()
    replays = duration is None
    until = "until the recording ends" if replays else f"{duration:g}"
    levels = "the format's" if replays else default.levels
    where = parser.add_argument_group("where it runs")
    where.add_argument(
        "--placement",
        type=placement,
        default="auto",
        metavar="P",
        help="auto, invoker, shared, paired, dedicated, or the CPU of each stage, "
        "as in ingress=0,orderbook=0,bundle=1,output=1 (auto)",
    )
    where.add_argument("--cpus", type=cpus, metavar="LIST", help="to pin to, as in 0,2-3")
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
    where.add_argument(
        "--huge-pages",
        default=default.huge_pages,
        metavar="WHEN",
        help="what rings and books lie on: auto (blocks of 2 MiB or more), always, never (auto)",
    )
    what = parser.add_argument_group("what it does")
    what.add_argument(
        "--duration", type=positive, default=duration, metavar="S", help=f"seconds ({until})"
    )
    what.add_argument(
        "--levels",
        type=integer,
        metavar="N",
        help=f"price levels a side that a book keeps hot, a power of two ({levels})",
    )
    what.add_argument(
        "--writers",
        type=integer,
        metavar="N",
        help="threads that may write the book; 2 or more: the shared book with a "
        "fixed window, of at least as many as there are lanes (the lanes)",
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
        type=microseconds,
        metavar="US",
        default=default.bundle_timeout_ns / 1000,
        help="how long a bundle stays open (100)",
    )
    what.add_argument(
        "--batch",
        type=integer,
        default=default.batch,
        metavar="N",
        help="most items that a stage moves at a time (256)",
    )
    what.add_argument(
        "--transaction-capacity",
        type=integer,
        metavar="N",
        default=default.transaction_capacity,
        help="slots of a transaction ring (4096)",
    )
    what.add_argument(
        "--bundle-capacity",
        type=integer,
        metavar="N",
        default=default.bundle_capacity,
        help="slots of the bundle ring (1024)",
    )
    result = parser.add_argument_group("what it leaves")
    result.add_argument(
        "--capture", type=path, metavar="PATH", help="write the bundles to a .npy file"
    )
    result.add_argument(
        "--submit",
        metavar="WHERE",
        help="send the orders to Solana: 'localnet', a cluster in this process, or CONFIG.toml",
    )
    result.add_argument(
        "--journal",
        type=path,
        metavar="PATH",
        help="of --submit: what was signed (the configuration's)",
    )
    result.add_argument(
        "--json",
        type=path,
        metavar="PATH",
        help="write the report; '-' is stdout, and moves the text to stderr",
    )
    result.add_argument(
        "--hlog",
        type=path,
        metavar="PATH",
        help="write the latencies of each second in HdrHistogram's log format",
    )
    add_hiccups_option(result)
    result.add_argument("--quiet", action="store_true", help="no line a second")


def configuration(options: argparse.Namespace, *, lanes: int) -> PipelineConfig:
    """What the options say of the pipeline; the configuration refuses what cannot be."""
    return PipelineConfig(
        placement=options.placement,
        cpus=options.cpus,
        idle=options.idle,
        strict=options.strict,
        lanes=lanes,
        writers=lanes if options.writers is None else options.writers,
        levels=options.levels if options.levels is not None else PipelineConfig().levels,
        on_cross=options.on_cross,
        on_full=options.on_full,
        transaction_capacity=options.transaction_capacity,
        bundle_capacity=options.bundle_capacity,
        bundle_timeout_ns=round(options.bundle_timeout_us * 1000),
        seal=options.seal,
        batch=options.batch,
        clock=options.clock,
        huge_pages=options.huge_pages,
    )


def drive(
    options: argparse.Namespace,
    signals: Signals,
    config: PipelineConfig,
    ingresses: list[Ingress],
    source: str,
    *,
    recording: Sequence[Path] = (),
    **parts: Any,
) -> int:
    """Build the pipeline, run it to its end or to the first signal, and say what it came to."""
    destination = destination_of(options)
    read, written = files_of(destination)
    results = [(name, getattr(options, name)) for name in ("capture", "json", "hlog")]
    refuse_sharing([*written, *results], [*read, *(("recording", each) for each in recording)])
    screen = Screen(sys.stderr if options.json == "-" else sys.stdout)
    with (
        json_file(options.json) as file,
        submission(destination, options, signals, screen) as submitting,
        ExitStack() as stack,
    ):
        pipeline = Pipeline(ingresses, _output(options, submitting), config=config, **parts)
        log = stack.enter_context(histogram_log(options.hlog))
        screen.say(
            *terminal.opening(
                version=velox.__version__,
                machine=describe_machine(),
                plan=pipeline.plan,
                clock={"source": pipeline.clock.source, "reason": pipeline.clock.reason},
                huge_pages=pipeline.huge_pages,
                source=source,
            )
        )
        for warning in pipeline.warnings:
            warn(warning)
        if submitting is not None:
            screen.say(f"to          {submitting.description}")
        pipeline.start()
        errors: list[str] = []
        try:
            if submitting is not None:
                submitting.start()
            _watch(pipeline, options, signals, screen, log, submitting=submitting)
        finally:
            # Nothing that happens while it is watched leaves a capture half-written.
            errors += _stop(pipeline)
        report = pipeline.report()
        if log is not None:
            log.write_interval(report.latency, until_s=max(report.elapsed_s, log.until_s))
        hiccups = _hiccups_of(pipeline, options.hiccups)
        screen.say(*terminal.closing(report, hiccups))
        chain = finish(submitting, report, screen, errors) if submitting is not None else None
        for warning in report.warnings[len(pipeline.warnings) :]:
            warn(warning)
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
        complain(error)
    return GOOD if report.passed and not errors else FAILED


def _watch(
    pipeline: Pipeline,
    options: argparse.Namespace,
    signals: Signals,
    screen: Screen,
    log: HistogramLog | None,
    *,
    submitting: SubmissionRun | None,
) -> None:
    """Return when the pipeline or what it submits has ended, its time is over, or it shall stop."""
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
        if submitting is not None:
            submitting.look()
            if submitting.failed:
                return
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
        return [one_line(error) for error in group.exceptions]
    except (VeloxError, OSError) as error:
        return [one_line(error)]
    return []


def _hiccups_of(pipeline: Pipeline, duration: float) -> tuple[Hiccups, ...]:
    """What the host takes from the CPUs that ran the stages, now that they do not."""
    if not duration or pipeline.clock.source == "virtual":
        return ()
    ran_on = {each.cpu for each in pipeline.plan.runners}
    pinned = sorted(cpu for cpu in ran_on if cpu is not None) if None not in ran_on else []
    try:
        return measure_hiccups(pinned or None, duration, clock=pipeline.clock)
    except (ConfigError, PipelineError) as error:
        # The CPUs that this process may use can change; what has been measured stands.
        warn(f"no hiccups: {one_line(error)}")
        return ()


def _output(options: argparse.Namespace, submitting: PipelineRun | None) -> Output:
    if submitting is not None:
        return submitting.output
    return DiscardOutput() if options.capture is None else CaptureOutput(options.capture)
