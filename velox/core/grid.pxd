"""Converts prices to ticks, and checks that they are on the grid, without a division.

A tick size is ``odd << shift``. Modulo 2**64 an odd number has an inverse. Multiplying by it maps
the multiples of `odd` to 0, 1, 2, ... in order, and all other numbers above them. A multiple of
``2**shift`` has no low bits; rotating right by `shift` moves such bits of other numbers to the top.
So one multiplication, one rotation and one comparison give both the quotient and whether it is
exact (Granlund and Montgomery, "Division by Invariant Integers using Multiplication", 1994, section
9; Warren, "Hacker's Delight", 2nd edition, section 10-17).
"""

cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint64_t


cdef struct tick_grid:
    uint64_t inverse       # of the odd part of tick_size, modulo 2**64
    uint64_t shift         # factors of two in tick_size
    uint64_t limit         # INT64_MAX // tick_size: the largest tick
    int64_t tick_size      # in 1e-4, as prices are


# C division, whatever the directives of the module that includes this file.
@cython.cdivision(True)
cdef inline void tick_grid_initialise(tick_grid *self, int64_t tick_size) noexcept nogil:
    cdef uint64_t odd = <uint64_t>tick_size
    cdef uint64_t inverse
    cdef int _step
    self.tick_size = tick_size
    self.limit = <uint64_t>INT64_MAX // odd
    self.shift = 0
    while not odd & 1:
        odd >>= 1
        self.shift += 1
    # odd * odd = 1 modulo 8, and each step of Newton's doubles the bits: 3, 6, 12, 24, 48, 96.
    inverse = odd
    for _step in range(5):
        inverse *= 2 - odd * inverse
    self.inverse = inverse


cdef inline uint64_t tick_grid_divide(const tick_grid *self, int64_t price) noexcept nogil:
    """The tick of a price that is positive and on the grid; for others see `tick_grid_holds`."""
    cdef uint64_t quotient = <uint64_t>price * self.inverse
    return quotient >> self.shift | quotient << (-self.shift & 63)


cdef inline bint tick_grid_holds(const tick_grid *self, uint64_t tick) noexcept nogil:
    """Whether what `tick_grid_divide` returned is the tick of a positive price on the grid.

    The mapping of prices to quotients is one to one. So only the multiples of `tick_size` up to
    INT64_MAX have ticks up to `limit`. A negative price lies above `limit`, as one off the grid
    does. The subtraction moves 0 above it too.
    """
    return tick - 1 < self.limit
