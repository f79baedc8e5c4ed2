"""Orders on their way to the chain: the queue, working orders, what is in in_flight, outcomes."""
