"""Markets on the chain, one folder a venue."""
