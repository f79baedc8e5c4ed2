"""Strategies that a table of random writes and reads drives, against a model of what must leave."""
