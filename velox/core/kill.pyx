"""The kill switch, which blocks every order until a person arms it again."""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memset

from velox.core.atomic cimport load_acquire, load_relaxed, store_release
from velox.core.memory cimport STATIC_ASSERT, allocate, release_memory

from velox.errors import ConfigError

__all__ = ["KillSwitch"]

cdef uint64_t MAGIC = 0x314C4B584F4C4556        # "VELOXKL1"


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(kill_switch) == KILL_BYTES)
    STATIC_ASSERT(<size_t>&(<kill_switch *>NULL).state == 8)
    STATIC_ASSERT(<size_t>&(<kill_switch *>NULL).why == KILL_WHY)


assert_layout()


@cython.final
cdef class KillSwitch:
    """Blocks every order once it is set. Cancels pass all the same.

    Parameters
    ----------
    memory : writable buffer of 256 bytes, optional
        Where the switch lies, such as a mapped file that other processes map too. Zeros become a
        new switch that is armed. Memory of its own, if not given.

    Raises
    ------
    ConfigError
        The memory is too small, read-only, not aligned to 8 bytes, or holds something else.

    Notes
    -----
    Thread-safety: any thread of any process may set and read it. Anything but the one word that
    means "armed" blocks. `velox.runtime.kill_file` keeps a switch in a file.

    Examples
    --------
    >>> switch = KillSwitch()
    >>> switch.kill("a test"), switch.kill("another"), switch.killed, switch.why
    (True, False, True, 'a test')
    >>> switch.arm("Ada")
    True
    """

    def __cinit__(self, memory=None, *, path=None):
        self.path = path
        if memory is None:
            self.word = <kill_switch *>allocate(sizeof(kill_switch))
            if self.word == NULL:
                raise MemoryError("no memory for a kill switch")
        else:
            try:
                PyObject_GetBuffer(memory, &self.view, PyBUF_WRITABLE)
            except (BufferError, TypeError) as error:
                raise ConfigError(str(error), field="memory") from None
            self.is_borrowed = True
            if self.view.len < KILL_BYTES or <uintptr_t>self.view.buf & 7:
                raise ConfigError(
                    f"must be {KILL_BYTES} bytes, aligned to 8", field="memory",
                    value=self.view.len)
            self.word = <kill_switch *>self.view.buf
        if self.word.magic == 0 and load_acquire(&self.word.state) == 0:
            # Release: who finds the state armed finds the rest of the switch.
            self.word.magic = MAGIC
            store_release(&self.word.state, KILL_ARMED)
        elif self.word.magic != MAGIC:
            raise ConfigError("does not hold a kill switch", field="memory")

    def __dealloc__(self):
        if self.is_borrowed:
            PyBuffer_Release(&self.view)
        else:
            release_memory(self.word)

    cdef void explain(self, str why):
        cdef bytes text = why.encode("utf-8", "replace")[:KILL_BYTES - KILL_WHY - 1]
        memset(self.word.why, 0, KILL_BYTES - KILL_WHY)
        memcpy(self.word.why, <const char *>text, len(text))

    def kill(self, why=""):
        """Block every order from now on.

        Parameters
        ----------
        why : str
            For the person who arms it again. Cut to 191 bytes.

        Returns
        -------
        bool
            Whether orders were not blocked before.
        """
        if not kill_set(self.word):
            return False
        self.explain(str(why))
        return True

    def arm(self, person):
        """Let orders pass again. Velox never calls this: a person does.

        Parameters
        ----------
        person : str
            Who arms it, not empty.

        Returns
        -------
        bool
            Whether the switch was set, and nobody set it again meanwhile.

        Raises
        ------
        ConfigError
            `person` is empty.
        """
        if not isinstance(person, str) or not person.strip():
            raise ConfigError("must name who arms the switch", field="person", value=person)
        cdef uint64_t seen = load_relaxed(&self.word.state)
        if seen == KILL_ARMED or not kill_arm(self.word, seen):
            return False
        self.explain(f"armed by {person}")
        return True

    @property
    def killed(self):
        """bool: Whether every order is blocked."""
        return not kill_armed(self.word)

    @property
    def why(self):
        """str: Who set or armed it last, or an empty string."""
        # Acquire: the state comes with what was written before it.
        load_acquire(&self.word.state)
        return bytes(self.word.why[:KILL_BYTES - KILL_WHY]).split(b"\0")[0].decode(
            "utf-8", "replace")

    def __repr__(self):
        return f"<KillSwitch {'killed' if self.killed else 'armed'}>"
