"""``python -m velox`` and the ``velox`` command."""

import sys


def main() -> int:
    """Run the command line; returns its exit status."""
    try:
        # Here, so that a build that is missing is told in one line.
        from velox.cli import main as command_line  # noqa: PLC0415
    except KeyboardInterrupt:
        # Nothing has begun yet.
        return 130
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("velox."):
            raise
        print(
            f"velox: error: {error.name} is not built: run 'pip install -e .' in the repository",
            file=sys.stderr,
        )
        return 2
    return command_line()


if __name__ == "__main__":
    sys.exit(main())
