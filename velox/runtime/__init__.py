"""The pipeline: its stages, its threads, and the CPUs on which they run."""
