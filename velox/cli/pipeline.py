"""Functions that ``velox run`` and ``velox replay`` share."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import velox
from velox.cli.chain import (
    add_journal_option,
    destination_of,
    files_of,
    finish,
    submission,
)
from velox.cli.monitoring import metrics_server, url_of
from velox.cli.options import add_hiccups_option, add_setting, parameter, path, positive
from velox.cli.results import JsonResult, LogResult, refuse_sharing
from velox.cli.screen import FAILED, GOOD, Screen, complain, one_line, warn
from velox.cli.signals import Signals
from velox.config import PipelineConfig
from velox.core.kill import KillSwitch
from velox.core.limits import Limits
from velox.core.orders import OrderTable
from velox.core.risk import RiskGate
from velox.errors import ConfigError, PipelineError, VeloxError
from velox.runtime.hardware import describe_machine
from velox.runtime.hiccups import Hiccups, measure_hiccups
from velox.runtime.ingress import Ingress
from velox.runtime.kill_file import kill_on_signal, open_kill_switch
from velox.runtime.limits_file import load_limits
from velox.runtime.markets import priced_markets, refuse_other_scales
from velox.runtime.output import Output
from velox.runtime.pipeline import Pipeline
from velox.runtime.report import Report
from velox.runtime.sidecar import array_beside, sidecar_of
from velox.runtime.sinks import CaptureOutput, DiscardOutput
from velox.runtime.sources import PoissonIngress
from velox.runtime.strategy import Strategy
from velox.runtime.strategy_loader import load
from velox.telemetry import Course, document, terminal

if TYPE_CHECKING:
    from velox.cli.submission import PipelineRun, SubmissionRun
    from velox.feeds import Recording

__all__ = ["add_pipeline_options", "configuration", "drive", "risk_of", "strategy_of"]

# A request to stop is seen within this many seconds.
LOOK_AGAIN_S = 0.05
# Duty cycles between two readings of the time, if this thread drives the stages.
STEPS_AT_ONCE = 64


def add_pipeline_options(parser: argparse.ArgumentParser, *, replays: bool, until: str) -> None:
    """Give a parser the options that `configuration` and `drive` read."""
    where = parser.add_argument_group("where it runs")
    for name in ("placement", "cpus", "pin", "idle", "strict", "clock", "huge_pages"):
        add_setting(where, name)
    what = parser.add_argument_group("what it does")
    what.add_argument(
        "--duration",
        type=positive,
        metavar="S",
        help=f"seconds to run (default: {until})",
    )
    add_setting(what, "levels", default_text="the recording format's" if replays else None)
    add_setting(what, "writers", default_text=None if replays else "--lanes")
    for name in (
        *("on_cross", "on_full", "publish", "seal", "bundle_timeout_ns"),
        *("batch", "transaction_capacity", "bundle_capacity"),
    ):
        add_setting(what, name)
    decides = parser.add_argument_group("the strategy")
    decides.add_argument(
        "--strategy",
        metavar="NAME",
        help="the strategy: FILE.py:name, module:name or lib.so:symbol (default: each record that "
        "the book applied is forwarded)",
    )
    decides.add_argument(
        "--param",
        type=parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the strategy's state; can be given several times",
    )
    for name in ("timer_ns", "on_bad_order", "report_capacity", "order_capacity"):
        add_setting(decides, name)
    decides.add_argument(
        "--limits",
        type=path,
        metavar="FILE.toml",
        help="limit the orders of a strategy that takes reports; see docs/reference/risk.md",
    )
    decides.add_argument(
        "--kill",
        type=path,
        metavar="FILE",
        help="a kill switch that 'velox kill FILE' sets; it is made if there is none, and SIGUSR1 "
        "sets it too",
    )
    result = parser.add_argument_group("what it leaves")
    result.add_argument(
        "--capture", type=path, metavar="PATH", help="write the bundles to this .npy file"
    )
    result.add_argument(
        "--submit",
        metavar="WHERE",
        help="send the orders to Solana: localnet (the market of a cluster in this process), "
        "localnet:memo (the cluster alone), or CONFIG.toml",
    )
    add_journal_option(result)
    result.add_argument(
        "--json",
        type=path,
        metavar="PATH",
        help="write the report as JSON; '-': to stdout, and the text to stderr",
    )
    result.add_argument(
        "--hlog",
        type=path,
        metavar="PATH",
        help="write the latencies of each second in HdrHistogram's log format",
    )
    result.add_argument(
        "--metrics",
        metavar="HOST:PORT",
        help="serve metrics to Prometheus while it runs, as in 127.0.0.1:9464; port 0: any",
    )
    add_hiccups_option(result)
    result.add_argument("--quiet", action="store_true", help="do not print a line each second")


def configuration(options: argparse.Namespace, *, lanes: int | None = None) -> PipelineConfig:
    """Make the configuration of the options that were given; the rest keep their defaults.

    Parameters
    ----------
    options : argparse.Namespace
        Of `add_pipeline_options`.
    lanes : int, optional
        The lanes, if the command has no option for them.

    Raises
    ------
    ConfigError
        A value cannot be used.
    """
    given = {name: getattr(options, name, None) for name in PipelineConfig.settings()}
    if lanes is not None:
        given["lanes"] = lanes
    return PipelineConfig(**{name: value for name, value in given.items() if value is not None})


def strategy_of(options: argparse.Namespace) -> Strategy | None:
    """Load the strategy that was asked for.

    Raises
    ------
    ConfigError
        There are parameters and no strategy, or a parameter is given twice.
    StrategyError
        The strategy cannot be loaded, or a parameter does not fit its state.
    """
    given: dict[str, str] = {}
    for name, value in options.param:
        if name in given:
            raise ConfigError(f"{name} is given twice", field="param", value=f"{name}={value}")
        given[name] = value
    if options.strategy is None:
        if given:
            raise ConfigError("--param needs --strategy", field="param", value=next(iter(given)))
        return None
    return load(options.strategy, given)


@contextmanager
def risk_of(
    options: argparse.Namespace,
    config: PipelineConfig,
    *,
    tells: bool,
    submitting: PipelineRun | None,
) -> Iterator[RiskGate | None]:
    """Give the risk gate of a run, or None; until the end, SIGUSR1 sets its switch.

    A strategy that takes reports always has one, which tracks its orders and its account. Without
    ``--limits`` it checks what needs no limit, such as ids in use.

    Raises
    ------
    LimitsError
        The file of limits cannot be used.
    ConfigError
        The file of the kill switch cannot be used.
    """
    if options.limits is None and options.kill is None and not tells:
        yield None
        return
    limits = Limits() if options.limits is None else load_limits(options.limits)
    switch = KillSwitch() if options.kill is None else open_kill_switch(options.kill)
    before = kill_on_signal(switch)
    try:
        units = {} if submitting is None else submitting.base_units
        yield RiskGate(OrderTable(config.order_capacity, base_units=units), limits, switch)
    finally:
        signal.signal(signal.SIGUSR1, before)


def _announce(
    pipeline: Pipeline, screen: Screen, source: str, submitting: PipelineRun | None
) -> Sequence[str]:
    """Print what is known before the start, and let the strategy hear of its orders.

    Returns the warnings that were printed.
    """
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
    told = _warn_of(pipeline.warnings)
    if pipeline.risk is not None:
        given = [f"{table}.{name} = {n}" for table, name, n in pipeline.risk.limits.given()]
        screen.say(f"limits      {', '.join(given) or 'none'}")
        if pipeline.risk.kill.killed:
            warn(f"the kill switch is set: {pipeline.risk.kill.why}; no order leaves")
    if submitting is not None:
        submitting.attach(pipeline)
        screen.say(f"to          {submitting.description}")
    return told


def drive(
    options: argparse.Namespace,
    signals: Signals,
    config: PipelineConfig,
    ingresses: list[Ingress],
    source: str,
    *,
    recording: Recording | None = None,
    **parts: Any,
) -> int:
    """Build the pipeline, run it to its end or the first signal, and print its report.

    The report ends with what the `recording` lacks and what was left aside of it.
    """
    destination = destination_of(options)
    if destination is not None:
        books = parts.get("books", ())
        refuse_other_scales(books, field="submit")
        destination.expect(priced_markets(ingresses, books))
    strategy = strategy_of(options)
    tells = strategy is not None and strategy.reports
    read, written = files_of(destination)
    paths = recording.source if recording is not None else ()
    refuse_sharing(
        [*written, *_results(options)], [*read, *(("recording", each) for each in paths)]
    )
    errors: list[str] = []
    screen = Screen(sys.stderr if options.json == "-" else sys.stdout, errors)
    with (
        JsonResult(options.json, signals) as json,
        submission(destination, options, signals, screen, tells=tells) as submitting,
        risk_of(options, config, tells=tells, submitting=submitting) as risk,
        ExitStack() as stack,
    ):
        pipeline = Pipeline(
            ingresses,
            _output(options, submitting),
            strategy=strategy,
            risk=risk,
            config=config,
            **parts,
        )
        log = stack.enter_context(LogResult(options.hlog, signals, errors))
        told = _announce(pipeline, screen, source, submitting)
        course = Course()
        metrics = stack.enter_context(metrics_server(options.metrics, pipeline))
        if metrics is not None:
            screen.say(f"metrics     {url_of(metrics)}")
        pipeline.start()
        told = _warn_of(pipeline.warnings, told)
        try:
            if submitting is not None:
                submitting.start()
            _watch(pipeline, options, signals, screen, log, course=course, submitting=submitting)
        finally:
            # The capture is completed also after an error above.
            errors += _stop(pipeline)
        latency = pipeline.latency()
        course.finish(pipeline.statistics(), latency["transit"])
        log.write_interval(latency, pipeline.statistics().elapsed_s)
        stack.close()
        hiccups = _hiccups_of(pipeline, options.hiccups)
        report = pipeline.report(hiccups)
        screen.say(*terminal.closing(report, hiccups))
        reading = None if recording is None else recording.to_dict()
        if reading is not None:
            screen.say(*terminal.recording_lines(reading))
        chain = None
        if submitting is not None:
            chain = finish(submitting, report, screen, errors)
            report = _settled(pipeline, submitting, report, screen)
        _warn_of(report.warnings, told)
        errors += _mismatches(report)
        if options.capture is not None and not errors:
            screen.say(f"captured {report.ledger.delivered_bundles} bundles in {options.capture}")
        json.write(
            lambda: document(
                report,
                command="run" if isinstance(ingresses[0], PoissonIngress) else "replay",
                version=velox.__version__,
                interrupted=signals.requested or screen.broken,
                errors=tuple(errors),
                capture=options.capture,
                hlog=options.hlog,
                hiccups=hiccups,
                chain=chain,
                recording=reading,
                config=config,
                seconds=course.to_list(),
            ),
            errors,
        )
    for error in errors:
        complain(error)
    return GOOD if report.passed and not errors else FAILED


def _warn_of(warnings: Sequence[str], told: Sequence[str] = ()) -> Sequence[str]:
    """Print the warnings that were not told yet, and return all of them."""
    for warning in warnings:
        if warning not in told:
            warn(warning)
    return warnings


def _mismatches(report: Report) -> list[str]:
    """Say how often the book differed from the recording's check."""
    found = report.verification
    if found is None or not found.mismatched:
        return []
    return [
        f"the book differs from the recording's check at {found.mismatched} of {found.checked} "
        "events"
    ]


