"""Two revisions are compared on the same work, and a row that grew is told."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("benchmarks", reason="the benchmarks stand beside the repository's tests alone")

from benchmarks import against, counts, instructions, revisions, workloads
from benchmarks.instructions import Count, Row
from benchmarks.sides import MeasureError, Side, chosen, environment, sides

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler named cc")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
needs_valgrind = pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="valgrind is not installed"
)
HERE = revisions.Tree("here", revisions.ROOT)


# What callgrind writes

CALLGRIND = """\
version: 1
creator: callgrind-3.19.0
cmd:  python
part: 1

positions: line
events: Ir Bc Bcm Bi Bim
summary: 10092873 1205160 33105 4761 12

fn=(12) bundle_do_work
0 20 3 1

totals: 10092873 1205160 33105 4761 12
"""


def test_the_totals_of_a_file_are_read_by_the_counters_name() -> None:
    assert instructions.parse_counts(CALLGRIND) == {
        "Ir": 10092873,
        "Bc": 1205160,
        "Bcm": 33105,
        "Bi": 4761,
        "Bim": 12,
    }


def test_counters_left_out_at_the_end_of_a_line_are_zero() -> None:
    counted = instructions.parse_counts("events: Ir Bc Bcm Bi Bim\ntotals: 70 3\n")
    assert counted == {"Ir": 70, "Bc": 3, "Bcm": 0, "Bi": 0, "Bim": 0}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("totals: 1 2\n", "events"),
        ("events: Ir Bc Bcm Bi Bim\n", "totals"),
        ("events: Ir Bcm Bim\ntotals: 1 2 3 4\n", "more totals than events"),
        ("events: Ir\ntotals: 1\n", "Bcm"),
        ("events: Ir Bcm Bim\ntotals: 0\n", "counted nothing"),
    ],
)
def test_a_file_that_is_not_callgrinds_is_refused(text: str, missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        instructions.parse_counts(text)


# The gate


def counted(instructions_each: int, mispredicted: int = 5, operations: int = 10) -> Count:
    return Count(operations, (instructions_each * operations,), (mispredicted,))


def test_a_count_is_the_median_of_its_rounds_for_each_operation() -> None:
    count = Count(10, (1000, 1010, 1002), (7, 5, 6))
    assert (count.per_operation, count.mispredicted_per_operation) == (100.2, 0.6)
    assert count.spread == pytest.approx(10 / 1002)
    assert counted(100).spread == 0


@pytest.mark.parametrize(
    ("here", "reference", "ratio", "grown"),
    [
        (1000, 1000, 1.0, False),
        (1010, 1000, 1.01, False),
        (1011, 1000, 1.011, True),
        (700, 1000, 0.7, False),
    ],
)
def test_a_row_may_grow_by_one_per_cent(
    here: int, reference: int, ratio: float, grown: bool
) -> None:
    row = Row("pipeline", counted(here), counted(reference))
    assert row.ratio == pytest.approx(ratio)
    assert (row.grown, row.lost) == (grown, False)
    status, reason = instructions.judge([row])
    assert status == (instructions.GROWN if grown else 0)
    assert ("pipeline" in reason) is grown


def test_what_is_accepted_counts_over_the_baseline_alone() -> None:
    limit, _ = instructions.ACCEPTED["forward"]
    here = {"forward": counted(int(100 * (1 + limit)))}
    reference = {"forward": counted(100)}
    assert not instructions.compare(here, reference, baseline=True)[0].grown
    assert instructions.compare(here, reference)[0].grown


def test_rows_are_compared_an_operation_and_not_a_run() -> None:
    row = Row("pipeline", Count(20, (2000,), (1,)), Count(10, (1000,), (1,)))
    assert row.ratio == 1


def test_a_row_that_only_the_reference_has_fails_the_gate() -> None:
    good = Row("pipeline", counted(100), counted(100))
    lost = Row("ring", "no such module", counted(50))
    assert lost.lost
    assert lost.ratio is None
    assert instructions.judge([good, lost])[0] == instructions.FAILED


def test_a_row_that_the_reference_lacks_is_no_fault() -> None:
    good = Row("pipeline", counted(100), counted(100))
    new = Row("ring", counted(50), "no such module")
    neither = Row("binance", "no data", "no data")
    assert not new.lost
    assert not neither.lost
    assert instructions.judge([good, new, neither])[0] == 0


def test_a_gate_that_compared_nothing_does_not_pass() -> None:
    neither = Row("binance", "no data", "no data")
    assert instructions.judge([neither])[0] == instructions.FAILED


def test_a_row_that_a_stored_reference_lacks_has_none() -> None:
    [row] = instructions.compare({"pipeline": counted(100)}, {})
    assert row.ratio is None
    assert isinstance(row.reference, str)


def test_tables_have_a_line_for_each_row() -> None:
    rows = {"pipeline": counted(168), "binance": "no data"}
    lines = instructions.table(rows)
    assert lines[1].split()[-2:] == ["168.00", "0.5000"]
    assert "no data" in lines[2]
    grown = instructions.comparison(
        instructions.compare({"pipeline": counted(170)}, {"pipeline": counted(168)}), "abc1234"
    )
    assert grown[-1].split()[3:8] == ["168.00", "170.00", "1.0119", "0.5000", "0.5000"]


# Stored counts

CONDITIONS = {"machine": "a CPU", "python": "3.11.7", "valgrind": "3.19.0"}


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(instructions, "_conditions", lambda: CONDITIONS)
    path = tmp_path / "counts.json"
    tree = revisions.Tree("abc", tmp_path, "a" * 40)
    rows = {"pipeline": Count(10, (1680, 1682), (5, 6)), "binance": "no data"}
    path.write_text(json.dumps(instructions.to_document(tree, rows)))
    return path


def test_counts_are_read_back_as_they_were_written(stored: Path) -> None:
    label, rows = instructions.from_document(stored)
    assert label == "a" * 7
    assert rows == {"pipeline": Count(10, (1680, 1682), (5, 6)), "binance": "no data"}


@pytest.mark.parametrize("name", sorted(CONDITIONS))
def test_counts_of_another_machine_are_refused(stored: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"counted with {name} = "):
        instructions.from_document(stored, CONDITIONS | {name: "another"})


@pytest.mark.parametrize("text", ["", "[]", '{"rows": {}}', '{"revision": 1, "rows": 2}'])
def test_a_file_without_counts_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="no counts of"):
        instructions.from_document(path)


# Turns


class Scripted(Side):
    """A side whose figures are known before."""

    figures: dict[str, Iterator[Any]]
    log: list[tuple[str, str]]

    def run(self, action: str, *names: str, under: Any = ()) -> dict[str, Any]:
        [workload] = names
        self.log.append((workload, self.label))
        found = next(self.figures[workload])
        return {workload: found if isinstance(found, dict) else {"ns": found}}


def scripted(label: str, log: list[tuple[str, str]], **figures: list[Any]) -> Scripted:
    side = Scripted(revisions.Tree(label, Path()), Path())
    object.__setattr__(side, "figures", {name: iter(each) for name, each in figures.items()})
    object.__setattr__(side, "log", log)
    return side


def test_each_pair_is_made_one_right_after_the_other() -> None:
    log: list[tuple[str, str]] = []
    here = scripted("here", log, ring=[2.0, 3.0], bundle=[8.0, 8.0])
    reference = scripted("there", log, ring=[1.0, 2.0], bundle=[4.0, 16.0])
    found = against.take_turns(here, reference, ["ring", "bundle"], 2, random.Random(1))
    assert found["ring"] == against.Pairs((2.0, 3.0), (1.0, 2.0))
    assert found["bundle"].ratios.rounds == (2.0, 0.5)
    for first, second in zip(log[::2], log[1::2], strict=True):
        assert first[0] == second[0]
        assert {first[1], second[1]} == {"here", "there"}


def test_neither_side_is_always_first() -> None:
    log: list[tuple[str, str]] = []
    here = scripted("here", log, ring=[1.0] * 40)
    reference = scripted("there", log, ring=[1.0] * 40)
    against.take_turns(here, reference, ["ring"], 40, random.Random(1))
    first = [label for _, label in log[::2]]
    assert {"here", "there"} == set(first)


def test_a_measure_that_one_side_lacks_is_left_out_and_told() -> None:
    log: list[tuple[str, str]] = []
    here = scripted("here", log, ring=[{"unavailable": "no module"}] * 2, bundle=[1.0, 1.0])
    reference = scripted("there", log, ring=[1.0, 1.0], bundle=[1.0, 1.0])
    found = against.take_turns(here, reference, ["ring", "bundle"], 2, random.Random(1))
    assert found["ring"].unavailable == "no module (here)"
    assert "no module (here)" in found["ring"].row("ring")
    assert len(found["bundle"].here) == 2


def test_a_row_tells_the_ratios_of_the_pairs() -> None:
    pairs = against.Pairs((10.0, 12.0, 11.0, 10.0), (10.0, 10.0, 10.0, 10.0))
    cells = pairs.row("ring").split()
    assert cells == ["ring", "10.00", "10.50", "1.050", "1.000", "1.200"]
    assert pairs.to_dict()["ratio"]["max"] == pytest.approx(1.2)


# Revisions

SETUP = """
import pathlib, sys
print("building")
pathlib.Path("built").write_text(sys.argv[-1])
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    commit(folder, SETUP)
    return folder


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *author, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, setup: str) -> None:
    (folder / "setup.py").write_text(setup)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "x")


