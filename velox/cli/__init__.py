"""The command line: options in, a `Pipeline` run, a report out.

Nothing is decided here. `velox.config`, the ingresses and the feeds check what an option means.
This package turns text into their arguments, and their errors into one line.
"""

from velox.cli.main import main

__all__ = ["main"]
