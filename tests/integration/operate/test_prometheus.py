"""Debian's Prometheus reads a running Velox, and answers every expression that we ship."""

import json
import math
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="the metrics extra is not installed")

from velox.telemetry.metrics.dashboard import alert_rules, dashboard

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
pytestmark = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="Prometheus is not installed"
)

PATIENCE_S = 60.0
SCRAPE = """\
global: {{scrape_interval: 250ms, scrape_timeout: 200ms, evaluation_interval: 250ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: velox
    static_configs: [{{targets: ["{target}"]}}]
"""
# What an alert needs to go off: the series of a sick pipeline, and one of a healthy one.
ALERTS = """\
rule_files: [{rules}]
evaluation_interval: 10s
tests:
  - interval: 10s
    input_series:
      - {{series: 'up{{job="velox"}}', values: '0x60'}}
      - {{series: 'velox_ledger_faults', values: '1x60'}}
      - {{series: 'velox_dropped_total', values: '0+5x60'}}
      - {{series: 'velox_rejected_total{{reason="off_tick"}}', values: '0+50x60'}}
      - {{series: 'velox_blocked_total{{reason="price"}}', values: '0+1x60'}}
      - {{series: 'velox_transactions_total{{stage="ingress"}}', values: '0+100x60'}}
      - {{series: 'velox_transactions_total{{stage="orderbook"}}', values: '7x60'}}
      - {{series: 'velox_ring_fill_ratio{{ring="ingress"}}', values: '0.95x60'}}
    alert_rule_test:
{expected}
  - interval: 10s
    input_series:
      - {{series: 'up{{job="velox"}}', values: '1x60'}}
      - {{series: 'velox_ledger_faults', values: '0x60'}}
      - {{series: 'velox_dropped_total', values: '0x60'}}
      - {{series: 'velox_rejected_total{{reason="off_tick"}}', values: '0x60'}}
      - {{series: 'velox_blocked_total{{reason="price"}}', values: '0x60'}}
      - {{series: 'velox_transactions_total{{stage="ingress"}}', values: '0+100x60'}}
      - {{series: 'velox_transactions_total{{stage="orderbook"}}', values: '0+100x60'}}
      - {{series: 'velox_ring_fill_ratio{{ring="ingress"}}', values: '0.1x60'}}
    alert_rule_test:
{silent}
"""
SICK = {
    "VeloxDown": "exp_labels: {severity: critical, job: velox}",
    "VeloxLedgerFault": "exp_labels: {severity: critical}",
    "VeloxDropping": "exp_labels: {severity: critical}",
    "VeloxRejecting": "exp_labels: {severity: warning}",
    "VeloxBlocking": "exp_labels: {severity: warning}",
    "VeloxRingFilling": "exp_labels: {severity: warning, ring: ingress}",
    "VeloxStalled": "exp_labels: {severity: critical, stage: ingress}",
}


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def eventually(look: Callable[[], Any], what: str) -> Any:
    """Return the first result that is not empty; fail after `PATIENCE_S`."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            if found := look():
                return found
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail(f"no {what} within {PATIENCE_S:g} s")


class Server:
    """A Prometheus that scrapes one target."""

    def __init__(self, folder: Path, target: str, *options: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        rules, config = folder / "alerts.yml", folder / "prometheus.yml"
        rules.write_text(alert_rules(), encoding="utf-8")
        config.write_text(SCRAPE.format(rules=rules, target=target), encoding="utf-8")
        assert PROMETHEUS is not None
        self.log = folder / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={folder}/data"),
                    *(f"--web.listen-address={self.address}", *options),
                ],
                stdout=log,
                stderr=log,
            )

    def query(self, expression: str) -> list[dict[str, Any]]:
        asked = urllib.parse.urlencode({"query": expression})
        url = f"http://{self.address}/api/v1/query?{asked}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


@pytest.fixture(params=["native", "classic"])
def scraped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    """A run that lasts until the test ends it, and the Prometheus that reads it."""
    document, port = tmp_path / "run.json", free_port()
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "velox", "run", "--duration", "600", "--rate", "20000"),
            *("--quiet", "--idle", "backoff", "--hiccups", "0", "--json", str(document)),
            *("--metrics", f"127.0.0.1:{port}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    native = ("--enable-feature=native-histograms",) if request.param == "native" else ()
    server = Server(tmp_path, f"127.0.0.1:{port}", *native)
    try:
        eventually(lambda: server.query("velox_running == 1"), "running Velox")
        yield server, document
    finally:
        server.stop()
        run.terminate()
        output, _ = run.communicate(timeout=120)
        assert run.returncode == 0, output.decode()


def finite(result: list[dict[str, Any]]) -> list[float]:
    """The finite samples; a native histogram counts by its count."""
    values = [
        float(each["value"][1]) if "value" in each else float(each["histogram"][1]["count"])
        for each in result
    ]
    return [value for value in values if math.isfinite(value)]


def test_every_expression_of_the_dashboard_has_an_answer(scraped: tuple[Server, Path]) -> None:
    server, _ = scraped
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5s")
            if expression.endswith("> 0"):
                assert server.query(expression) == []  # nothing is rejected in this run
                continue
            eventually(
                lambda asked=expression: finite(server.query(asked)),
                f"answer to {panel['title']!r}: {expression}",
            )
    assert server.query('ALERTS{alertstate="firing"}') == []


def test_a_scrape_of_either_kind_has_the_same_quantiles(scraped: tuple[Server, Path]) -> None:
    server, _ = scraped
    native = "histogram_quantile(0.5, velox_latency_seconds)"
    classic = "histogram_quantile(0.5, velox_latency_seconds_bucket)"
    found = eventually(lambda: server.query(f"{native} or {classic}"), "median of the latencies")
    assert {each["metric"]["hop"] for each in found} == {
        *("late", "transit", "hold", "delivery", "total")
    }


@pytest.mark.parametrize("scraped", ["native"], indirect=True)
def test_quantiles_of_native_histograms_are_ours_within_a_bucket(
    scraped: tuple[Server, Path], tmp_path: Path
) -> None:
    """The last scrape lies before the end, so both are compared at a moment of their own: the
    histogram that Prometheus has is decoded, and its quantiles are compared with its own counts.
    """
    server, _ = scraped
    eventually(
        lambda: finite(server.query('velox_latency_seconds{hop="total"} ')), "native histogram"
    )
    [sample] = server.query('velox_latency_seconds{hop="total"}')
    at = sample["histogram"][0]
    buckets = [
        (float(low), float(high), float(count))
        for _, low, high, count in sample["histogram"][1]["buckets"]
    ]
    total = sum(count for *_, count in buckets)
    for quantile in (0.5, 0.99, 0.999):
        asked = f'histogram_quantile({quantile}, velox_latency_seconds{{hop="total"}} @ {at})'
        [answer] = server.query(asked)
        rank, below = quantile * total, 0.0
        low = high = 0.0
        for low, high, count in buckets:  # noqa: B007
            below += count
            if below >= rank:
                break
        assert low * 0.999 <= float(answer["value"][1]) <= high * 1.001
        assert high / low < 1.023


def test_the_rules_are_valid_and_go_off_when_they_should(tmp_path: Path) -> None:
    rules = tmp_path / "alerts.yml"
    rules.write_text(alert_rules(), encoding="utf-8")
    assert PROMTOOL is not None
    subprocess.run([PROMTOOL, "check", "rules", str(rules)], check=True, capture_output=True)
    known = {line.split()[-1] for line in alert_rules().splitlines() if "- alert:" in line}
    # VeloxSlow needs histograms, which the tests of rules cannot give.
    assert known == {*SICK, "VeloxSlow"}
    expected = "\n".join(
        f"      - {{eval_time: 5m, alertname: {name}, exp_alerts: [{{{labels}, exp_annotations: "
        f"{json.dumps(annotations_of(name, 'ingress'))}}}]}}"
        for name, labels in SICK.items()
    )
    silent = "\n".join(
        f"      - {{eval_time: 5m, alertname: {name}, exp_alerts: []}}" for name in SICK
    )
    test = tmp_path / "test.yml"
    test.write_text(ALERTS.format(rules=rules, expected=expected, silent=silent), "utf-8")
    done = subprocess.run(
        [PROMTOOL, "test", "rules", str(test)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def annotations_of(alert: str, ring: str) -> dict[str, str]:
    """The annotations of a rule, read from its lines."""
    block = alert_rules().split(f"- alert: {alert}\n", 1)[1].split("- alert:", 1)[0]
    found = {}
    for line in block.split("annotations:\n", 1)[1].splitlines():
        name, _, text = line.strip().partition(": ")
        if name:
            found[name] = text.replace("{{ $labels.ring }}", ring)
    return found


def test_counters_grow_from_scrape_to_scrape(scraped: tuple[Server, Path]) -> None:
    server, _ = scraped
    [before] = finite(server.query('velox_transactions_total{stage="output"}'))
    later = eventually(
        lambda: [
            value
            for value in finite(server.query('velox_transactions_total{stage="output"}'))
            if value > before
        ],
        "later scrape",
    )
    assert later[0] > before
