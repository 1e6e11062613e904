"""The catalogs: nothing that a person reads lacks its translation, and no translation lost a {field}."""

from __future__ import annotations

import ast
import gettext
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trtverify.fixtures.words import columns, messages
from trtverify.fixtures.words.messages import _, use_language
from trtverify.fixtures.words.verdict import Cause

pytest.importorskip("babel", reason="catalogs are read with Babel: pip install babel")
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parents[3]
CATALOG = messages.LOCALE / "zh_TW" / "LC_MESSAGES" / "verify.po"
PARTS = [*(ROOT / "fixtures").rglob("*.py"), *(ROOT / "grading").rglob("*.py"), *(ROOT / "tests").glob("*.py")]
SOURCES = sorted([ROOT / "conftest.py", *PARTS])


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    yield
    use_language("en")


def extracted() -> set[str]:
    """Every message in the sources and the templates."""
    with (messages.LOCALE / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file, "babel.cfg")  # type: ignore[no-untyped-call]
    found = extract_from_dir(str(ROOT), methods, options)
    return {message if isinstance(message, str) else message[0] for _file, _line, message, *_rest in found}


def translated() -> dict[str, str]:
    """What the catalog says."""
    with CATALOG.open("rb") as file:
        catalog = read_po(file, locale="zh_TW")
    assert not [message.id for message in catalog if message.id and message.fuzzy]
    assert not catalog.obsolete
    return {str(message.id): str(message.string) for message in catalog if message.id}


def fields(text: str) -> list[tuple[str, str, str]]:
    """The {fields} of a message, with format and conversion, in any order."""
    return sorted((name, spec or "", how or "") for _text, name, spec, how in string.Formatter().parse(text) if name)


def test_every_message_has_its_translation() -> None:
    """As many, the same, and none empty. If this fails: make messages, then fill in what is empty."""
    catalog = translated()
    assert extracted() - catalog.keys() == set(), "not in the catalog"
    assert catalog.keys() - extracted() == set(), "no longer in the sources"
    assert [message for message, text in catalog.items() if not text.strip()] == []


def test_every_translation_keeps_the_fields() -> None:
    """A field that is lost, misspelt or formatted otherwise would raise, or hide what was found."""
    braces = "torch.onnx.export"  # what such a message says to type holds braces that are no fields
    for message, text in translated().items():
        if f"{braces}" not in message:
            assert fields(message) == fields(text), message


def test_translations_are_chinese() -> None:
    """What holds words of a sentence holds Chinese; commands, units and names may stay as they are."""
    for message, text in translated().items():
        columns = [word for word in message.split() if word.isalpha() and word.islower() and len(word) > 2]
        if len(columns) > 2 and not message.startswith("polygraphy "):
            assert any("\u4e00" <= character <= "\u9fff" for character in text), message


def test_compiled_catalog_is_this_one() -> None:
    """The .mo that is read at run time says what the .po says. If this fails: make messages."""
    with CATALOG.with_suffix(".mo").open("rb") as file:
        compiled: dict[str, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    assert {message: text for message, text in compiled.items() if message} == translated()


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_literals_are_translated(path: Path) -> None:
    """A message put together before `_` would never be found by extraction, nor in the catalog."""
    for call in _calls(ast.parse(path.read_text(encoding="utf-8"))):
        literal = len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
        assert literal, f"line {call.lineno}"


def _spoken(tree: ast.AST) -> Iterator[ast.expr]:
    """What is given to an exception that is raised, printed, or put into a finding or a command line's help."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from node.exc.args
        if isinstance(node, ast.Call):
            named = isinstance(node.func, ast.Name) and node.func.id in {"print", "not_gradable", "inconclusive"}
            yield from node.args if named else ()
            yield from (word.value for word in node.keywords if word.arg in {"help", "expected", "found", "look"})


def _untranslated(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from _untranslated(child)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences_are_translated(path: Path) -> None:
    """No two words of a sentence that is raised, printed or reported stand outside `_`."""
    spoken = _spoken(ast.parse(path.read_text(encoding="utf-8")))
    found = [text for expression in spoken for text in _untranslated(expression)]
    assert [text for text in found if re.search(r"[A-Za-z]{2,}[,;:]? [a-z]{2,}", text)] == []


def test_every_cause_has_its_words() -> None:
    """None that the tests may give is called by its English name in another language."""
    assert columns.cause_words().keys() == {cause.value for cause in Cause}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("not gradable: backend missing: pip: x", "無法評分: 缺少後端: pip: x"),
        ("not gradable: of its own", "無法評分: of its own"),
        ("inconclusive: 1.5×: x", "無法判定: 1.5×: x"),
        ("expected: 1\nfound: 2", "expected: 1\nfound: 2"),
        ("", ""),
    ],
)
def test_verdicts_before_messages_are_translated(message: str, expected: str) -> None:
    """They are kept in English, which other programs read, and shown in the reader's language."""
    use_language("zh-TW")
    assert columns.in_words(message) == expected
    use_language("en")
    assert columns.in_words(message) == message


def test_language_is_chosen() -> None:
    """By name, and back again."""
    use_language("zh-TW")
    assert (_("speedup"), messages.language()) == ("加速", "zh-TW")
    use_language("en")
    assert (_("speedup"), messages.language()) == ("speedup", "en")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "zh_TW.UTF-8"}, "zh-TW"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8", "LANGUAGE": "zh_TW"}, "zh-TW"),
        ({}, "en"),
    ],
)
def test_language_of_the_locale(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    """Without a choice, the locale's, and English where there is no catalog for it."""
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    use_language(None)
    assert messages.language() == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--lang", "zh-TW"], "zh-TW"),
        (["-q", "--lang=zh-TW", "x"], "zh-TW"),
        (["--lang=fr"], None),
        (["--lang"], None),
        (["--language=zh-TW"], None),
    ],
)
def test_language_asked_for(arguments: list[str], expected: str | None) -> None:
    """The option is found before any other is known."""
    assert messages.asked(arguments) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["-m", "pytest", "--help", "--lang=zh-TW"], "驗證 DIR 中的成品"),
        (["-m", "trtverify", "report", "--help", "--lang=zh-TW"], "並列成一頁"),
        (["-m", "pytest", "--doctor", "--lang=zh-TW"], "此機器"),
        (["-m", "trtverify", "grading", "run", "--help", "--lang=zh-TW"], "存放結果的資料夾"),
        (["-m", "trtverify", "grading", "--lang=zh-TW", "--help"], "為一個班級評分"),
    ],
)
def test_help_is_translated(command: list[str], expected: str) -> None:
    """The command line's own help speaks the language that is asked for on it."""
    done: Any = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert expected in done.stdout
