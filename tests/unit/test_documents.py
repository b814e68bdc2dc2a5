"""The documents are short, written in plain English, and name what exists."""

import re
import shlex
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

from services.gateway.app import ENDPOINTS
from shared.storage.migrate import ROOT
from tests.unit.test_language import FREE_RELATIVE, MOST_FREE_RELATIVES, sentences

README_LINES = 120
ARCHITECTURE_WORDS = 2_000
DECISION_WORDS = 250
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "tests" / "differential" / "README.md",
    ROOT / "services" / "marketdata" / "data" / "SOURCE.md",
]
#: The changelog also names commands and settings of earlier versions.
CURRENT = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]
#: The folders of the repository that a path in backticks begins with.
FOLDERS = r"(?:bench|config|deploy|docs|embedded|services|shared|tests|\.ci)"
#: A path without a part that stands for another, such as ``services/<name>/jobs.py``.
REPOSITORY_PATH = re.compile(rf"{FOLDERS}(?:/[\w.-]+)*/?")
#: Files that a command writes.
WRITTEN = re.compile(r"bench/out/")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def words(document: Path) -> int:
    return len(document.read_text().split())


def code_spans(text: str) -> list[str]:
    """The inline code of a document, without its fenced blocks."""
    return re.findall(r"`([^`\n]+)`", without_blocks(text))


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """The sentences of a document: no code, no headings, a table's cells and a list's items each for itself."""
    plain = re.sub(r"`[^`\n]*`", "X", without_blocks(text))
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain)
    lines = []
    for line in plain.splitlines():
        if line.startswith("|"):
            lines += [f"{cell.strip().rstrip('.')}." for cell in line.strip("|").split("|") if cell.strip(" -")]
        elif not line.startswith("#"):
            lines.append(re.sub(r"^\s*(?:[-*]|\d+\.) ", ". ", line).replace("**", "") or ". ")
    return "\n".join(lines)


@cache
def targets() -> frozenset[str]:
    makefile = (ROOT / "Makefile").read_text()
    benches = {f"bench-{path.stem.removeprefix('bench_')}" for path in (ROOT / "bench").glob("bench_*.py")}
    return frozenset({*re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE), *benches})


def named_targets(text: str) -> set[str]:
    """The targets of every ``make`` in code; NAME stands for that of any benchmark."""
    lines = [*code_spans(text), *(line for block in blocks(text, "sh") for line in block.splitlines())]
    found: set[str] = set()
    for line in lines:
        command = shlex.split(line.partition("#")[0]) if "make" in line else []
        if "make" in command:
            arguments = command[command.index("make") + 1 :]
            found |= {each for each in arguments if "=" not in each and each != "bench-NAME"}
    return found


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_the_architecture_is_read_in_ten_minutes() -> None:
    assert words(ROOT / "ARCHITECTURE.md") <= ARCHITECTURE_WORDS


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_one_short_page_that_the_index_names(page: Path) -> None:
    assert words(page) <= DECISION_WORDS
    assert re.findall(r"^## (.*)", page.read_text(), re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert f"({page.name})" in (page.parent / "README.md").read_text()


@every_document
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", without_blocks(document.read_text()))
    here = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in here if not (document.parent / link).exists()] == []


@every_document
def test_every_path_in_backticks_exists(document: Path) -> None:
    """From the root of the repository, or from the document's own folder."""
    paths = [span for span in code_spans(document.read_text()) if REPOSITORY_PATH.fullmatch(span)]
    kept = [path for path in paths if not WRITTEN.match(path)]
    assert [path for path in kept if not (ROOT / path).exists() and not (document.parent / path).exists()] == []


@every_document
def test_every_make_target_exists(document: Path) -> None:
    assert named_targets(document.read_text()) - targets() == set()


@every_document
def test_every_route_in_backticks_exists(document: Path) -> None:
    """A method and a path of the HTTP surface, such as ``GET /api/jobs/status``."""
    known = {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS} | {
        ("GET", path) for path in ("/healthz", "/livez", "/readyz", "/metrics")
    }
    named = re.findall(r"`([A-Z]+) (/[^`?\s]*)[^`]*`", " ".join(document.read_text().split()))
    assert set(named) - known == set()


@pytest.mark.parametrize("document", CURRENT, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_of_a_command_exists(document: Path) -> None:
    """``python -m shared.broker_setup`` runs a file, and ``python -m embedded`` a folder with ``__main__``."""
    modules = re.findall(r"python -m ([a-z_.]+)", document.read_text())
    files = [ROOT / module.replace(".", "/") for module in modules]
    missing = [file for file in files if not file.with_suffix(".py").exists() and not (file / "__main__.py").exists()]
    assert missing == []


def test_every_setting_of_the_documents_exists() -> None:
    """A variable in a document is one that code, the Makefile or compose reads."""
    sources = ["git", "grep", "-hoE", r"\b[A-Z]+_?[A-Z_]*\b|\b[a-z_]+:", "--", "*.py", "Makefile", "*.yml", "deploy"]
    read = set(subprocess.run(sources, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    fields = {field.rstrip(":").upper() for field in read if field.endswith(":")}
    known = {name for name in read if not name.endswith(":")}
    own = ("ORDERS_", "POLL_", "YAHOO_", "ALPHAVANTAGE_", "ALPACA_", "")
    prefixes = [f"PAPERPROFIT_{each}" for each in own]
    named = {name for document in CURRENT for name in re.findall(r"\bPAPERPROFIT_[A-Z_]+\b", document.read_text())}
    unknown = {
        name
        for name in named - known
        if not any(name.startswith(prefix) and name.removeprefix(prefix) in fields for prefix in prefixes)
    }
    assert unknown == set()


@every_document
def test_a_sentence_of_a_document_opens_with_its_subject(document: Path) -> None:
    """At most 3 % open with a free relative clause."""
    found = sentences(prose(document.read_text()))
    hidden = [each for each in found if FREE_RELATIVE.match(each)]
    assert len(hidden) <= MOST_FREE_RELATIVES * len(found), "\n".join(hidden)


def test_the_versions_of_the_libraries_are_those_that_are_locked() -> None:
    """``docs/dependencies.md`` names each direct dependency with its version."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    locked = {package["name"]: package.get("version") for package in lock["package"]}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"].values()
    wanted = {re.split(r"[\[><=;]", each)[0].strip() for group in groups for each in group if isinstance(each, str)}
    rows = re.findall(r"^\| ([\w, -]+) \| ([\d., post]+) \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
    told: dict[str, str] = {}
    for names, versions in rows:
        each = versions.split(", ")
        told |= dict(zip(names.split(", "), each * (len(names.split(", ")) if len(each) == 1 else 1), strict=True))
    assert {name: told.get(name) for name in wanted} == {name: locked[name] for name in wanted}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Run `make test ARGS=x` or `make nothing`.", {"test", "nothing"}),
        ("```sh\nmake up      # starts\nPORT=1 make run\n```", {"up", "run"}),
        ("`make` and `make bench-NAME`", set()),
    ],
)
def test_the_targets_are_found_in_spans_and_blocks(text: str, found: set[str]) -> None:
    """The rule itself."""
    assert named_targets(text) == found


@pytest.mark.parametrize(
    ("text", "count"),
    [("- What is told of it is a row.\n- The relay publishes it.", 1), ("| a | Whoever waits here is woken. |", 1)],
)
def test_a_free_relative_is_found_in_lists_and_tables(text: str, count: int) -> None:
    """The rule itself."""
    assert len([each for each in sentences(prose(text)) if FREE_RELATIVE.match(each)]) == count
