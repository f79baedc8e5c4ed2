"""Stages, threads and where they run: from parts to a pipeline."""
