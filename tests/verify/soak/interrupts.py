"""Runs that a real SIGINT ends, each in a process of its own, at the transaction of its draw.

The process reads one draw a line. At the target it writes ``now``. Its parent then sends the
signals, writes ``sent``, and reads ``ok`` and a count, or a message that says what went wrong.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from types import FrameType, TracebackType

from .draws import Draw
from .runs import LONGEST_S, Run, SoakError, perform

__all__ = ["InterruptedProcess", "serve"]

ROOT = Path(__file__).parents[3]


class InterruptedProcess:
    """The other process, for as long as the soak lasts."""

    def __enter__(self) -> InterruptedProcess:
        self.process: subprocess.Popen[str] | None = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def abort(self) -> None:
        """End it, and have it say where each of its threads was."""
        if self.process is not None:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()

    def perform(self, draw: Draw) -> int:
        """Have one run done; as `runs.perform`."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.verify.soak", "--serve"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                # Ctrl-C at the terminal is for the soak, not for its runs.
                start_new_session=True,
            )
        try:
            return self.converse(self.process, draw)
        except BaseException:
            # Its state is not known, so the next run gets a new process.
            self.process.kill()
            self.process = None
            raise

    def converse(self, process: subprocess.Popen[str], draw: Draw) -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(draw.to_json() + "\n")
        if process.stdout.readline() != "now\n":
            raise SoakError("the interrupted process ended before its target")
        for _ in range(draw.interrupts):
            process.send_signal(signal.SIGINT)
        process.stdin.write("sent\n")
        answer = process.stdout.readline()
        if not answer:
            raise SoakError(f"the interrupted process ended with {process.wait()}")
        outcome = json.loads(answer)
        if "failure" in outcome:
            raise SoakError(outcome["failure"])
        return int(outcome["transactions"])


class Interrupts:
    """Turns SIGINT into `KeyboardInterrupt` while armed, and into nothing while not."""

    def __init__(self) -> None:
        self.begun = self.armed = False
        signal.signal(signal.SIGINT, self.arrive)

    def arrive(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            raise KeyboardInterrupt

    def drive(self, run: Run) -> None:
        target = threading.Thread(target=announce, args=(self, run), name="soak-announcer")
        self.begun = False
        target.start()
        try:
            self.drive_armed(run)
        finally:
            target.join()
            if sys.stdin.readline() != "sent\n":
                raise SoakError("the process that should have sent the signals is gone")
        # What the interrupt hit may have been the harness, not the pipeline.
        run.pipeline.stop()

    def drive_armed(self, run: Run) -> None:
        # As many levels as there may be signals: each can break out of one.
        with contextlib.suppress(KeyboardInterrupt):
            try:
                with contextlib.suppress(KeyboardInterrupt):
                    # In this order: a signal between the two lines would be lost otherwise.
                    self.armed = True
                    self.begun = True
                    run.drive(True)
                self.armed = False
            finally:
                self.armed = False
        self.armed = False


def announce(interrupts: Interrupts, run: Run) -> None:
    """Say when the target is reached, or will not be."""
    pipeline, target = run.pipeline, run.draw.target
    while not interrupts.begun:
        # A signal before that would be lost, and one may be all that ends the run.
        os.sched_yield()
    end = time.monotonic() + LONGEST_S
    while pipeline.state != "stopped" and time.monotonic() < end:
        if target == 0 or pipeline.statistics().delivered_transactions >= target:
            break
        threading.Event().wait(0.0002)
    os.write(1, b"now\n")


def serve() -> None:
    """Make the runs whose draws come on standard input, until it ends."""
    faulthandler.enable()
    interrupts = Interrupts()
    with tempfile.TemporaryDirectory() as directory:
        while line := sys.stdin.readline():
            draw = Draw.from_json(line)
            try:
                outcome = {"transactions": perform(draw, Path(directory), interrupts.drive)}
            except Exception:
                outcome = {"failure": traceback.format_exc()}
            os.write(1, json.dumps(outcome).encode() + b"\n")
