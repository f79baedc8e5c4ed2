"""What asv tracks from commit to commit, in ns an operation."""
