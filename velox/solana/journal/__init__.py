"""The journal: signed transactions, written to disk before they are sent."""
