"""The interface of an output, through which bundles leave a pipeline.

`Output` is the base of every sink. A pipeline uses only the attributes and methods of this class,
so a new sink needs no change of the pipeline. The sinks that Velox brings are in
`velox.runtime.sinks`.
"""

from velox.core.atomic cimport load_relaxed
from velox.core.memory cimport allocate, release_memory

from velox.errors import PipelineError

__all__ = ["Output"]


cdef class Output(Stage):
    """The base of every sink of bundles.

    A sink is either driven by a runner, or polled by Python code. A driven one is written in
    Cython: it sets `stage.do_work`, see ``velox/runtime/output.pxd``. The other kind is a
    `velox.PullOutput`, or a Python subclass of that.

    Attributes
    ----------
    driven : bool
        A runner calls the output. If False, Python code polls it, and the pipeline calls `drain`
        when it stops.
    delivery : LatencyHistogram
        From sealed to taken by the output, in ns, one value a bundle.
    total : LatencyHistogram
        From due to taken by the output, in ns, one value a record.
    ring : BundleRing or None
        The ring that it takes from, once a pipeline has taken it.
    instruments : tuple of Instrument
        The markets of the records; the pipeline sets it before the start.
    follower : Stage or None
        A stage for the thread that seals the bundles, behind the stage that does so. It is there
        once a pipeline has taken the output, and moves nothing.

    Notes
    -----
    Thread-safety: the counters may be read from any thread. The pipeline calls everything else.
    """

    driven = True

    def __cinit__(self, *args, **kwargs):
        self.name = "output"
        self.kept = []
        self.instruments = ()
        self.follower = None
        self.delivery = LatencyHistogram()
        self.total = LatencyHistogram()
        # A subclass with a larger struct allocates that in place of this one.
        self.make(sizeof(output))

    cdef int make(self, size_t size) except -1:
        """Allocate `size` bytes for the struct, which begins with an `output`."""
        release_memory(self.output)
        self.output = <output *>allocate(size)
        if self.output == NULL:
            raise MemoryError("no memory for an output")
        self.output.stage = &self.stage
        self.output.delivery = self.delivery.histogram
        self.output.total = self.total.histogram
        return 0

    def __dealloc__(self):
        release_memory(self.output)

    def attach(self, BundleRing ring not None, Clock clock not None, Control control not None, *,
               batch=256):
        """Join a pipeline.

        Parameters
        ----------
        ring : BundleRing
            The ring to take from.
        clock : Clock
        control : Control
            The pipeline's stop flag.
        batch : int
            The most bundles that one call of `do_work` takes.

        Raises
        ------
        PipelineError
            The output already belongs to a pipeline, or it is driven and has no `do_work`.
        """
        if self.ring is not None:
            raise PipelineError(f"this {type(self).__name__} already belongs to a pipeline")
        if self.driven and self.stage.do_work == NULL:
            raise PipelineError(
                f"{type(self).__name__} has no do_work: a runner calls C, not Python. "
                "Use a PullOutput for bundles that Python polls")
        ring.attach_consumer()
        self.ring = ring
        self.clock = clock
        self.control = control
        self.output.ring = ring.ring
        self.output.clock = clock.clock
        self.output.control = control.control
        self.output.batch = batch

    def drain(self):
        """Take the remaining bundles from the ring when the pipeline stops, if Python polls.

        Returns
        -------
        bool
            Whether nothing more will come. A driven output returns True: its runner drains it.
        """
        return True

    @property
    def delivered_bundles(self):
        """int: Bundles that the output has taken."""
        return load_relaxed(&self.output.delivered_bundles)

    @property
    def delivered_transactions(self):
        """int: Records in the bundles that the output has taken."""
        return load_relaxed(&self.output.delivered_transactions)

    @property
    def undelivered_bundles(self):
        """int: Bundles that the output discarded after it had failed."""
        return load_relaxed(&self.output.undelivered_bundles)

    @property
    def undelivered_transactions(self):
        """int: Records in the bundles that the output discarded."""
        return load_relaxed(&self.output.undelivered_transactions)
