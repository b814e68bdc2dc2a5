"""The walls of the job engine: its SQL and its texts know no service, so any service can use it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.contracts.markets import MARKETS
from shared.contracts.routing import SERVICES
from shared.storage.migrate import ROOT

ENGINE = [path for path in sorted((ROOT / "shared/jobs").rglob("*.py")) if path.stem != "__init__"]
#: The engine removes old rows of the bus for its own service, and consumes the service's queue of RunJob.
OF_ITS_OWN_SERVICE = {"maintenance": {"inbox", "outbox_heads"}, "executor": {"jobs"}}
#: A table or a view in a statement: the word after one of these keywords, with its schema. An alias has one letter.
RELATION = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:ONLY\s+)?([a-z_{}]{2,})\.([a-z_0-9]+)\b")

every_file = pytest.mark.parametrize("path", ENGINE, ids=lambda path: path.relative_to(ROOT).as_posix())


def strings_of(path: Path) -> Iterator[str]:
    """The string literals of a file without its docstrings. A replacement field of an f-string becomes ``{}``."""
    tree = ast.parse(path.read_text(), filename=str(path))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    in_f_strings = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)
    } - {id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    for node in ast.walk(tree):
        if id(node) in docstrings or id(node) in in_f_strings:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


@every_file
def test_the_engine_s_statements_name_only_the_schema_jobs(path: Path) -> None:
    """Neither a relation after a keyword nor any other name with a service's schema before it."""
    strings = list(strings_of(path))
    relations = {match.groups() for string in strings for match in RELATION.finditer(string)}
    assert {schema for schema, _ in relations} <= {"jobs"}
    services = re.compile(rf"\b(?:{'|'.join(SERVICES)})\.[a-z]")
    assert [string for string in strings if services.search(string)] == []


@every_file
def test_the_engine_fills_in_its_own_service_only_for_the_bus(path: Path) -> None:
    """No table of a service is reached by a schema that is filled in."""
    filled_in = {name for string in strings_of(path) for name in re.findall(r"\{\}\.([a-z_]+)", string)}
    assert filled_in == OF_ITS_OWN_SERVICE.get(path.stem, set())


@every_file
def test_the_engine_names_no_market(path: Path) -> None:
    """The markets are a contract. The engine validates codes by it, and knows none of them."""
    assert set(MARKETS) & set(strings_of(path)) == set()


def test_the_rules_see_what_they_forbid() -> None:
    """The engine's files do have statements, and the pattern finds their relations."""
    found = {match.groups() for path in ENGINE for string in strings_of(path) for match in RELATION.finditer(string)}
    assert {("jobs", "jobs"), ("jobs", "job_runs"), ("jobs", "queue_controls"), ("jobs", "breakers")} <= found
