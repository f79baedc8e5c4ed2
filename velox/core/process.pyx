"""Distinguishes a process from the processes that were forked from it."""

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(
        void (*prepare)() noexcept, void (*parent)() noexcept, void (*child)() noexcept) noexcept


cdef void count_fork() noexcept nogil:
    # The C library calls it in the child, whose only thread is the one that forked.
    global forks
    forks += 1


# For each fork, also for one that Python does not make.
if pthread_atfork(NULL, NULL, count_fork) != 0:
    raise MemoryError("no memory to watch for forks")
