"""What tells a process from one that was forked off it."""

# How often this process was forked off; written and read under the GIL. No thread of this process
# will end what a thread of the parent had begun when this number was another.
cdef unsigned long forks
