"""The command line: it turns options into a run of a `Pipeline`, and prints the report.

It decides nothing itself. `velox.config`, the ingresses and the feeds check what an option means.
This package turns text into their arguments, and their errors into one line.
"""

from velox.cli.main import main

__all__ = ["main"]
