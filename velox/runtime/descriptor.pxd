"""A file descriptor that one thread raises, so that another one's wait for it ends.

It is an eventfd on Linux and a pipe elsewhere. Raising it twice is raising it once. The kernel
orders the calls: what came before `descriptor_raise` happens before what comes after the
`descriptor_lower` that takes it back. The model checker puts an atomic word in its place.
"""

from libc.stdint cimport intptr_t

cdef extern from *:
    """
    #ifndef VELOX_DESCRIPTOR_INCLUDED
    #define VELOX_DESCRIPTOR_INCLUDED
    #include <errno.h>
    #include <fcntl.h>
    #include <poll.h>
    #include <stdint.h>
    #include <time.h>
    #include <unistd.h>
    #if defined(__linux__)
    #include <sys/eventfd.h>
    #endif

    /* 0, or the errno of the refusal. On Linux both are the same descriptor. */
    static inline int velox_descriptor_open(intptr_t *readable, intptr_t *raised)
    {
    #if defined(__linux__)
        *readable = *raised = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        return *readable < 0 ? errno : 0;
    #else
        int ends[2];
        if (pipe(ends) != 0)
            return errno;
        for (int i = 0; i < 2; i++) {
            fcntl(ends[i], F_SETFL, fcntl(ends[i], F_GETFL) | O_NONBLOCK);
            fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        }
        *readable = ends[0];
        *raised = ends[1];
        return 0;
    #endif
    }

    static inline void velox_descriptor_close(intptr_t readable, intptr_t raised)
    {
        if (readable >= 0)
            close((int)readable);
        if (raised >= 0 && raised != readable)
            close((int)raised);
    }

    /* One that is full is raised already. */
    static inline void velox_descriptor_raise(intptr_t raised)
    {
        uint64_t one = 1;
        while (write((int)raised, &one, sizeof one) < 0 && errno == EINTR)
            ;
    }

    static inline void velox_descriptor_lower(intptr_t readable)
    {
        uint64_t words[8];
        ssize_t taken;
        do
            taken = read((int)readable, words, sizeof words);
        while (taken == (ssize_t)sizeof words || (taken < 0 && errno == EINTR));
    }

    /* Whether it is raised; 0 also after a signal, or once the time is up. */
    static inline int velox_descriptor_wait(intptr_t readable, double seconds)
    {
        struct pollfd looked = {(int)readable, POLLIN, 0};
    #if defined(__linux__)
        struct timespec span;
        span.tv_sec = (time_t)seconds;
        span.tv_nsec = (long)((seconds - (double)span.tv_sec) * 1e9);
        return ppoll(&looked, 1, &span, NULL) > 0;
    #else
        return poll(&looked, 1, (int)(seconds * 1e3) + 1) > 0;
    #endif
    }
    #endif
    """
    int descriptor_open "velox_descriptor_open"(
        intptr_t *readable, intptr_t *raised) noexcept nogil
    void descriptor_close "velox_descriptor_close"(
        intptr_t readable, intptr_t raised) noexcept nogil
    void descriptor_raise "velox_descriptor_raise"(intptr_t raised) noexcept nogil
    void descriptor_lower "velox_descriptor_lower"(intptr_t readable) noexcept nogil
    bint descriptor_wait "velox_descriptor_wait"(intptr_t readable, double seconds) noexcept nogil
