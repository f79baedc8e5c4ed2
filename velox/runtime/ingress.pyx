"""The interface of an ingress, through which records enter a pipeline.

`Ingress` is the base of every source. A pipeline uses only the attributes and methods of this
class, so a new source needs no change of the pipeline. The sources that Velox brings are in
`velox.runtime.sources`.
"""

from velox.core.atomic cimport load_relaxed
from velox.core.memory cimport allocate, release_memory

from velox.errors import PipelineError

__all__ = ["Ingress"]


cdef class Ingress(Stage):
    """The base of every source of records.

    A source is either driven by a runner, or fed by Python code. A driven one is written in Cython:
    it sets `stage.do_work`, see ``velox/runtime/ingress.pxd``. The other kind is a
    `velox.PushIngress`, or a Python subclass of that.

    Attributes
    ----------
    driven : bool
        A runner calls the ingress. If False, Python code pushes the records, and the pipeline calls
        `close` when it stops.
    default_on_full : {"block", "drop"}
        What ``on_full=None`` of a `PipelineConfig` means for this ingress.
    endless : bool
        Every record is due at once, without end. A virtual clock then never advances, so the
        pipeline refuses to run such an ingress on one for a duration.
    instruments : tuple of Instrument
        The markets whose tick size the source knows; empty if it knows none. The pipeline makes a
        book of ``PipelineConfig.levels`` for each.
    recorded : ndarray or None
        Every record of one pass, for a source that has them before the start. The pipeline derives
        from it what `instruments` does not say.
    pass_length : int
        Records from the start of one pass to the start of the next; 0 if nothing is recorded.
    late : LatencyHistogram
        From due to pushed, in ns. It shows how late the host and the ingress were.
    ring : TransactionRing or None
        The ring that it pushes to, once a pipeline has taken it.

    Notes
    -----
    Thread-safety: the counters may be read from any thread. The pipeline calls everything else.
    """

    driven = True
    default_on_full = "block"
    endless = False
    instruments = ()
    recorded = None
    pass_length = 0

    def __cinit__(self, *args, **kwargs):
        self.name = "ingress"
        self.kept = []
        self.late = LatencyHistogram()
        # A subclass with a larger struct allocates that in place of this one.
        self.make(sizeof(ingress))

    cdef int make(self, size_t size) except -1:
        """Allocate `size` bytes for the struct, which begins with an `ingress`."""
        release_memory(self.ingress)
        self.ingress = <ingress *>allocate(size)
        if self.ingress == NULL:
            raise MemoryError("no memory for an ingress")
        self.ingress.stage = &self.stage
        self.ingress.late = self.late.histogram
        return 0

    def __dealloc__(self):
        release_memory(self.ingress)

    def attach(self, TransactionRing ring not None, Clock clock not None,
               Control control not None, *, name="ingress", on_full=None, batch=256):
        """Join a pipeline.

        Parameters
        ----------
        ring : TransactionRing
            The ring to push to.
        clock : Clock
        control : Control
            The pipeline's stop flag.
        name : str
            The stage's name.
        on_full : {"block", "drop"}, optional
            What to do when the ring is full; `default_on_full` if not given.
        batch : int
            The most records that one call of `do_work` pushes.

        Raises
        ------
        PipelineError
            The ingress already belongs to a pipeline, or it is driven and has no `do_work`.
        """
        if self.ring is not None:
            raise PipelineError(f"this {type(self).__name__} already belongs to a pipeline")
        if self.driven and self.stage.do_work == NULL:
            raise PipelineError(
                f"{type(self).__name__} has no do_work: a runner calls C, not Python. "
                "Use a PushIngress for records that Python pushes")
        ring.attach_producer()
        self.name = name
        self.ring = ring
        self.clock = clock
        self.control = control
        self.ingress.ring = ring.ring
        self.ingress.clock = clock.clock
        self.ingress.control = control.control
        self.ingress.batch = batch
        self.ingress.drop = (on_full or self.default_on_full) == "drop"

    def close(self):
        """End an ingress that Python feeds.

        Does nothing for a driven ingress, which ends by itself.
        """

    def middle_price(self, market):
        """Return the price around which the records of a market lie.

        Parameters
        ----------
        market : int

        Returns
        -------
        int or None
            In 1e-4; None if the source does not know. A shared book centres its window there.
        """
        return None

    @property
    def generated(self):
        """int: Records that the source has made or read: pushed or dropped."""
        return load_relaxed(&self.ingress.generated)

    @property
    def pushed(self):
        """int: Records that entered the ring."""
        return load_relaxed(&self.ingress.pushed)

    @property
    def dropped(self):
        """int: Records dropped because the ring had no room."""
        return load_relaxed(&self.ingress.dropped)

    @property
    def late_count(self):
        """int: Records pushed more than 1 µs after they were due."""
        return load_relaxed(&self.ingress.late_count)

    @property
    def behind_ns(self):
        """int: How far behind its schedule the ingress ended, in ns; 0 if it has no schedule."""
        return 0
