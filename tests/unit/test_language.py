"""Plain English, as far as a machine can read it: docstrings of every package, and of the tests."""

import ast
import re
from pathlib import Path

import pytest

from shared.storage.migrate import ROOT

#: A free relative clause at the start hides the subject: "What is told …", "Whoever waits …", "Of those …".
FREE_RELATIVE = re.compile(r"\W*(What|Whoever|Who|One that|Of |That |Whether|So |Where|How )")
MOST_FREE_RELATIVES = 0.03
MOST_SEMICOLONS = 0.003
PACKAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "shared", ROOT / "embedded", ROOT / "tests", *(ROOT / "services").glob("*/"))
    if path.is_dir() and path.name != "__pycache__"
)

every_package = pytest.mark.parametrize("package", PACKAGES)


def docstrings(package: str) -> str:
    """All docstrings of a package, code in them replaced by X; migrations are frozen and left out."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        if "migrations" not in path.parts:
            found += docstrings_of(path)
    return "\n".join(found)


def docstrings_of(path: Path) -> list[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    return [re.sub(r"`[^`]*`", "X", text.rstrip(".") + ".") for text in texts if text]


def sentences(text: str) -> list[str]:
    return [each for each in re.split(r"(?<=[.!?])\s+", text) if len(re.findall(r"[A-Za-z]+", each)) > 3]


@every_package
def test_a_sentence_of_a_docstring_opens_with_its_subject(package: str) -> None:
    """At most 3 % of a package's sentences open with a free relative clause."""
    found = sentences(docstrings(package))
    hidden = [each for each in found if FREE_RELATIVE.match(each)]
    assert len(hidden) <= MOST_FREE_RELATIVES * len(found), "\n".join(hidden)


@every_package
def test_a_docstring_ends_a_thought_with_a_full_stop(package: str) -> None:
    """At most 3 semicolons in 1,000 words of a package's docstrings."""
    text = docstrings(package)
    words = len(re.findall(r"[A-Za-z']+", text))
    assert text.count(";") <= MOST_SEMICOLONS * words


@pytest.mark.parametrize(
    ("sentence", "hidden"),
    [
        ("What is told of a run is a row.", True),
        ("Whoever waits is woken.", True),
        ("Of those one is sent.", True),
        ("The relay publishes what waits in the outbox.", False),
        ("Return what is known.", False),
    ],
)
def test_a_free_relative_is_found_at_the_start_of_a_sentence_only(sentence: str, *, hidden: bool) -> None:
    """The rule itself, on sentences of both kinds."""
    assert bool(FREE_RELATIVE.match(sentence)) == hidden
