"""Pipelines of every configuration, started, stopped and interrupted at random, without end.

``python -m tests.verify.soak --seconds N [--seed S]``; ``docs/assurance.md`` says what it checks.
"""
