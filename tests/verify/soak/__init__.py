"""Pipelines of every configuration, started, stopped and interrupted at random, without end.

``python -m tests.verify.soak --seconds N [--seed S]``; see ``docs/explanation/assurance.md``.
"""
