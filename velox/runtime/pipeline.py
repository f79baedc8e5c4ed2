"""The pipeline: stages joined by rings, on the threads that its plan names."""

from __future__ import annotations

import _thread
import atexit
import os
from collections.abc import Sequence
from contextlib import suppress
from math import isfinite
from types import TracebackType
from typing import NoReturn

from velox.config import PipelineConfig, stage_names
from velox.core.choices import ClockSource
from velox.core.clock import Clock
from velox.core.histogram import LatencyHistogram
from velox.core.instrument import Instrument
from velox.core.limits import Limits
from velox.core.order_book import Books, OrderBook
from velox.core.orders import OrderTable
from velox.core.ring import BundleRing, ReportRing, TransactionRing
from velox.core.risk import RiskGate
from velox.errors import ConfigError, PipelineError, StageGroupError
from velox.runtime.book_stage import BookStage
from velox.runtime.bundle_stage import BundleStage
from velox.runtime.checks import ChecksumChecks, DepthChecks
from velox.runtime.feedback import Feedback, StrategySource
from velox.runtime.hardware import describe_machine, usable_cpus
from velox.runtime.hiccups import Hiccups
from velox.runtime.huge_pages import look
from velox.runtime.ingress import Ingress
from velox.runtime.lateness import lateness_warning
from velox.runtime.ledger import Ledger
from velox.runtime.markets import books_for, refuse_other_scales
from velox.runtime.order_report import OrderReport, order_report
from velox.runtime.output import Output
from velox.runtime.placement import Plan, plan
from velox.runtime.report import Report, Statistics, markets_of
from velox.runtime.report_port import ReportPort
from velox.runtime.runner import Runner
from velox.runtime.sinks import DiscardOutput
from velox.runtime.snapshot import RingState, RunnerState, Snapshot, markets_now
from velox.runtime.stage import Control, Stage
from velox.runtime.strategy import ROOM, Strategy
from velox.runtime.threads import Latch, RunnerThreads
from velox.runtime.verify import Verifier

__all__ = ["Pipeline"]

# How long a wait for threads sleeps before Python drains the output again.
LOOK_AGAIN_S = 0.001
# Duty cycles of the invoker between two readings of the clock.
STEPS_AT_ONCE = 4096
# A stop that drains gives up after so many interrupts.
INTERRUPTS_TO_GIVE_UP = 3


def _checked_config(config: PipelineConfig | None) -> PipelineConfig:
    if config is None:
        return PipelineConfig()
    if not isinstance(config, PipelineConfig):
        raise ConfigError("must be a PipelineConfig", field="config", value=config)
    return config


def _checked_ingresses(given: Ingress | Sequence[Ingress], lanes: int) -> tuple[Ingress, ...]:
    if isinstance(given, Ingress):
        ingresses: tuple[Ingress, ...] = (given,)
    elif isinstance(given, Sequence):
        ingresses = tuple(given)
    else:
        raise ConfigError("must be an Ingress, or a sequence of them", field="ingress", value=given)
    for each in ingresses:
        if not isinstance(each, Ingress):
            raise ConfigError(f"{each!r} is no Ingress", field="ingress", value=given)
    if len(ingresses) != lanes:
        raise ConfigError(f"{len(ingresses)} ingresses were given", field="lanes", value=lanes)
    return ingresses


def _check_duration(duration: float) -> None:
    try:
        valid = isfinite(duration) and 0 <= duration <= 1e9
    except (TypeError, OverflowError):
        valid = False
    if not valid:
        raise ConfigError("must be 0 to 1e9 seconds", field="duration", value=duration)


def _checked_output(output: Output | None) -> Output:
    if output is None:
        return DiscardOutput()
    if not isinstance(output, Output):
        raise ConfigError("must be an Output", field="output", value=output)
    return output


