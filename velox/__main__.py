"""``python -m velox`` and the ``velox`` command."""

import sys


def main() -> int:
    """Run the command line; returns its exit status."""
    try:
        # Here, so that a build that is missing is told in one line.
        from velox.cli import main as command_line  # noqa: PLC0415

        # A command loads what it needs when it is asked for.
        return command_line()
    except KeyboardInterrupt:
        # Nothing has begun yet, or nothing is left to do: between them it is only noted.
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