@needs_git
def test_a_revision_is_built_once_beside_the_tree(repository: Path) -> None:
    git(repository, "tag", "old")
    commit(repository, SETUP + "# newer\n")
    (repository / "setup.py").write_text("raise SystemExit('the tree as it is now')\n")
    tree = revisions.built_revision("old", repository=repository)
    assert tree.commit == git(repository, "rev-parse", "old")
    assert tree.label == tree.commit[:7]
    assert (tree.folder / "built").read_text() == "--inplace"
    assert (tree.folder / "setup.py").read_text() == SETUP
    (tree.folder / "built").write_text("kept")
    assert revisions.built_revision("old", repository=repository) == tree
    assert (tree.folder / "built").read_text() == "kept"
    assert not (repository / "built").exists()


@needs_git
def test_another_compiler_makes_another_build(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = revisions.built_revision("HEAD", repository=repository)
    monkeypatch.setenv("CFLAGS", "-O1")
    second = revisions.built_revision("HEAD", repository=repository)
    assert first.commit == second.commit
    assert first.folder != second.folder


@needs_git
def test_an_unknown_revision_is_named(repository: Path) -> None:
    with pytest.raises(revisions.RevisionError) as refused:
        revisions.built_revision("no-such-tag", repository=repository)
    assert refused.value.revision == "no-such-tag"


@needs_git
def test_a_build_that_fails_leaves_nothing_and_shows_its_output(repository: Path) -> None:
    commit(repository, "raise SystemExit('this does not compile')")
    with pytest.raises(revisions.RevisionError) as refused:
        revisions.built_revision("HEAD", repository=repository)
    assert "this does not compile" in refused.value.reason
    assert list(revisions.cache_folder().iterdir()) == []


def test_without_git_no_revision_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(revisions.RevisionError) as refused:
        revisions.commit_of("HEAD", tmp_path)
    assert refused.value.reason == "git is not installed"


# The program that both sides run


@pytest.fixture(scope="module")
def side() -> Iterator[Side]:
    with sides([HERE], list(workloads.WORKLOADS)) as [made]:
        yield made


@needs_cc
@pytest.mark.parametrize("name", sorted(workloads.WORKLOADS))
def test_each_workload_does_its_work_and_checks_it(side: Side, name: str) -> None:
    try:
        work = workloads.WORKLOADS[name].make(workloads.Inputs(side.folder, counting=True))
    except workloads.UnavailableError as why:
        pytest.skip(str(why))
    operations, elapsed_ns = work()
    assert operations > 0
    assert elapsed_ns > 0


@needs_cc
def test_the_program_tells_what_it_did(side: Side) -> None:
    assert side.run("count", "bundle")["bundle"] == {"operations": 49_152}
    assert side.run("time", "histogram")["histogram"]["ns"] > 0


@needs_cc
def test_another_velox_than_the_trees_is_not_measured(side: Side, tmp_path: Path) -> None:
    elsewhere = Side(revisions.Tree("elsewhere", tmp_path), side.folder)
    with pytest.raises(MeasureError) as refused:
        elsewhere.run("count", "bundle")
    assert (refused.value.label, refused.value.workload) == ("elsewhere", "bundle")


def test_a_child_finds_the_trees_velox_before_any_other() -> None:
    found = environment({"PYTHONPATH": "/other", "HOME": "/root"}, Path("/tree"))
    assert found["PYTHONPATH"] == "/tree"
    assert found["HOME"] == "/root"


def test_an_unknown_measure_is_named() -> None:
    assert chosen([], ["ring", "bundle"]) == ["ring", "bundle"]
    assert chosen(["bundle"], ["ring", "bundle"]) == ["bundle"]
    with pytest.raises(ValueError, match="unknown measure 'rings'"):
        chosen(["rings"], ["ring", "bundle"])


# Under valgrind


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_each_counted_function_is_found_in_the_modules() -> None:
    found = {
        pattern: instructions.functions(revisions.ROOT, pattern)
        for pattern in (each.counted for each in workloads.WORKLOADS.values())
        if pattern is not None
    }
    stages = found.pop(workloads.STAGES)
    # Ingresses, books, bundles and outputs: a stage without a name like this would not count.
    assert len(stages) >= 4
    assert {pattern: len(names) for pattern, names in found.items()} == dict.fromkeys(found, 1)


@needs_cc
@needs_valgrind
@pytest.mark.slow
def test_counts_repeat_within_a_twentieth_of_a_per_cent(side: Side) -> None:
    names = ["pipeline", "bundle", "ring"]
    [found] = instructions.count_all([side], names, rounds=2, jobs=os.cpu_count() or 1)
    for count in found.values():
        assert isinstance(count, Count)
        assert len(count.instructions) == 2
        assert count.spread <= 0.0005
        # Some hundred instructions at most, and not those of an interpreter.
        assert 1 < count.per_operation < 400
    # A part is in the whole: what callgrind wrote belongs to the row that it is read for.
    assert found["bundle"].per_operation < found["pipeline"].per_operation / 2


def test_without_valgrind_asv_skips_and_the_command_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert instructions.valgrind_version() is None
    with pytest.raises(NotImplementedError, match="valgrind is not installed"):
        counts.Instructions().setup("ring")
    assert instructions.main(["ring"]) == instructions.FAILED
    assert "valgrind is not installed" in capsys.readouterr().err
