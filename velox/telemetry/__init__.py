"""What a run came to, for a terminal, for a program, and for HdrHistogram's tools."""

from velox.telemetry.document import document, replacing, write_document
from velox.telemetry.hlog import HistogramLog, decode_histogram, encode_histogram

__all__ = [
    "HistogramLog",
    "decode_histogram",
    "document",
    "encode_histogram",
    "replacing",
    "write_document",
]
