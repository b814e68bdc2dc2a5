"""Checks that need the database: whether a job's chain ends, and whether the job takes these parameters."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from shared.jobs.settings import InvalidSetting


def check_chain(connection: Connection, job: str, after: str | None) -> None:
    """Raise InvalidSetting if the job cannot follow ``after``: it is unknown, or the chain is a cycle."""
    predecessors = chains(connection) | {job: after}
    if after is not None and after not in predecessors:
        raise InvalidSetting("after", f"there is no job named {after!r}")
    check_chains(predecessors, job)


def chains(connection: Connection) -> dict[str, str | None]:
    """Read which job each job follows."""
    return {row.name: row.after for row in connection.execute(_CHAINS)}


def check_chains(predecessors: Mapping[str, str | None], job: str) -> None:
    """Raise InvalidSetting if the job follows itself in the end. ``predecessors`` is as ``chains`` reads it."""
    passed, each = [job], predecessors[job]
    while each is not None and each in predecessors:
        if each in passed:
            raise InvalidSetting("after", f"is a cycle: {' after '.join([*passed, each])}")
        passed, each = [*passed, each], predecessors[each]


def check_parameters(schema: Mapping[str, Any] | None, given: Mapping[str, Any]) -> None:
    """Raise InvalidSetting for the first parameter that the job's model does not take."""
    if schema is None:
        if given:
            raise InvalidSetting(f"parameters.{next(iter(given))}", "this job takes no parameters")
        return
    from jsonschema import Draft202012Validator  # only the gateway has it, and it is slow to import

    for error in Draft202012Validator(schema).iter_errors(dict(given)):
        raise InvalidSetting(".".join(["parameters", *(str(part) for part in error.absolute_path)]), error.message)


_CHAINS = text("SELECT name, settings ->> 'after' AS after FROM jobs.jobs")
