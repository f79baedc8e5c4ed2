"""Whatever the bytes: readers, books and the recovery of captures under mutated input.

``python -m tests.fuzz TARGET --seconds N``; ``docs/assurance.md`` says what each target promises.
"""
