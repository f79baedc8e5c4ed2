"""Readers of recorded files. They number lines and report faulty ones."""
