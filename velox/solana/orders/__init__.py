"""Orders on their way to the chain, from the queue to their outcomes."""