class Pipeline:
    """Ingress, order book, bundles and output, joined by rings.

    Parameters
    ----------
    ingress : Ingress, or a sequence of them
        Where records come from; as many as the configuration has lanes.
    output : Output, optional
        Where bundles go; `DiscardOutput` if not given.
    strategy : Strategy, numba.cfunc, ctypes function, PyCapsule or int, optional
        It is called after each applied record and writes the records to emit. One that takes
        reports is also called for each report and timer. The default forwards each applied record.
    books : Books, OrderBook, or sequence of Instrument, optional
        The markets. By default, books that fit what the ingress trades in.
    risk : RiskGate or Limits, optional
        Limits the orders of a strategy that takes reports, and tracks them and the account. The
        strategy's view then has its orders and its position. One gate is for one pipeline.
    checks : DepthChecks or ChecksumChecks, optional
        What the books must hold, and when, while an ingress replays a recording.
    config : PipelineConfig, optional

    Raises
    ------
    ConfigError
        The parts do not fit together; the message says which.

    Notes
    -----
    Thread-safety: `start`, `run` and `step` belong to one thread, and so does `stop` with placement
    ``"invoker"``. Everything else may be called from any thread: `stop` any number of times,
    `report` after the stop, the others also while it runs. A pipeline runs once, in the process
    that starts it: after a fork, the child has none of its threads, and its `stop` does nothing.

    Examples
    --------
    >>> import velox
    >>> pipeline = velox.Pipeline(velox.PoissonIngress(rate=50_000, seed=7))
    >>> report = pipeline.run(duration=0.05)
    >>> report.ledger.balanced
    True
    """

    def __init__(
        self,
        ingress: Ingress | Sequence[Ingress],
        output: Output | None = None,
        *,
        strategy: object = None,
        books: Books | OrderBook | Sequence[Instrument] | None = None,
        risk: RiskGate | Limits | None = None,
        checks: DepthChecks | ChecksumChecks | None = None,
        config: PipelineConfig | None = None,
    ) -> None:
        self.config = config = _checked_config(config)
        self.ingresses = _checked_ingresses(ingress, config.lanes)
        self.output = _checked_output(output)
        self.books = books_for(self.ingresses, config, given=books)
        if strategy is not None and not isinstance(strategy, Strategy):
            strategy = Strategy(strategy)
        self._report_port = self._checked_feedback(strategy)
        self.risk: RiskGate | None = self._checked_risk(risk)
        if strategy is not None and config.transaction_capacity < ROOM:
            raise ConfigError(
                f"must be at least {ROOM} with a strategy, which can emit {ROOM} records in one "
                "call",
                field="transaction_capacity",
                value=config.transaction_capacity,
            )
        self._strategy = strategy
        self._plan_threads()
        try:
            self.clock = Clock(self._clock_source())
        except ConfigError as error:
            raise ConfigError(error.why, field="clock", value=error.value) from None
        self._control = Control()
        self._join(self._verifier(checks))
        self.huge_pages = look(
            config.huge_pages,
            [
                block
                for each in (*self._rings.values(), *self.books.values())
                for block in each.huge_blocks
            ],
        )
        self._runners = self._make_runners()
        self._threads = RunnerThreads(
            [] if self.plan.placement == "invoker" else self._runners, strict=config.strict
        )
        self._state = "new"
        self._process = os.getpid()
        self._start_ns: int | None = None
        self._end_ns: int | None = None
        self._ending = _thread.allocate_lock()
        self._stages_ended = Latch()
        self._errors: list[Exception] = []

    # Building

    def _checked_feedback(self, strategy: Strategy | None) -> ReportPort | None:
        """Return where reports come in, if the strategy takes any."""
        if strategy is None or not strategy.reports:
            if strategy is not None:
                # Its view does not tell the scale.
                refuse_other_scales(self.books.values(), field="strategy")
            if self.config.timer_ns is not None:
                raise ConfigError(
                    "needs a strategy that takes reports and timers",
                    field="timer_ns",
                    value=self.config.timer_ns,
                )
            return None
        if self.config.lanes > 1:
            raise ConfigError(
                "must be 1 with a strategy that takes reports",
                field="lanes",
                value=self.config.lanes,
            )
        ring = ReportRing(self.config.report_capacity, huge_pages=self.config.huge_pages)
        return ReportPort(ring, [each.market for each in self.books.values()])

    def _checked_risk(self, risk: RiskGate | Limits | None) -> RiskGate | None:
        """Return the gate, made of limits if those are given."""
        if risk is not None and self._report_port is None:
            raise ConfigError(
                "needs a strategy that takes reports, which tell what became of its orders",
                field="risk",
            )
        if risk is None or isinstance(risk, RiskGate):
            return risk
        return RiskGate(OrderTable(self.config.order_capacity), risk)

    def _plan_threads(self) -> None:
        names = stage_names(self.config.lanes)
        absent = set()
        lanes = [name for name in names if name.startswith("ingress")]
        for name, ingress in zip(lanes, self.ingresses, strict=True):
            if not ingress.driven:
                absent.add(name)
        if not self.output.driven:
            absent.add("output")
        self.plan: Plan = plan(
            self.config,
            usable_cpus(),
            stages_present=[name for name in names if name not in absent],
        )
        if self.plan.placement == "invoker" and absent:
            raise ConfigError(
                "drives every stage, so it takes no PushIngress and no PullOutput",
                field="placement",
                value="invoker",
            )

    def _clock_source(self) -> ClockSource:
        if self.config.clock == "auto" and self.plan.placement == "invoker":
            return "virtual"
        if self.config.clock == "virtual" and self.plan.placement != "invoker":
            raise ConfigError(
                "only placement 'invoker' can drive it", field="clock", value="virtual"
            )
        return self.config.clock

    def _verifier(self, checks: DepthChecks | ChecksumChecks | None) -> Verifier | None:
        if checks is None:
            return None
        ingress = self.ingresses[0]
        if len(self.ingresses) != 1 or ingress.recorded is None:
            raise ConfigError("need one lane, and an ingress with a recording", field="checks")
        if (self.config.on_full or ingress.default_on_full) != "block":
            raise ConfigError(
                "must be 'block' for checks: a dropped record changes the book",
                field="on_full",
                value="drop",
            )
        return Verifier(checks, self.books, pass_length=ingress.pass_length)

    def _join(self, verifier: Verifier | None) -> None:
        """Make the rings and the stages between them."""
        config = self.config
        self._stages: dict[str, Stage] = {}
        self._book_stages: list[BookStage] = []
        to_bundle = []
        for lane, ingress in enumerate(self.ingresses):
            suffix = str(lane) if config.lanes > 1 else ""
            from_ingress = self._transaction_ring()
            from_book = self._transaction_ring()
            ingress.attach(
                from_ingress,
                self.clock,
                self._control,
                name="ingress" + suffix,
                on_full=config.on_full,
                batch=min(config.batch, config.transaction_capacity),
            )
            book = BookStage(
                from_ingress,
                from_book,
                self.books,
                self.clock,
                self._control,
                strategy=self._strategy,
                reports=None if self._report_port is None else self._report_port.ring,
                timer_ns=config.timer_ns,
                gate=self.risk,
                verifier=verifier,
                batch=config.batch,
                on_bad_order=config.on_bad_order,
                name="orderbook" + suffix,
            )
            to_bundle.append(from_book)
            self._book_stages.append(book)
            self._stages[ingress.name] = ingress
            self._stages[book.name] = book
        bundles = self._bundle_ring()
        self._bundle_stage = BundleStage(
            to_bundle,
            bundles,
            self.clock,
            timeout_ns=config.bundle_timeout_ns,
            seal_when_idle=config.seal == "idle",
            batch=config.batch,
        )
        self.output.attach(bundles, self.clock, self._control, batch=config.batch)
        self.output.instruments = tuple(each.instrument for each in self.books.values())
        self._stages["bundle"] = self._bundle_stage
        self._stages["output"] = self.output
        self._rings: dict[str, TransactionRing | BundleRing | ReportRing] = {
            **{f"{each.name}": each.ring for each in self.ingresses},
            **{f"orderbook{i if config.lanes > 1 else ''}": r for i, r in enumerate(to_bundle)},
            "bundle": bundles,
        }

        if self._report_port is not None:
            self._rings["reports"] = self._report_port.ring

    def _transaction_ring(self) -> TransactionRing:
        return TransactionRing(self.config.transaction_capacity, huge_pages=self.config.huge_pages)

    def _bundle_ring(self) -> BundleRing:
        return BundleRing(self.config.bundle_capacity, huge_pages=self.config.huge_pages)

    def _make_runners(self) -> list[Runner]:
        if self.plan.placement == "invoker":
            return [Runner("velox-invoker", list(self._stages.values()), self.clock)]
        driven = sum(len(each.stages) for each in self.plan.runners)
        alone = len(self.plan.runners) == 1 and driven == len(self._stages)
        return [
            Runner(
                each.name,
                self._stages_of(each.stages),
                self.clock,
                idle=self.plan.idle,
                cpu=each.cpu,
                alone=alone,
            )
            for each in self.plan.runners
        ]

    def _stages_of(self, names: Sequence[str]) -> list[Stage]:
        """Return the stages of one thread. The output's follower comes behind the bundles."""
        stages = [self._stages[name] for name in names]
        if "bundle" in names and self.output.follower is not None:
            stages.insert(names.index("bundle") + 1, self.output.follower)
        return stages

    # Running

    def start(self) -> None:
        """Start the threads. Returns once each is pinned and about to run.

        A thread that the system refuses to pin runs unpinned; `warnings` then says so.

        Raises
        ------
        PipelineError
            The pipeline was started before, or a thread could not be pinned and the configuration
            is `strict`.
        CaptureError
            The output's file could not be created.
        """
        if self._state != "new":
            raise PipelineError("a pipeline runs once; make another")
        self._state = "running"
        self._process = os.getpid()
        begun: list[Stage] = []
        try:
            for stage in self._stages.values():
                stage.begin()
                begun.append(stage)
            self._start_ns = self.clock.now()
            self._threads.start()
            if self._threads.unpinned:
                self.plan = self.plan.without_pins(self._threads.unpinned)
            # A program that forgets to stop still ends in order.
            atexit.register(self.stop)
        except BaseException:
            if self._threads.released:
                # An interrupt, but the threads run: deliver what they have begun.
                with suppress(Exception):
                    self.stop()
                raise
            self._state = "stopped"
            self._control.stop()
            self._close_ingresses()
            for stage in begun:
                # Raise what ended the start, not an error of the clean-up.
                with suppress(Exception):
                    stage.end()
            raise

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the pipeline has ended by itself, as it does with a finite ingress.

        Parameters
        ----------
        timeout : float, optional
            The longest to wait, in seconds of real time.

        Returns
        -------
        bool
            Whether it has ended. Call `stop` in either case.

        Raises
        ------
        PipelineError
            The placement is ``"invoker"``: no thread runs, so waiting is no use.
        """
        if self.plan.placement == "invoker":
            raise PipelineError("wait in placement 'invoker': nothing runs by itself; step or run")
        return self._state != "new" and self._threads.wait(timeout)

    def step(self) -> int:
        """Call each stage once on this thread; for placement ``"invoker"``.

        Returns
        -------
        int
            Items moved, 0 if none, -1 once every stage has finished. If nothing moved, a virtual
            clock advances to the next deadline.
        """
        if self.plan.placement != "invoker":
            raise PipelineError(f"step in placement {self.plan.placement!r}: its threads step")
        if self._state == "new":
            self.start()
        return self._runners[0].step()

    def run(self, duration: float | None = None) -> Report:
        """Start, let it run, stop, and report.

        Parameters
        ----------
        duration : float, optional
            Seconds on the pipeline's clock; if not given, until the ingress ends by itself.

        Returns
        -------
        Report

        Raises
        ------
        PipelineError, CaptureError
            A stage failed. Records under way have still been delivered or counted; `report` has
            them.
        ConfigError
            The duration would never be over: an endless ingress does not move a virtual clock.

        Notes
        -----
        A `KeyboardInterrupt` stops the pipeline in order and is raised again. With a `PullOutput`,
        another thread must poll. On a single thread, use `start`, poll and `stop`.
        """
        if duration is not None:
            _check_duration(duration)
            self._refuse_endless()
        if self._state != "running":
            self.start()
        try:
            if self.plan.placement == "invoker":
                self._invoke(duration)
            else:
                self.wait(duration)
        finally:
            self.stop()
        return self.report()

    def _refuse_endless(self) -> None:
        if self.clock.source == "virtual" and any(each.endless for each in self.ingresses):
            raise ConfigError(
                "never over on a virtual clock that an ingress with rate = 'max' does not move; "
                "give a rate, or a real clock",
                field="duration",
            )

    def _invoke(self, duration: float | None) -> None:
        until_ns = None if duration is None else self.clock.now() + round(duration * 1e9)
        while not self._runners[0].drive(STEPS_AT_ONCE, until_ns):
            # Ctrl-C can interrupt between two calls, and a stage that failed ends the run.
            pass

    def stop(self) -> None:
        """Stop the ingress, deliver the records under way, and end the threads.

        A second call does nothing.

        Raises
        ------
        PipelineError, CaptureError
            A stage failed.
        LedgerError
            The records do not add up.
        """
        if self._state != "running" or self._process != os.getpid():
            # Only the process that started a pipeline has its threads.
            return
        self._control.stop()
        interrupts: list[KeyboardInterrupt] = []
        while self._state == "running":
            try:
                self._drain()
                self._end_ns = self._finished_ns()
                self._end_undisturbed()
                # Set last: after an interrupt, another round or another stop does the rest.
                self._state = "stopped"
            except KeyboardInterrupt as interrupt:
                # Records under way are still delivered. Only a strategy that never returns prevents
                # that; a third interrupt then gives the threads up.
                interrupts.append(interrupt)
                if len(interrupts) >= INTERRUPTS_TO_GIVE_UP and not self._ending.locked():
                    raise
        atexit.unregister(self.stop)
        errors = self._errors
        if errors:
            raise (
                errors[0] if len(errors) == 1 else StageGroupError("several stages failed", errors)
            )
        self.ledger().check(forwarding=self._strategy is None)
        if interrupts:
            raise interrupts[0]

    def _close_ingresses(self) -> None:
        for ingress in self.ingresses:
            ingress.close()

    def _drain(self) -> None:
        self._close_ingresses()
        if self.plan.placement == "invoker":
            while not self._runners[0].drive(STEPS_AT_ONCE):
                pass
        while not self.output.drain():
            self._threads.wait(LOOK_AGAIN_S)
        self._threads.wait()
        self._threads.join()

    def _finished_ns(self) -> int:
        """Return when the last stage finished. If Python polls the output, that is now."""
        if not self.output.driven:
            return self.clock.now()
        return max(each.finished_ns for each in self._runners)

    def _end_undisturbed(self) -> None:
        """End the stages on another thread: an interrupt is raised on the main thread alone."""
        # Not threading.Thread: its start is a wait that an interrupt can break off.
        try:
            _thread.start_new_thread(self._end_stages, ())
        except RuntimeError:
            # Python 3.12 and later start no thread while the interpreter exits.
            self._end_stages()
        self._stages_ended.wait()

    def _end_stages(self) -> None:
        if not self._ending.acquire(blocking=False):
            # An interrupted stop has already begun to end the stages.
            return
        try:
            for stage in self._stages.values():
                try:
                    stage.end()
                except Exception as error:
                    self._errors.append(error)
        finally:
            self._stages_ended.set()

    def __reduce__(self) -> NoReturn:
        # A copy would work in the same rings.
        raise TypeError("a Pipeline has threads and rings of its own: no copy, no pickle")

    def __enter__(self) -> Pipeline:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except Exception as error:
            if value is None:
                raise
            value.add_note(f"and while the pipeline was stopped: {error!r}")

    # Reading

    @property
    def state(self) -> str:
        """str: ``"new"``, ``"running"`` or ``"stopped"``."""
        return self._state

    @property
    def warnings(self) -> tuple[str, ...]:
        """tuple of str: Advice that is known so far: more may come with `start` and `report`."""
        refusal = self.huge_pages.refusal
        return self.plan.warnings if refusal is None else (*self.plan.warnings, refusal)

    @property
    def reports(self) -> ReportPort:
        """ReportPort: Where the executor of the strategy's orders pushes its reports.

        Raises
        ------
        PipelineError
            The strategy takes no reports.
        """
        if self._report_port is None:
            raise PipelineError("reports of a pipeline whose strategy takes none")
        return self._report_port

    def feedback(self) -> Feedback | None:
        """Account for the reports and timers; None if the strategy takes none.

        Any thread may call it. The counts add up once the pipeline has stopped.
        """
        if self._report_port is None:
            return None
        heard = self._book_stages[0].heard
        ring = self._report_port.ring.statistics()
        return Feedback(
            pushed=ring.pushed,
            heard=heard.pop("heard"),
            refused=heard,
            left=ring.pushed - ring.popped,
            full=ring.full,
            timers=self._book_stages[0].timers,
        )

    def orders(self) -> OrderReport | None:
        """Account for the strategy's orders; None without a risk gate.

        Any thread may call it. The counts add up once the pipeline has stopped.
        """
        if self.risk is None:
            return None
        markets = [each.market for each in self.books.values()]
        return order_report(self.risk, markets, untold=self._book_stages[0].untold)

    def settle(self) -> int:
        """Take the reports that arrived after the pipeline had stopped, without the strategy.

        Call it as often as you like after `stop`, until the last order has its end.

        Returns
        -------
        int
            How many reports were taken.

        Raises
        ------
        PipelineError
            The pipeline has not been stopped.
        """
        if self._state != "stopped":
            raise PipelineError("settle of a pipeline that has not been stopped")
        return self._book_stages[0].settle()

    @property
    def pins_refused(self) -> bool:
        """bool: Whether the system has refused to pin a thread, which runs without."""
        return bool(self._threads.unpinned)

    def statistics(self) -> Statistics:
        """Read the counters, also while the pipeline runs.

        Returns
        -------
        Statistics
        """
        # Read from the output back to the ingress, so that nothing seems to leave before it came
        # in.
        delivered_transactions = self.output.delivered_transactions
        delivered_bundles = self.output.delivered_bundles
        sealed_bundles = sum(self._bundle_stage.sealed.values())
        emitted = sum(each.emitted for each in self._book_stages)
        applied = sum(each.applied for each in self._book_stages)
        rejected = sum(sum(each.rejected.values()) for each in self._book_stages)
        pushed = sum(each.pushed for each in self.ingresses)
        dropped = sum(each.dropped for each in self.ingresses)
        generated = sum(each.generated for each in self.ingresses)
        return Statistics(
            elapsed_s=self._elapsed_ns() / 1e9,
            generated=generated,
            pushed=pushed,
            dropped=dropped,
            applied=applied,
            rejected=rejected,
            emitted=emitted,
            sealed_bundles=sealed_bundles,
            delivered_bundles=delivered_bundles,
            delivered_transactions=delivered_transactions,
        )

    def _elapsed_ns(self) -> int:
        if self._start_ns is None:
            return 0
        return (self.clock.now() if self._end_ns is None else self._end_ns) - self._start_ns

    def ledger(self) -> Ledger:
        """Account for every record. The equations hold once the pipeline has stopped.

        Returns
        -------
        Ledger
        """
        rejected: dict[str, int] = {}
        blocked: dict[str, int] = {}
        for book in self._book_stages:
            for reason, number in book.rejected.items():
                rejected[reason] = rejected.get(reason, 0) + number
            for reason, number in book.blocked.items():
                blocked[reason] = blocked.get(reason, 0) + number
        return Ledger(
            generated=sum(each.generated for each in self.ingresses),
            pushed=sum(each.pushed for each in self.ingresses),
            dropped=sum(each.dropped for each in self.ingresses),
            applied=sum(each.applied for each in self._book_stages),
            rejected=rejected,
            emitted=sum(each.emitted for each in self._book_stages),
            blocked=blocked,
            passed=sum(each.passed for each in self._book_stages),
            bundles=self._bundle_stage.sealed,
            sealed_transactions=self._bundle_stage.sealed_transactions,
            delivered_bundles=self.output.delivered_bundles,
            delivered_transactions=self.output.delivered_transactions,
            undelivered_bundles=self.output.undelivered_bundles,
            undelivered_transactions=self.output.undelivered_transactions,
        )

    def latency(self) -> dict[str, LatencyHistogram]:
        """Take consistent snapshots of the five latency histograms, also while the pipeline runs.

        Returns
        -------
        dict of str to LatencyHistogram
            ``late``, ``transit``, ``hold``, ``delivery`` and ``total``, in ns.
        """
        late = LatencyHistogram()
        for ingress in self.ingresses:
            late.merge(ingress.late.snapshot())
        return {
            "late": late,
            "transit": self._bundle_stage.transit.snapshot(),
            "hold": self._bundle_stage.hold.snapshot(),
            "delivery": self.output.delivery.snapshot(),
            "total": self.output.total.snapshot(),
        }

    def snapshot(self) -> Snapshot:
        """Read everything that a screen or a monitor shows, also while the pipeline runs.

        Returns
        -------
        Snapshot

        Notes
        -----
        Thread-safety: any thread. It takes some 0.1 ms of the calling thread, and no runner waits
        for it.
        """
        latency = self.latency()
        ledger = self.ledger()
        return Snapshot(
            state=self._state,
            elapsed_s=self._elapsed_ns() / 1e9,
            ledger=ledger,
            forwarding=self._strategy is None,
            latency=latency,
            rings=tuple(RingState.of(name, ring) for name, ring in self._rings.items()),
            runners=tuple(RunnerState.of(each) for each in self._runners),
            markets=markets_now(self.books),
            late_count=sum(each.late_count for each in self.ingresses),
            timeouts=sum(each.timeouts for each in self._book_stages),
        )

    def report(self, hiccups: Sequence[Hiccups] = ()) -> Report:
        """Report the run.

        Parameters
        ----------
        hiccups : sequence of Hiccups
            The host's, measured after the run. A warning about late records tells them apart from
            a rate that is too high.

        Returns
        -------
        Report

        Raises
        ------
        PipelineError
            The pipeline has not been stopped.
        """
        if self._state != "stopped":
            raise PipelineError("report of a pipeline that has not been stopped")
        ledger = self.ledger()
        book_stage = self._book_stages[0]
        return Report(
            ledger=ledger,
            latency=self.latency(),
            elapsed_s=self._elapsed_ns() / 1e9,
            plan=self.plan,
            clock={
                "source": self.clock.source,
                "reason": self.clock.reason,
                "resolution_ns": self.clock.resolution_ns,
            },
            machine=describe_machine(),
            huge_pages=self.huge_pages,
            late_count=sum(each.late_count for each in self.ingresses),
            full={name: ring.statistics().full for name, ring in self._rings.items()},
            timeouts=sum(each.timeouts for each in self._book_stages),
            verification=book_stage.verifier.result() if book_stage.verifier else None,
            forwarding=self._strategy is None,
            warnings=(*self.warnings, *self._warnings(ledger, hiccups)),
            markets=markets_of(self.books),
            strategy=self._strategy_source(),
            feedback=self.feedback(),
            orders=self.orders(),
        )

    def _strategy_source(self) -> StrategySource | None:
        if self._strategy is None:
            return None
        return self._strategy.source or StrategySource(self._strategy.name)

    def _warnings(self, ledger: Ledger, hiccups: Sequence[Hiccups]) -> list[str]:
        warnings = []
        if ledger.dropped:
            share = ledger.dropped / ledger.generated
            warnings.append(
                f"{ledger.dropped} records ({share:.2%}) were dropped because the ingress ring was "
                "full: lower the rate, enlarge transaction_capacity, or choose on_full='block'"
            )
        behind = max(self.ingresses, key=lambda each: each.behind_ns)
        lateness = lateness_warning(
            behind.behind_ns, self._elapsed_ns(), behind.late.snapshot(), hiccups
        )
        if lateness is not None:
            warnings.append(lateness)
        for reason, number in ledger.rejected.items():
            if number:
                warnings.append(f"the book rejected {number} records: {reason}")
        for reason, number in ledger.blocked.items():
            if number:
                hint = "" if reason.startswith("risk_") else "; on_bad_order='stop' names the first"
                warnings.append(f"{number} records of the strategy were blocked: {reason}{hint}")
        feedback = self.feedback()
        for reason, number in (feedback.refused if feedback else {}).items():
            if number:
                warnings.append(f"{number} reports were refused: {reason}")
        orders = self.orders()
        if orders is not None and orders.untold:
            warnings.append(
                f"the strategy did not hear of {orders.untold} blocked orders: it made too many"
            )
        return warnings
