"""What a model says to the checker; the words are explained in ``runtime/model.h``."""

from libc.stdint cimport uint64_t

cdef extern from "model.h" nogil:
    ctypedef void (*model_body)(void *state) noexcept nogil
    void *model_allocate(size_t size) noexcept
    void model_name(const void *address, const char *name) noexcept
    void model_thread(const char *name, model_body body, void *state) noexcept
    void model_finish(model_body check, void *state) noexcept
    void check "model_check"(bint condition, const char *claim) noexcept
    void outcome "model_outcome"(uint64_t value) noexcept
    void wait "model_wait"() noexcept