def _settled(pipeline: Pipeline, submitting: PipelineRun, report: Report, screen: Screen) -> Report:
    """Return the report with what was heard of the orders after the pipeline had stopped."""
    if not submitting.settle(pipeline):
        return report
    settled = pipeline.report()
    screen.say("", *settled.order_lines())
    return replace(report, feedback=settled.feedback, orders=settled.orders)


def _results(options: argparse.Namespace) -> list[tuple[str, str | None]]:
    """Name the files that a run leaves."""
    results = [(name, getattr(options, name)) for name in ("capture", "json", "hlog")]
    if options.capture is not None:
        results.append(("the capture's sidecar", sidecar_of(options.capture)))
        results.append(("the capture's venue times", array_beside(options.capture, "venue_ts_ns")))
    return results


def _watch(
    pipeline: Pipeline,
    options: argparse.Namespace,
    signals: Signals,
    screen: Screen,
    log: LogResult,
    *,
    course: Course,
    submitting: SubmissionRun | None,
) -> None:
    """Return when the pipeline or its submission has ended, at the deadline, or on a request."""
    invoker = pipeline.plan.placement == "invoker"
    begin, begin_ns = time.monotonic(), pipeline.clock.now()
    second = 1
    while not (signals.requested or screen.broken):
        now = time.monotonic()
        if now >= begin + second:
            statistics, latency = pipeline.statistics(), pipeline.latency()
            course.add(statistics, latency["transit"])
            if not options.quiet:
                screen.say(terminal.progress(int(now - begin), statistics))
            log.write_interval(latency, statistics.elapsed_s)
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
    """Run some duty cycles on this thread; return whether every stage has finished."""
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
    """Measure the host's hiccups on the CPUs that ran the stages, after the run."""
    if not duration or pipeline.clock.source == "virtual":
        return ()
    ran_on = {each.cpu for each in pipeline.plan.runners}
    pinned = sorted(cpu for cpu in ran_on if cpu is not None) if None not in ran_on else []
    may_pin = pinned or (pipeline.config.pin and not pipeline.pins_refused)
    try:
        return measure_hiccups(
            pinned or (None if may_pin else [None]), duration, clock=pipeline.clock
        )
    except (ConfigError, PipelineError) as error:
        # The CPUs that this process may use can change. The report of the run is still valid.
        warn(f"cannot measure hiccups: {one_line(error)}")
        return ()


def _output(options: argparse.Namespace, submitting: PipelineRun | None) -> Output:
    if submitting is not None:
        return submitting.output
    return DiscardOutput() if options.capture is None else CaptureOutput(options.capture)
