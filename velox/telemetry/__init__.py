"""What a run came to, for a terminal and for a program."""

from velox.telemetry.document import document, replacing, write_document

__all__ = ["document", "replacing", "write_document"]
