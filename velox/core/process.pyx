"""Distinguishes a process from the processes that were forked from it."""

import os


def _count_fork():
    global forks
    forks += 1


os.register_at_fork(after_in_child=_count_fork)
