"""Metrics for Prometheus: what is measured, how it is written, and who may read it.

::

    Pipeline.snapshot() --> families --> text 0.0.4 | OpenMetrics 1.0 | protobuf --> MetricsServer

It needs the ``metrics`` extra: ``pip install 'velox[metrics]'``. A scrape reads counters; no stage
waits for it.
"""

from velox.telemetry.metrics.families import Host, families
from velox.telemetry.metrics.server import MetricsServer, parse_address

__all__ = ["Host", "MetricsServer", "families", "parse_address"]
