"""The journal: what was signed, written to disk before it is sent."""
