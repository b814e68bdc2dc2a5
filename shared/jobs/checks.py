"""Checks that need the database: whether a job's chain ends, and whether the job takes these parameters."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from shared.jobs.edges import parents_of
from shared.jobs.settings import InvalidSetting


def check_chain(connection: Connection, job: str, after: object) -> None:
    """Raise InvalidSetting if the job cannot follow ``after``: one of them is unknown, or the chain is a cycle."""
    predecessors = chains(connection) | {job: after}
    check_parents(predecessors, job)
    check_chains(predecessors, job)


def chains(connection: Connection) -> dict[str, object]:
    """Read the setting ``after`` of each job."""
    return {row.name: row.after for row in connection.execute(_CHAINS)}


def check_parents(predecessors: Mapping[str, object], job: str) -> None:
    """Raise InvalidSetting if the job follows one that is not among them."""
    after = predecessors[job]
    for number, parent in enumerate(parents_of(after)):
        if parent not in predecessors:
            field = "after" if isinstance(after, str) else f"after.{number}.job"
            raise InvalidSetting(field, f"there is no job named {parent!r}")


def check_chains(predecessors: Mapping[str, object], job: str) -> None:
    """Raise InvalidSetting if the job follows itself in the end. ``predecessors`` is as ``chains`` reads it."""
    path, remaining, passed = [job], [parents_of(predecessors[job])], set()
    while remaining:
        each = next(remaining[-1], None)
        if each is None:
            remaining.pop()
            passed.add(path.pop())
        elif each in path:
            raise InvalidSetting("after", f"is a cycle: {' after '.join([*path, each])}")
        elif each in predecessors and each not in passed:
            path.append(each)
            remaining.append(parents_of(predecessors[each]))


def check_parameters(schema: Mapping[str, Any] | None, given: Mapping[str, Any]) -> None:
    """Raise InvalidSetting for the first parameter that the job's model does not take."""
    if schema is None:
        if given:
            raise InvalidSetting(f"parameters.{next(iter(given))}", "this job takes no parameters")
        return
    from jsonschema import Draft202012Validator  # only the gateway has it, and it is slow to import

    for error in Draft202012Validator(schema).iter_errors(dict(given)):
        raise InvalidSetting(".".join(["parameters", *(str(part) for part in error.absolute_path)]), error.message)


_CHAINS = text("SELECT name, settings -> 'after' AS after FROM jobs.jobs")
