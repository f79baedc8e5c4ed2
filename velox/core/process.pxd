"""Distinguishes a process from the processes that were forked from it."""

# The number of forks between the first process and this one. Only a child that has one thread
# writes it. If the number has changed since a call began, the thread that began it does not exist
# in this process.
cdef unsigned long forks
