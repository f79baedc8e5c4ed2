"""Records, rings, order book, bundle builder, clock and histogram: the parts, without threads."""
