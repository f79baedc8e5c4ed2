"""Readers of files: lines, their numbers, and what becomes of faulty ones."""
