"""Blocks of memory for rings, books and histograms: aligned, zeroed and already touched.

`allocate_pages` makes rings and books: its argument says whether to ask the kernel for huge pages.
`allocate` makes everything else. Both write every page, so that no thread takes a page fault on the
hot path.
"""

cdef extern from *:
    """
    #ifndef VELOX_MEMORY_INCLUDED
    #define VELOX_MEMORY_INCLUDED
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>

    #define VELOX_ALIGNMENT ((size_t)128)
    #define VELOX_SMALL_PAGE ((size_t)1 << 12)
    /* A multiple of every size that a page has which is not huge: 4, 16 or 64 KiB. */
    #define VELOX_ANY_PAGE ((size_t)1 << 16)
    #define VELOX_HUGE_PAGE ((size_t)1 << 21)

    typedef enum {
        VELOX_HUGE_PAGES_AUTO, VELOX_HUGE_PAGES_ALWAYS, VELOX_HUGE_PAGES_NEVER
    } velox_page_choice;

    static inline void *velox_allocate(size_t size)
    {
        void *block = NULL;
        if (posix_memalign(&block, VELOX_ALIGNMENT, size ? size : 1) != 0)
            return NULL;
        return memset(block, 0, size);
    }

    /* The kind of page that is asked for, as its size; VELOX_ALIGNMENT where any will do. */
    static inline size_t velox_page_unit(size_t size, velox_page_choice when)
    {
    #if defined(MADV_HUGEPAGE)
        if (when == VELOX_HUGE_PAGES_AUTO)
            return size >= VELOX_HUGE_PAGE ? VELOX_HUGE_PAGE : VELOX_ALIGNMENT;
        /* What fits one page has one entry of the TLB already. */
        if (size > VELOX_SMALL_PAGE)
            return when == VELOX_HUGE_PAGES_ALWAYS ? VELOX_HUGE_PAGE : VELOX_ANY_PAGE;
    #endif
        (void)size; (void)when;
        return VELOX_ALIGNMENT;
    }

    static inline size_t velox_pages_size(size_t size, velox_page_choice when)
    {
        size_t unit = velox_page_unit(size, when);
        if (when == VELOX_HUGE_PAGES_AUTO || unit == VELOX_ALIGNMENT)
            return size;
        return (size + unit - 1) & ~(unit - 1);
    }

    static inline void *velox_allocate_pages(size_t size, velox_page_choice when)
    {
        void *block = NULL;
        size_t unit = velox_page_unit(size, when);
        size_t whole = velox_pages_size(size, when);
        if (posix_memalign(&block, unit, whole ? whole : 1) != 0)
            return NULL;
    #if defined(MADV_HUGEPAGE)
        /* Where the kernel refuses, the block has the pages that there are. */
        if (unit != VELOX_ALIGNMENT) {
            madvise(block, whole, unit == VELOX_HUGE_PAGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
            /* Memory that was used before has its pages already: these give way to new ones. The
               pages are the block's alone, since it is rounded to them. */
            if (when != VELOX_HUGE_PAGES_AUTO)
                madvise(block, whole, MADV_DONTNEED);
        }
    #endif
        return memset(block, 0, whole);
    }
    #define VELOX_STATIC_ASSERT(condition) _Static_assert(condition, #condition)
    #endif
    """
    # auto: a block of 2 MiB or more asks for huge pages, as it is. always: each block larger than a
    # page, rounded to whole huge ones. never: each such block asks for none.
    ctypedef enum page_choice "velox_page_choice":
        HUGE_PAGES_AUTO "VELOX_HUGE_PAGES_AUTO"
        HUGE_PAGES_ALWAYS "VELOX_HUGE_PAGES_ALWAYS"
        HUGE_PAGES_NEVER "VELOX_HUGE_PAGES_NEVER"

    size_t HUGE_PAGE "VELOX_HUGE_PAGE"

    void *allocate "velox_allocate"(size_t size) noexcept nogil
    void *allocate_pages "velox_allocate_pages"(size_t size, page_choice when) noexcept nogil
    # The size of such a block, and the pages that it asks for: HUGE_PAGE, or less.
    size_t pages_size "velox_pages_size"(size_t size, page_choice when) noexcept nogil
    size_t page_unit "velox_page_unit"(size_t size, page_choice when) noexcept nogil
    void STATIC_ASSERT "VELOX_STATIC_ASSERT"(bint condition) noexcept nogil

cdef extern from "<stdlib.h>" nogil:
    void release_memory "free"(void *block) noexcept
