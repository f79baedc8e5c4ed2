"""Fuzzing: readers, books and the recovery of captures with mutated input.

``python -m tests.verify.fuzz TARGET --seconds N``; see ``docs/explanation/assurance.md``.
"""
