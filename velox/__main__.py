"""``python -m velox`` and the ``velox`` command."""

import sys


def main() -> int:
    """Run the command line; returns its exit status."""
    try:
        # Imported here, so that a missing build is reported in one line.
        from velox.cli import main as command_line  # noqa: PLC0415

        # A command loads what it needs when it runs.
        return command_line()
    except KeyboardInterrupt:
        # This happens only before a command starts or after it ends. `Signals` handles Ctrl-C while
        # a command runs.
        return 130
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("velox."):
            raise
        print(
            f"velox: error: {error.name} is not built: run 'pip install -e .' in the repository",
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
