"""The parts of a pipeline, without threads: records, rings, order book, bundle builder, clock and
histogram."""
