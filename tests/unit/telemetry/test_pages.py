"""Pages of runs, and comparisons: from what --json wrote, for a browser and a terminal."""

import base64
import copy
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.cli.main import main
from velox.core.histogram import LatencyHistogram
from velox.errors import ConfigError, FeedError
from velox.runtime.report import Statistics
from velox.telemetry.compare import compare, comparison_lines, settings_that_differ
from velox.telemetry.hlog import decode_histogram
from velox.telemetry.page import (
    Curve,
    chart,
    counts_axis,
    duration_axis,
    percentile_axis,
    time_axis,
)
from velox.telemetry.page.chart import MOST_POINTS
from velox.telemetry.run_page import run_page
from velox.telemetry.runs import Run, load_run
from velox.telemetry.series import Course

HOPS = ("late", "transit", "hold", "delivery", "total")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a short run wrote."""
    path = tmp_path_factory.mktemp("run") / "run.json"
    given = ["run", "--duration", "0.2", "--rate", "20000", "--quiet", "--json", str(path)]
    assert main(given) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


class Parsed(HTMLParser):
    """The tags and the text of a page; it fails on tags that do not match."""

    VOID = ("meta", "line", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


# The page


def test_a_page_of_three_runs_is_small_and_loads_nothing(
    document: dict[str, Any], tmp_path: Path
) -> None:
    run = load_run(write(tmp_path / "a.json", document))
    page = run_page([run, run, run])
    assert len(page.encode()) <= 150 * 1024
    parsed = Parsed(page)
    for tag, attributes in parsed.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert not {"src", "href", "style", "onload", "onclick", "action"} & set(attributes)
    assert "url(" not in page
    assert "@import" not in page


def test_its_policy_allows_its_own_script_and_style_alone(
    document: dict[str, Any], tmp_path: Path
) -> None:
    page = run_page([load_run(write(tmp_path / "a.json", document))])
    policy = next(
        attributes["content"]
        for tag, attributes in Parsed(page).tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    for tag in ("style", "script"):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_text_of_a_run_cannot_become_markup(document: dict[str, Any], tmp_path: Path) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    hostile = copy.deepcopy(document)
    hostile["machine"] = hostile["velox"] = hostile["command"] = attack
    hostile["warnings"] = hostile["errors"] = [attack]
    hostile["config"] = {attack: attack}
    hostile["full"] = {attack: 3}
    hostile["plan"]["runners"] = [{"name": attack, "cpu": None}]
    hostile["ledger"] = {attack: {attack: 1}}
    page = run_page([load_run(write(tmp_path / "a.json", hostile))], title=attack)
    parsed = Parsed(page)
    assert sum(tag == "script" for tag, _ in parsed.tags) == 1
    assert not any(tag == "img" for tag, _ in parsed.tags)
    assert attack in parsed.texts


def test_every_figure_of_the_run_is_on_its_page(document: dict[str, Any], tmp_path: Path) -> None:
    run = load_run(write(tmp_path / "first.json", document))
    texts = Parsed(run_page([run])).texts
    assert texts.count("passed") >= 1
    assert f"{document['ledger']['delivered_transactions']:,}" in texts
    for name in document["config"]:
        assert name in texts
    for hop in HOPS:
        assert hop in texts


def test_settings_that_differ_are_marked(document: dict[str, Any], tmp_path: Path) -> None:
    other = copy.deepcopy(document)
    other["config"]["seal"] = "idle"
    runs = [
        load_run(write(tmp_path / "a.json", document)),
        load_run(write(tmp_path / "b.json", other)),
    ]
    page = run_page(runs)
    assert re.findall(r'<tr class="marked"><th scope="row">([^<]*)', page) == ["seal"]
    assert settings_that_differ(runs[:1], runs[1:]) == {"seal": ["timeout", "idle"]}


def test_a_curve_ends_where_its_run_has_no_more_values() -> None:
    few, many = LatencyHistogram(), LatencyHistogram()
    few.record_many(np.arange(1, 101, dtype=np.int64))
    many.record_many(np.arange(1, 100_001, dtype=np.int64))
    document = {"latency_ns": {}, "full": {}, "ledger": {}, "config": {}, "seconds": []}
    document |= {"velox": "1", "command": "run", "machine": "m", "passed": True, "plan": {}}
    document |= {"throughput_per_s": 1.0, "clock": {}, "hiccups": [], "warnings": [], "errors": []}
    empty = {hop: LatencyHistogram() for hop in HOPS}
    page = run_page(
        [Run(name, document, empty | {"hold": one}) for name, one in (("few", few), ("many", many))]
    )
    figure = next(
        each for each in re.findall(r"<figure.*?</figure>", page, re.S) if "hold: " in each
    )
    ends = [
        values.split(";")[-1].split("|")[1] for values in re.findall(r'data-values="(.*?)"', figure)
    ]
    assert ends == ["99 %", "99.999 %"]


# The charts


def test_a_long_curve_keeps_its_extremes() -> None:
    values = np.full(100_000, 50.0)
    values[31_337], values[77_777] = 1.0, 99.0
    points = list(enumerate(values.tolist()))
    x, y = time_axis([100_000]), counts_axis(values)
    drawn = chart("t", [Curve("c", points)], x, y)
    [data] = re.findall(r'data-values="(.*?)"', drawn)
    shown = [each.split("|")[2] for each in data.split(";")]
    assert len(shown) <= MOST_POINTS
    assert {"1", "99"} <= set(shown)


@given(st.lists(st.floats(0, 1e15, allow_nan=False), min_size=1, max_size=20))
def test_every_axis_holds_its_values_and_has_few_ticks(values: list[float]) -> None:
    for axis in (counts_axis(values), time_axis(values), duration_axis(values)):
        for value in values:
            assert axis.low - 1e-9 <= axis.position(value) <= axis.high * (1 + 1e-9)
        assert 2 <= len(axis.ticks) <= 18
        places = [axis.position(value) for value, _ in axis.ticks]
        assert places == sorted(places)


@pytest.mark.parametrize("count", [1, 2, 10, 1_000, 10**9, 10**12])
def test_the_axis_of_percentiles_has_a_tick_for_each_nine(count: int) -> None:
    axis = percentile_axis(1 / count)
    texts = [text for _, text in axis.ticks]
    assert texts[:4] == ["0 %", "50 %", "90 %", "99 %"]
    assert axis.position(100 * (1 - 1 / count)) <= axis.high


# The course of a run


def statistics(second: float, delivered: int) -> Statistics:
    return Statistics(second, *[delivered] * 8, delivered)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300))
def test_a_course_keeps_every_count_and_the_slowest_second(latencies: list[int]) -> None:
    course, transit = Course(most=16), LatencyHistogram()
    for number, latency in enumerate(latencies, 1):
        transit.record(latency)
        course.add(statistics(float(number), number), transit.snapshot())
    rows = course.to_list()
    assert len(rows) <= 16
    assert rows[-1]["delivered_transactions"] == len(latencies)
    assert [row["elapsed_s"] for row in rows] == sorted({row["elapsed_s"] for row in rows})
    worst = LatencyHistogram()
    worst.record(max(latencies))
    assert max(row["transit_p99_ns"] for row in rows) == worst.percentile(99)


def test_the_end_of_a_run_joins_the_second_before_it() -> None:
    course, transit = Course(), LatencyHistogram()
    transit.record(5)
    course.add(statistics(1.0, 10), transit.snapshot())
    course.finish(statistics(1.1, 11), transit.snapshot())
    [row] = course.to_list()
    assert (row["elapsed_s"], row["delivered_transactions"]) == (1.1, 11)
    course.finish(statistics(1.9, 20), transit.snapshot())
    assert len(course.to_list()) == 2


def test_a_run_shorter_than_a_second_has_one_row(document: dict[str, Any]) -> None:
    [row] = document["seconds"]
    assert row["delivered_transactions"] == document["ledger"]["delivered_transactions"]


# Comparisons


def made(name: str, medians: list[int], seal: str = "timeout") -> Run:
    rows, delivered = [], 0
    for second, median in enumerate(medians, 1):
        delivered += 1_000
        row = statistics(float(second), delivered)._asdict()
        rows.append(row | {"transit_p50_ns": median, "transit_p99_ns": 10 * median})
    latency = {hop: LatencyHistogram() for hop in HOPS}
    latency["transit"].record_many(np.array(medians, np.int64))
    return Run(name, {"seconds": rows, "config": {"seal": seal}}, latency)


def test_runs_that_differ_by_half_are_told_apart() -> None:
    before = made("a", [100, 101, 99, 100, 102, 98] * 5)
    after = made("b", [150, 152, 148, 151, 149, 150] * 5)
    found = {each.name: each for each in compare([before], [after])}
    median = found["transit a second, p50"]
    assert median.clear
    assert median.interval is not None
    assert median.interval[0] <= 1.5 <= median.interval[1]
    assert not found["throughput, records/s"].clear
    assert found["throughput, records/s"].ratio == 1.0


def test_the_same_run_is_no_different() -> None:
    run = made("a", [90, 130, 100, 95, 160, 88, 105])
    assert not any(each.clear for each in compare([run], [run]))
    assert all(each.ratio == 1.0 for each in compare([run], [run]))


def test_runs_in_turns_are_taken_together() -> None:
    quick, slow = made("q", [100] * 3), made("s", [200] * 3)
    found = compare([quick, quick], [slow, slow])
    assert next(each for each in found if each.name == "transit a second, p50").clear
    alone = compare([quick], [slow])
    assert next(each for each in alone if each.name == "transit a second, p50").interval is None


def test_a_figure_that_was_zero_has_no_ratio(tmp_path: Path) -> None:
    before, after = made("a", [0] * 6), made("b", [57] * 6)
    found = next(each for each in compare([before], [after]) if each.name == "transit, p50")
    assert (found.before, found.after, found.ratio, found.clear) == (0.0, 57.0, None, False)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["ratio"] is None
    assert comparison_lines([found])[1].split() == ["transit,", "p50", "0", "ns", "57", "ns", "-"]
    both = compare([before], [before])
    assert next(each for each in both if each.name == "transit, p50").ratio == 1.0


def test_a_side_without_runs_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        compare([], [made("a", [1])])
    assert refused.value.field == "runs"


# Files


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str | None]] = {
    "a list": (lambda d: [d], None),
    "no ledger": (lambda d: {k: v for k, v in d.items() if k != "ledger"}, "ledger"),
    "a number as machine": (lambda d: d | {"machine": 4}, "machine"),
    "no transit": (lambda d: d | {"histograms": {}}, "histograms.late"),
    "a damaged histogram": (
        lambda d: d | {"histograms": d["histograms"] | {"hold": "AAAA"}},
        "histograms.hold",
    ),
    "a second without counters": (lambda d: d | {"seconds": [{"elapsed_s": 1}]}, "seconds[0]"),
    "a count below zero": (
        lambda d: d | {"seconds": [d["seconds"][0] | {"pushed": -1}]},
        "seconds[0]",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_no_run_is_refused_by_name(
    case: str, document: dict[str, Any], tmp_path: Path
) -> None:
    change, field = BROKEN[case]
    path = write(tmp_path / "broken.json", change(copy.deepcopy(document)))
    with pytest.raises(FeedError) as refused:
        load_run(path)
    assert refused.value.path == str(path)
    assert refused.value.field == field


@pytest.mark.parametrize("text", ["", "{", "nul", "[" * 100_000, "\xff"])
def test_text_that_is_not_json_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "junk.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(FeedError) as refused:
        load_run(path)
    assert refused.value.path == str(path)


# The commands


def test_report_and_diff_from_the_command_line(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write(tmp_path / "a.json", document), write(tmp_path / "b.json", document)
    page, differences = tmp_path / "page.html", tmp_path / "diff.json"
    assert main(["report", str(a), str(b), "-o", str(page)]) == 0
    assert "<title>a · b</title>" in page.read_text(encoding="utf-8")
    assert main(["diff", str(a), str(b), "--json", str(differences)]) == 0
    assert "transit, p99" in capsys.readouterr().out
    found = json.loads(differences.read_text())
    assert all(each["ratio"] == 1.0 and not each["clear"] for each in found["differences"])
    assert found["settings"] == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ["diff", "a.json"],
        ["report", "a.json", "-o", "a.json"],
        ["report", "missing.json", "-o", "page.html"],
        ["report", *["a.json"] * 9, "-o", "page.html"],
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    arguments: list[str],
    document: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = write(tmp_path / "a.json", document).read_bytes()
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("velox: error: ")
    assert (tmp_path / "a.json").read_bytes() == before
    assert not (tmp_path / "page.html").exists()


def test_a_histogram_travels_in_the_document_unchanged(document: dict[str, Any]) -> None:
    for hop in HOPS:
        found = decode_histogram(document["histograms"][hop])
        told = document["latency_ns"][hop]
        assert found.count == told["count"] > 0
        assert found.percentile(50) == told["p50"]
