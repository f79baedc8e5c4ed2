"""Pages: self-contained HTML documents with tables and charts, for a browser without a network.

::

    figures --> chart (SVG, a table of its points) --+
            --> table --------------------------------+--> section --> page (one file)

A page loads nothing. Its script only shows the value under the pointer and switches curves on and
off; without it the page shows the same charts. Every text is escaped where it enters the page.
"""

from velox.telemetry.page.chart import Curve, chart
from velox.telemetry.page.document import figures_grid, page, section, table
from velox.telemetry.page.scale import Axis, counts_axis, duration_axis, percentile_axis, time_axis

__all__ = [
    "Axis",
    "Curve",
    "chart",
    "counts_axis",
    "duration_axis",
    "figures_grid",
    "page",
    "percentile_axis",
    "section",
    "table",
    "time_axis",
]
