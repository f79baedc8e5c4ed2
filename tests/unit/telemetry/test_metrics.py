"""Metrics: their formats, their histograms, and the server under clients that mean no good."""

import json
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox import Pipeline
from velox.cli.main import main
from velox.config import PipelineConfig
from velox.core.histogram import LatencyHistogram
from velox.errors import ConfigError
from velox.runtime.sinks import DiscardOutput
from velox.runtime.sources import ReplayIngress

pytest.importorskip("prometheus_client", reason="the metrics extra is not installed")

from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from velox.core.flow import MarketFlow
from velox.telemetry.metrics import Host, MetricsServer, families, parse_address
from velox.telemetry.metrics.dashboard import PANELS, dashboard
from velox.telemetry.metrics.families import CLASSIC_BOUNDS_NS, classic_buckets
from velox.telemetry.metrics.protobuf import CONTENT_TYPE as PROTOBUF
from velox.telemetry.metrics.protobuf import encode, native_buckets
from velox.telemetry.metrics.server import MOST_CONNECTIONS, OPENMETRICS, TEXT, chosen

RECORDS = 5_000


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """A pipeline that has run and stopped."""
    flow = MarketFlow(seed=3)
    made = Pipeline(
        [ReplayIngress(flow.generate(RECORDS), speed="max")],
        DiscardOutput(),
        config=PipelineConfig(placement="invoker"),
    )
    made.run()
    return made


@pytest.fixture
def server(pipeline: Pipeline) -> Iterator[MetricsServer]:
    served = MetricsServer(
        ("127.0.0.1", 0), pipeline.snapshot, Host("1.2.3", pipeline.config, started_s=12.5)
    )
    served.start()
    with served:
        yield served


