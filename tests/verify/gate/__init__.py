"""Orders by the hundred million through the risk gate, with an independent sum behind it."""
