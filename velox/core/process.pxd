"""What tells a process from one that was forked off it."""

# How often this process was forked off; written and read under the GIL. What a parent's thread had
# begun when this was another number, nobody here will end.
cdef unsigned long forks
