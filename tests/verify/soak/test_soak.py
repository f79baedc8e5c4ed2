"""The soak itself, for a few seconds; and that it fails where it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .draws import Draw, draw
from .runs import Run, SoakError

ROOT = Path(__file__).parents[3]


def test_a_few_seconds_of_the_soak_balance() -> None:
    command = [sys.executable, "-m", "tests.verify.soak", "--seconds", "5", "--seed", "20"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " 0 failed" in ended.stdout.splitlines()[-1]


def test_a_draw_is_a_function_of_its_seed_and_index_and_survives_a_line_of_text() -> None:
    for index in range(50):
        drawn = draw(3, index)
        assert drawn == draw(3, index)
        assert Draw.from_json(drawn.to_json()) == drawn


def small(**changes: object) -> Draw:
    values = {**draw(1, 0).__dict__, "ingress": "replay", "rate": "max", "length": 500}
    values |= {"repeat": 1, "output": "capture", "disk_bytes": 0, "fails_at": 0, "fan": -1}
    values |= {"target": 10**6, "interrupts": 0, "config": {"placement": "shared"}}
    return Draw(**{**values, **changes})


def finished(tmp_path: Path, **changes: object) -> Run:
    run = Run(small(**changes), tmp_path)
    run.drive(True)
    return run


def test_a_run_in_order_passes(tmp_path: Path) -> None:
    finished(tmp_path).check()


@pytest.mark.parametrize("where", [0, 7, -1])
def test_a_capture_in_which_one_bit_differs_fails(tmp_path: Path, where: int) -> None:
    run = finished(tmp_path)
    bundles = np.load(run.path, mmap_mode="r+")
    bundles["transactions"]["size"][where, 0] ^= 1
    bundles.flush()
    with pytest.raises(SoakError, match="delivered something else"):
        run.check()


def test_a_capture_in_which_two_transactions_changed_places_fails(tmp_path: Path) -> None:
    run = finished(tmp_path)
    bundles = np.load(run.path, mmap_mode="r+")
    bundles["transactions"][3, :2] = bundles["transactions"][3, 1::-1]
    bundles.flush()
    with pytest.raises(SoakError, match="delivered something else"):
        run.check()


def test_a_bundle_that_is_missing_fails(tmp_path: Path) -> None:
    run = finished(tmp_path)
    np.save(run.path, np.load(run.path)[:-1])
    with pytest.raises(SoakError, match=r"bundles kept|bytes of a capture"):
        run.check()


PROBE = """
import pathlib, signal, sys, threading
import numpy as np, velox
from velox.runtime import sinks as output
path = pathlib.Path(sys.argv[1])
# A shell starts what runs in its background with this ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
"""

# CPython before 3.13 takes a thread for ended once a join of it was interrupted.
INTERRUPTED_WHILE_WAITING = """
pipeline = velox.Pipeline(
    velox.PoissonIngress("max", 1),
    config=velox.PipelineConfig(placement="shared", idle="yield"),
)
pipeline.start()
main = threading.main_thread().ident
def is_waiting(frame):
    if not frame.f_code.co_filename.endswith("threads.py"):
        return False
    while frame is not None:
        if frame.f_code.co_filename.endswith("pipeline.py") and frame.f_code.co_name == "wait":
            return True
        frame = frame.f_back
    return False
def interrupt():
    while not is_waiting(sys._current_frames()[main]):
        pass
    signal.pthread_kill(main, signal.SIGINT)
try:
    threading.Thread(target=interrupt, daemon=True).start()
    pipeline.wait()
except KeyboardInterrupt:
    pass
# Nothing has stopped it: it has not ended, and the thread that runs it lives.
lives = not pipeline.wait(0)
pipeline.stop()
assert lives
pipeline.ledger().check(forwarding=True)
"""

INTERRUPTED_WHILE_A_CAPTURE_IS_FINISHED = """
finish = output.finish_capture
def late(*arguments):
    output.finish_capture = finish
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    finish(*arguments)
output.finish_capture = late
capture = velox.CaptureOutput(path / "capture.npy")
pipeline = velox.Pipeline(velox.ReplayIngress(velox.MarketFlow(1).generate(1000)), capture)
try:
    pipeline.run()
except KeyboardInterrupt:
    pass
pipeline.stop()
assert len(np.load(capture.path)) == pipeline.ledger().delivered_bundles
"""


@pytest.mark.parametrize(
    "probe", [INTERRUPTED_WHILE_WAITING, INTERRUPTED_WHILE_A_CAPTURE_IS_FINISHED]
)
def test_an_interrupt_leaves_the_ledger_balanced_and_the_capture_whole(
    tmp_path: Path, probe: str
) -> None:
    command = [sys.executable, "-c", PROBE + probe, str(tmp_path)]
    ended = subprocess.run(
        command, cwd=ROOT, timeout=30, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_a_strategy_behind_rings_of_eight_is_refused_or_works(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from tests.verify.soak.test_soak import finished;"
        "finished(pathlib.Path(sys.argv[1]), fan=0,"
        " config={'placement': 'shared', 'transaction_capacity': 8}).check()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, timeout=10, check=False, capture_output=True)
    assert b"ConfigError" in ended.stderr or ended.returncode == 0