def ask(server: MetricsServer, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and read the answer to its end."""
    with closing(socket.create_connection(server.address, timeout=30)) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return int(first.split(" ")[1]), fields, body


def get(server: MetricsServer, target: str = "/metrics", accept: str = "") -> tuple[int, str, str]:
    asked = f"GET {target} HTTP/1.1\r\nHost: x\r\n" + (f"Accept: {accept}\r\n" if accept else "")
    status, fields, body = ask(server, asked.encode() + b"\r\n")
    assert int(fields["Content-Length"]) == len(body)
    return status, fields["Content-Type"], body.decode("latin-1")


# What is measured


def test_every_count_of_the_ledger_is_a_series(server: MetricsServer, pipeline: Pipeline) -> None:
    status, content_type, body = get(server)
    assert (status, content_type) == (200, TEXT)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse_text(body)
        for sample in family.samples
    }
    ledger = pipeline.ledger()
    assert ledger.delivered_transactions == RECORDS
    assert found["velox_transactions_total", "ingress"] == ledger.pushed
    assert found["velox_transactions_total", "orderbook"] == ledger.applied
    assert found["velox_transactions_total", "bundle"] == ledger.sealed_transactions
    assert found["velox_transactions_total", "output"] == ledger.delivered_transactions
    for reason, count in ledger.bundles.items():
        assert found["velox_bundles_total", reason] == count
    for reason, count in ledger.rejected.items():
        assert found["velox_rejected_total", reason] == count
    assert found["velox_ledger_faults",] == 0
    assert found["velox_running",] == 0
    assert found["velox_start_time_seconds",] == 12.5
    for hop, histogram in pipeline.latency().items():
        assert found["velox_latency_seconds_count", hop] == histogram.count
        assert found["velox_latency_seconds_bucket", hop, "+Inf"] == histogram.count


def test_names_and_labels_follow_the_rules(pipeline: Pipeline) -> None:
    series = 0
    for family in families(pipeline.snapshot(), Host("1", pipeline.config)):
        assert family.name.startswith(("velox_", "process_"))
        assert family.documentation.endswith((".", "output"))
        for sample in family.samples:
            series += 1
            assert set(sample.labels) <= {
                *("stage", "reason", "ring", "runner", "market", "side", "hop", "le"),
                *("version", "python", "machine", "hash"),
            }
            assert math.isfinite(sample.value)
    assert series <= 300


def test_openmetrics_is_what_its_own_parser_takes(server: MetricsServer) -> None:
    accept = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    _, content_type, body = get(server, accept=accept)
    assert content_type == OPENMETRICS
    assert body.endswith("# EOF\n")
    names = {family.name for family in parse_openmetrics(body)}
    assert {"velox_transactions", "velox_latency_seconds", "velox_build"} <= names


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4", OPENMETRICS),
        ("application/openmetrics-text;version=9.9.9,text/plain;version=0.0.4;q=0.1", TEXT),
        ("text/plain;q=0.2," + PROTOBUF.replace("; ", ";") + ";q=0.7", PROTOBUF),
        ("application/vnd.google.protobuf;encoding=text", TEXT),
        ("application/openmetrics-text;q=nonsense", TEXT),
        (",;,=", TEXT),
    ],
)
def test_the_reader_chooses_the_format(accept: str, content_type: str) -> None:
    assert chosen(accept) == content_type


# Histograms


def recorded(values: list[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    histogram.record_many(np.array(values, np.int64))
    return histogram


@given(st.lists(st.integers(0, 10**10), max_size=200))
def test_classic_buckets_count_up_and_never_too_high(values: list[int]) -> None:
    buckets = classic_buckets(recorded(values))
    counts = [count for _, count in buckets]
    assert counts == sorted(counts)
    assert counts[-1] == len(values)
    for (_, count), bound in zip(buckets, CLASSIC_BOUNDS_NS, strict=False):
        exact = sum(value <= bound for value in values)
        within = sum(value <= bound * 0.98 for value in values)
        assert within <= count <= exact


@given(st.lists(st.integers(0, 10**12), max_size=200))
def test_native_buckets_hold_every_value_within_their_width(values: list[int]) -> None:
    zeros, buckets = native_buckets(recorded(values))
    assert zeros + sum(buckets.values()) == len(values)
    assert zeros == values.count(0)
    bounds = sorted(index for index, count in buckets.items() for _ in range(count))
    for index, value in zip(bounds, sorted(value for value in values if value), strict=True):
        # The middle of a bucket of ours is within 1 % of the value.
        assert 2 ** ((index - 1) / 32) * 0.985 <= value / 1e9 <= 2 ** (index / 32) * 1.015


def fields_of(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message, read by a decoder of the test's own."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 1:
            yield key >> 3, np.frombuffer(data, "<f8", 1, at)[0]
            at += 8
        else:
            assert key & 7 == 2
            length = varint()
            yield key >> 3, data[at : at + length]
            at += length


def signed(value: int) -> int:
    return value >> 1 ^ -(value & 1)


@given(st.lists(st.integers(0, 10**11), max_size=100))
def test_a_native_histogram_can_be_decoded_to_its_buckets(values: list[int]) -> None:
    histogram = recorded(values)
    [family] = [
        each
        for each in families_of_latency(histogram)
        if dict(fields_of(each)).get(1) == b"velox_latency_seconds"
    ]
    [metric] = [value for number, value in fields_of(family) if number == 4]
    found = list(fields_of(dict(fields_of(metric))[7]))
    assert dict(found)[1] == len(values)
    assert signed(dict(found)[5]) == 5
    counts, index = {}, 0
    deltas = iter([signed(value) for number, value in found if number == 13])
    count = 0
    for number, span in found:
        if number == 12:
            parts = dict(fields_of(span))
            index += signed(parts[1])
            for _ in range(parts[2]):
                count += next(deltas)
                counts[index] = count
                index += 1
    assert next(deltas, None) is None
    zeros, buckets = native_buckets(histogram)
    assert counts == buckets
    assert dict(found)[7] == zeros


def families_of_latency(histogram: LatencyHistogram) -> Iterator[bytes]:
    family = HistogramMetricFamily("velox_latency_seconds", "Latency.", labels=["hop"])
    data = encode([family], {"total": histogram})
    at = 0
    while at < len(data):
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield data[at : at + length]
        at += length


# The server


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../etc HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 9_000 + b"\r\n\r\n", 431),
        (b"A" * 20_000, 431),
        (b"GET /ready HTTP/1.1\r\n\r\n", 503),
        (b"GET /metrics?x=1 HTTP/1.0\n\n", 200),
    ],
)
def test_each_request_gets_its_status(server: MetricsServer, request_: bytes, status: int) -> None:
    assert ask(server, request_)[0] == status
    assert get(server)[0] == 200


def test_head_has_no_body(server: MetricsServer) -> None:
    status, fields, body = ask(server, b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert status == 200
    assert int(fields["Content-Length"]) > 1000
    assert body == b""


def test_a_hundred_silent_clients_do_not_stop_a_scrape(server: MetricsServer) -> None:
    before = threading.active_count()
    silent = [socket.create_connection(server.address, timeout=30) for _ in range(100)]
    try:
        assert get(server)[0] == 200
        assert threading.active_count() == before
        # Beyond the most, the one that has waited longest was closed.
        closed = [each for each in silent[: 100 - MOST_CONNECTIONS] if not each.recv(1)]
        assert len(closed) == 100 - MOST_CONNECTIONS
    finally:
        for each in silent:
            each.close()


def test_a_client_that_never_asks_is_told_and_cut_off(server: MetricsServer) -> None:
    with closing(socket.create_connection(server.address, timeout=30)) as connection:
        connection.sendall(b"GET /met")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_reader_that_stops_reading_is_cut_off(server: MetricsServer) -> None:
    with closing(socket.create_connection(server.address, timeout=30)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert get(server)[0] == 200
        while connection.recv(65536):
            pass


def test_a_failing_snapshot_is_told_and_the_server_goes_on(pipeline: Pipeline) -> None:
    fails = True

    def snapshot() -> Any:
        if fails:
            raise RuntimeError("a secret")
        return pipeline.snapshot()

    served = MetricsServer(("127.0.0.1", 0), snapshot, Host("1", pipeline.config))
    served.start()
    with served:
        status, _, body = ask(served, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert (status, body) == (500, b"RuntimeError\n")
        fails = False
        assert get(served)[0] == 200


def test_a_port_that_is_taken_is_named(
    server: MetricsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = f"127.0.0.1:{server.address[1]}"
    assert main(["run", "--duration", "0.1", "--metrics", taken]) == 2
    assert f"metrics = '{taken}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "localhost", ":9464", "127.0.0.1:", "127.0.0.1:x", "h:-1", "h:65536", "::1:80"]
)
def test_an_address_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_address(text)
    assert refused.value.field == "metrics"
    assert refused.value.value == text


def test_a_server_can_be_stopped_twice(pipeline: Pipeline) -> None:
    served = MetricsServer(("127.0.0.1", 0), pipeline.snapshot, Host("1", pipeline.config))
    served.start()
    served.stop()
    served.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(served.address, timeout=5)


# The dashboard


def test_the_dashboard_has_room_for_each_panel(capsys: pytest.CaptureFixture[str]) -> None:
    made = dashboard()
    places = set()
    for panel in made["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & places
        places |= cells
    assert len({panel["id"] for panel in made["panels"]}) == len(PANELS) == len(made["panels"])
    assert main(["monitoring", "dashboard"]) == 0
    assert json.loads(capsys.readouterr().out) == made
