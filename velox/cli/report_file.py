"""Writes execution reports to a file while a run goes on."""

from __future__ import annotations

import json
import os
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from solders.signature import Signature

from velox.venue import REPORT_DTYPE, Reason, ReportKind

__all__ = ["ReportFile"]

_NAMES = [name for name in REPORT_DTYPE.names or () if name != "unused"]


class ReportFile:
    """A file of execution reports: ``.npy``, or else one JSON object a line.

    Whatever is written is complete after each `write`, so a kill loses nothing of it.

    Parameters
    ----------
    path : str
        Replaced if it exists.

    Attributes
    ----------
    count : int
        Reports written.

    Raises
    ------
    OSError
        The file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.count = 0
        self._is_array = path.endswith(".npy")
        # A file of orders and fills is nobody else's business.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        if self._is_array:
            self._write_header()

    def write(self, reports: npt.NDArray[np.void]) -> None:
        """Add reports, of REPORT_DTYPE."""
        if not len(reports):
            return
        if self._is_array:
            self._file.write(reports.tobytes())
        else:
            for row in reports:
                self._file.write(json.dumps(_document(row)).encode() + b"\n")
        self.count += len(reports)
        if self._is_array:
            self._write_header()
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write_header(self) -> None:
        # NumPy leaves room for any number of records, so the header can be written again.
        self._file.seek(0)
        # Some releases of NumPy have no types for this module.
        npy: Any = np.lib.format
        header = {
            "descr": npy.dtype_to_descr(REPORT_DTYPE),
            "fortran_order": False,
            "shape": (self.count,),
        }
        npy.write_array_header_1_0(self._file, header)
        self._file.seek(0, os.SEEK_END)


def _document(row: np.void) -> dict[str, Any]:
    """Return a report as a dictionary for JSON."""
    document: dict[str, Any] = {}
    for name in _NAMES:
        value = row[name]
        if name == "signature":
            raw = value.tobytes()
            document[name] = str(Signature.from_bytes(raw)) if any(raw) else None
        elif name == "kind":
            document[name] = ReportKind(int(value)).name.lower()
        elif name == "reason":
            document[name] = Reason(int(value)).name.lower()
        else:
            document[name] = int(value)
    return document
