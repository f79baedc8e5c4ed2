"""Writes the report of a run: as text, as JSON, and as logs for HdrHistogram's tools."""

from velox.telemetry.document import document, write_document
from velox.telemetry.files import naming, replacing, writing
from velox.telemetry.hlog import HistogramLog, decode_histogram, encode_histogram
from velox.telemetry.series import Course

__all__ = [
    "Course",
    "HistogramLog",
    "decode_histogram",
    "document",
    "encode_histogram",
    "naming",
    "replacing",
    "write_document",
    "writing",
]
