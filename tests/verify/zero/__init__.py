"""Counts what a pipeline must not use: heap, locks, system calls, the GIL."""
