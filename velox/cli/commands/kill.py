"""``velox kill``: block every order of the runs that use a kill switch."""

from __future__ import annotations

import argparse
import sys

from velox.cli.options import path
from velox.cli.screen import FAILED, GOOD, Screen
from velox.cli.signals import Signals
from velox.errors import ConfigError
from velox.runtime.kill_file import open_kill_switch

__all__ = ["add_kill"]


def add_kill(kill: argparse.ArgumentParser) -> None:
    """Give ``velox kill`` its options."""
    kill.add_argument("file", type=path, metavar="FILE", help="the switch: the file of --kill")
    what = kill.add_mutually_exclusive_group()
    what.add_argument(
        "--why", default="velox kill", metavar="TEXT", help="for the person who arms it again"
    )
    what.add_argument(
        "--status", action="store_true", help="only tell the state: exit status 1 if it is set"
    )
    what.add_argument(
        "--arm",
        metavar="NAME",
        help="let orders pass again; NAME is yours, and a terminal is needed to confirm it",
    )
    kill.set_defaults(command=_kill)


def _kill(options: argparse.Namespace, signals: Signals) -> int:
    screen = Screen(sys.stdout)
    # A switch that nobody has is made only to be set, so that a run that starts later is blocked.
    switch = open_kill_switch(options.file, create=options.arm is None and not options.status)
    if options.status:
        screen.say(f"{options.file}: {'killed: ' + switch.why if switch.killed else 'armed'}")
        return FAILED if switch.killed else GOOD
    if options.arm is None:
        changed = switch.kill(options.why)
        screen.say(f"{options.file}: killed" if changed else f"{options.file}: was killed before")
        return GOOD
    if not switch.killed:
        screen.say(f"{options.file}: is armed")
        return GOOD
    if not sys.stdin.isatty():
        raise ConfigError("needs a terminal: only a person may let orders pass again", field="arm")
    screen.say(f"{options.file}: killed: {switch.why}", "Type 'arm' to let orders pass again:")
    with signals.immediate():
        answer = sys.stdin.readline().strip()
    if answer != "arm" or not switch.arm(options.arm):
        screen.say("nothing was changed")
        return FAILED
    screen.say(f"{options.file}: armed by {options.arm}")
    return GOOD
