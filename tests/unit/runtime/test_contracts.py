"""A source and a sink from outside Velox run in an unchanged pipeline."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import velox
from velox import (
    Ingress,
    Instrument,
    Output,
    Pipeline,
    PipelineConfig,
    PoissonIngress,
    PullOutput,
    PushIngress,
    ReplayIngress,
)
from velox.errors import ConfigError, PipelineError
from velox.runtime.markets import books_for

ROOT = Path(__file__).parents[3]
SHARED = PipelineConfig(placement="shared", idle="yield")


def orders(n: int, price: int = 1_000_000) -> np.ndarray:
    records = np.zeros(n, velox.TRANSACTION_DTYPE)
    records["price"], records["size"] = price, 1
    return records


class Feed(PushIngress):
    """Pushes `n` records from a thread of its own, then ends."""

    instruments = (Instrument(name="SOL-USD", market=3, tick_size=100, levels=64),)

    def __init__(self, n: int) -> None:
        super().__init__()
        self.records = orders(n)
        self.records["market"] = 3
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        self.push(self.records)
        self.close()

    def begin(self) -> None:
        super().begin()
        self.thread.start()

    def end(self) -> None:
        self.thread.join()
        super().end()

    def middle_price(self, market: int) -> int | None:
        return 1_000_000 if market == 3 else None


class Collector(PullOutput):
    """Polls from a thread of its own until the pipeline has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.records = 0
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        try:
            while not self.exhausted:
                with self.poll() as bundles:
                    self.records += int(bundles["count"].sum())
        except Exception as error:
            self.failure = error

    def begin(self) -> None:
        super().begin()
        self.thread.start()

    def end(self) -> None:
        super().end()
        self.thread.join()
        if self.failure is not None:
            raise self.failure


def test_a_source_and_a_sink_in_python_run_in_an_unchanged_pipeline() -> None:
    output = Collector()
    pipeline = Pipeline(Feed(5000), output, config=SHARED)
    report = pipeline.run()
    assert output.records == 5000
    assert report.ledger.balanced
    (book,) = pipeline.books.values()
    assert (book.name, book.market, book.tick_size) == ("SOL-USD", 3, 100)


def test_a_poll_beside_a_stop_waits_and_takes_the_rest() -> None:
    for _ in range(20):
        ingress, output = PushIngress(), Collector()
        pipeline = Pipeline(ingress, output, config=SHARED)
        with pipeline:
            ingress.push(orders(20_000))
        assert output.records == 20_000


def test_a_failure_at_the_end_of_a_source_is_raised_by_stop() -> None:
    class Failing(PushIngress):
        def end(self) -> None:
            raise OSError("the socket was lost")

    pipeline = Pipeline(Failing(), config=SHARED)
    pipeline.start()
    with pytest.raises(OSError, match="the socket was lost"):
        pipeline.stop()
    assert pipeline.state == "stopped"


def test_instruments_give_the_books_and_the_configuration_their_levels() -> None:
    config = PipelineConfig(levels=256)
    (book,) = books_for([Feed(1)], config).values()
    assert (book.name, book.tick_size, book.levels) == ("SOL-USD", 100, 256)


def test_a_middle_price_places_the_window_of_a_shared_book() -> None:
    config = PipelineConfig(lanes=2, writers=2, levels=64)
    (book,) = books_for([Feed(1), Feed(1)], config).values()
    book.add(0, 1_000_000 + 31 * 100, 1)
    book.add(0, 1_000_000 - 32 * 100, 1)
    assert len(book) == 2


def test_a_recording_refines_the_step_that_an_instrument_declares() -> None:
    class Recorded(PushIngress):
        instruments = (Instrument(name="SOL-USD", tick_size=100),)

        @property
        def recorded(self) -> np.ndarray:
            return orders(1, price=1_000_050)

    (book,) = books_for([Recorded()], PipelineConfig()).values()
    assert (book.name, book.tick_size) == ("SOL-USD", 50)


def test_what_python_may_push_leaves_the_step_of_a_recording_open() -> None:
    lanes = [ReplayIngress(orders(4)), PushIngress()]
    (book,) = books_for(lanes, PipelineConfig(lanes=2, writers=2)).values()
    assert book.tick_size == 1


def test_an_endless_ingress_runs_for_no_duration_on_a_virtual_clock() -> None:
    pipeline = Pipeline(PoissonIngress("max"), config=PipelineConfig(placement="invoker"))
    with pytest.raises(ConfigError):
        pipeline.run(duration=1.0)
    assert PoissonIngress("max").endless
    assert not PoissonIngress(1000).endless
    assert not ReplayIngress(orders(1)).endless


@pytest.mark.parametrize("kind", [Ingress, Output])
def test_a_contract_alone_is_neither_source_nor_sink(kind: type[Ingress] | type[Output]) -> None:
    parts = (kind(),) if kind is Ingress else (PoissonIngress(), kind())
    with pytest.raises(PipelineError, match="has no do_work"):
        Pipeline(*parts)


@pytest.mark.parametrize("kind", [PushIngress, PullOutput])
def test_an_unknown_argument_is_refused(kind: type) -> None:
    with pytest.raises(TypeError):
        kind(stmap=True)
    with pytest.raises(TypeError):
        kind(5)


def test_the_pipeline_names_no_source_and_no_sink_but_its_default() -> None:
    for name in ("pipeline.py", "markets.py"):
        source = (ROOT / "velox/runtime" / name).read_text(encoding="utf-8")
        named = {
            alias.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom)
            and node.module in ("velox.runtime.sources", "velox.runtime.sinks")
            for alias in node.names
        }
        assert named <= {"DiscardOutput"}


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_source_and_a_sink_in_cython_run_in_an_unchanged_pipeline(tmp_path: Path) -> None:
    folder = tmp_path / "cython"
    shutil.copytree(ROOT / "examples/cython", folder, ignore=shutil.ignore_patterns("*.so", "*.c"))
    # Of the examples, this one alone: the others have tests of their own.
    setup = (folder / "setup.py").read_text(encoding="utf-8")
    setup, replaced = re.subn(r'\["total.pyx".*?\]', '["source_and_sink.pyx"]', setup)
    assert replaced == 1
    (folder / "setup.py").write_text(setup, encoding="utf-8")
    path = {"PYTHONPATH": str(ROOT), "PATH": "/usr/lib/ccache:/usr/bin:/bin"}
    for command in (["setup.py", "-q", "build_ext", "--inplace"], ["use_source_and_sink.py"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout == "1000 True\n"


def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs/howto/add-a-source-or-sink.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    program = "\n".join([f"import sys; sys.path.insert(0, {str(ROOT)!r})", *blocks])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
