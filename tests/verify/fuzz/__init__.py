"""Whatever the bytes: readers, books and the recovery of captures under mutated input.

``python -m tests.verify.fuzz TARGET --seconds N``; see ``docs/explanation/assurance.md``.
"""
