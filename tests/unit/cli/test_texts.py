"""What the command line says: help texts and messages of short sentences, settings defined once."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import velox
from velox.cli.options import option_of
from velox.cli.parser import COMMANDS, parsers
from velox.config import PipelineConfig

PACKAGE = Path(velox.__file__).parent
PAGE = Path(__file__).resolve().parents[3] / "docs" / "settings.py"
LONGEST = 35
# Calls whose texts a person reads.
SPEAKS = re.compile(r"(Error|warn|complain|say)$")
RAISED = re.compile(r"^ *raise \w+\((.*?)\)$", re.DOTALL | re.MULTILINE)
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def long_sentences(text: str) -> list[str]:
    return [
        sentence
        for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", text)
        if len(re.findall(r"\w\S*", sentence)) > LONGEST
    ]


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    yield from (each for each in parser._actions if each.option_strings or each.help)


def messages(path: Path) -> Iterator[str]:
    """Yield the texts that a module raises, prints or warns; a value in a text is one word."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        for raised in RAISED.findall(re.sub(r'""".*?"""', "", source, flags=re.DOTALL)):
            yield re.sub(r"{[^}]*}", "X", "".join(QUOTED.findall(raised)))
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and SPEAKS.search(ast.unparse(node.func)):
            for each in node.args:
                yield text_of(each)


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        parts = (text_of(each) if isinstance(each, ast.Constant) else "X" for each in node.values)
        return "".join(parts)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return ""


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_text_has_a_sentence_of_more_than_35_words(name: str) -> None:
    found: list[str] = []
    for parser in parsers(name):
        found += long_sentences(parser.description or "")
        for action in actions(parser):
            # A choice and its meaning are an entry of a list, not a part of the sentence.
            text = re.sub(r" [\w.]+ \([^)]*\)[,;]?", "", action.help or "")
            found += [f"{parser.prog} {action.dest}: {each}" for each in long_sentences(text)]
    assert found == []


def test_no_message_has_a_sentence_of_more_than_35_words() -> None:
    modules = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".in")]
    texts = [(path, text) for path in modules for text in messages(path)]
    assert len(texts) > 500
    assert [(str(path), each) for path, text in texts for each in long_sentences(text)] == []


def test_a_long_sentence_is_found_in_python_and_in_cython(tmp_path: Path) -> None:
    words = "word " * 20
    source = f'raise ConfigError(f"{words}" f"{{value}} {words}")\n'
    for name in ("a.py", "a.pyx"):
        path = tmp_path / name
        path.write_text(source)
        [text] = messages(path)
        assert len(long_sentences(text)) == 1
        assert "value" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name: str) -> None:
    _, asked = parsers(name)
    for action in actions(asked):
        assert action.help


def test_every_setting_is_an_option_of_a_run_with_its_default_in_the_help() -> None:
    _, run = parsers("run")
    options = {action.dest: action for action in run._actions}
    for name, setting in PipelineConfig.settings().items():
        action = options[name]
        assert action.option_strings == [option_of(name)]
        assert setting.help in (action.help or "")
        assert action.default is None
        if setting.choices:
            assert f"(default: {setting.default_text})" in (action.help or "")


def test_a_replay_has_every_setting_but_the_lanes() -> None:
    _, replay = parsers("replay")
    missing = set(PipelineConfig.settings()) - {action.dest for action in replay._actions}
    assert missing == {"lanes"}


def test_the_table_of_settings_is_made_from_their_definitions() -> None:
    spec = importlib.util.spec_from_file_location("velox_docs_settings", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "python -m docs.settings"
