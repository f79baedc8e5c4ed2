"""Orders on their way to the chain: the queue, working orders, transactions in flight, and
outcomes."""
