"""Writes the table of settings: ``python -m docs.settings`` makes ``reference/settings.md``.

The table is made from the definitions in `velox.config`, as the options and their help are.
"""

from __future__ import annotations

from pathlib import Path

from velox.cli.options import option_of
from velox.config import PipelineConfig, Setting

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).resolve().parent / "reference" / "settings.md"
HEAD = (
    "# Settings\n\n"
    "Each setting of a pipeline is a field of `PipelineConfig`. It is also an option of "
    "`velox run` and `velox replay`, except that `--lanes` is an option of `run` alone. "
    "The table is made from the definitions in `velox/config.py` by `python -m docs.settings`.\n\n"
    "| setting | option | default | takes | what it sets |\n"
    "|---|---|---|---|---|\n"
)


def takes(setting: Setting) -> str:
    """Return the values that a setting takes, as a cell of the table."""
    if setting.choices:
        return "<br>".join(f"`{word}`: {meaning}" for word, meaning in setting.choices.items())
    if setting.name == "cpus":
        return "CPU numbers, each once"
    return setting.allowed + (f", in {setting.unit}" if setting.unit else "")


def row(setting: Setting) -> str:
    """Return a setting's row of the table."""
    default = setting.absent if setting.default is None else f"`{setting.default}`"
    about = f"{setting.help[0].upper()}{setting.help[1:]}. {setting.notes}".strip()
    option = f"`{option_of(setting.name)}`"
    cells = (f"`{setting.name}`", option, default, takes(setting), about)
    return f"| {' | '.join(cells)} |\n"


def page() -> str:
    """Return the page."""
    return HEAD + "".join(map(row, PipelineConfig.settings().values()))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
