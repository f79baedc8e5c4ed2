"""What the pipeline says that it does none of, counted: heap, locks, system calls, the GIL."""
