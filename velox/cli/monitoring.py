"""What watches a run from outside: the metrics that ``--metrics`` serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import velox
from velox.errors import ConfigError
from velox.runtime.pipeline import Pipeline

if TYPE_CHECKING:
    from velox.telemetry.metrics import MetricsServer

__all__ = ["metrics_server", "url_of"]


@contextmanager
def metrics_server(address: str | None, pipeline: Pipeline) -> Iterator[MetricsServer | None]:
    """Serve a pipeline's metrics for the time of the block; yield None without an address."""
    if address is None:
        yield None
        return
    try:
        module = import_module("velox.telemetry.metrics")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"needs {error.name}: pip install 'velox[metrics]'", field="metrics", value=address
        ) from None
    host = module.Host(velox.__version__, pipeline.config)
    server: MetricsServer = module.MetricsServer(
        module.parse_address(address), pipeline.snapshot, host
    )
    try:
        server.start()
    except OSError as error:
        raise ConfigError(str(error.strerror or error), field="metrics", value=address) from None
    with server:
        yield server


def url_of(server: MetricsServer) -> str:
    """Return the address of the metrics."""
    host, port = server.address
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
