"""The parts of a pipeline that need no threads."""
