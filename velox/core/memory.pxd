"""Blocks of memory for rings, books and histograms: aligned, zeroed and already touched."""

cdef extern from *:
    """
    #ifndef VELOX_MEMORY_INCLUDED
    #define VELOX_MEMORY_INCLUDED
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>

    #define VELOX_HUGE_PAGE ((size_t)1 << 21)

    static inline void *velox_allocate(size_t size)
    {
        void *block = NULL;
        size_t alignment = size < VELOX_HUGE_PAGE ? 128 : VELOX_HUGE_PAGE;
        if (posix_memalign(&block, alignment, size ? size : 1) != 0)
            return NULL;
    #if defined(MADV_HUGEPAGE)
        /* A block that fills huge pages asks for them; where there are none it has the others. */
        if (size >= VELOX_HUGE_PAGE)
            madvise(block, size, MADV_HUGEPAGE);
    #endif
        /* Zeroing writes every page, so that no thread takes a page fault on the hot path. */
        return memset(block, 0, size);
    }
    #define VELOX_STATIC_ASSERT(condition) _Static_assert(condition, #condition)
    #endif
    """
    void *allocate "velox_allocate"(size_t size) noexcept nogil
    void STATIC_ASSERT "VELOX_STATIC_ASSERT"(bint condition) noexcept nogil

cdef extern from "<stdlib.h>" nogil:
    void release_memory "free"(void *block) noexcept
