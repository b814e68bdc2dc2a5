"""The edges of the graph of jobs: which jobs a job follows, and on which conditions.

``after`` is the name of one job, or a list of edges. A name is followed by a run each time. A list is joined once a
round: see docs/jobs.md.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from shared.contracts.written import Printable
from shared.jobs.run_context import LARGEST_COUNT

#: The most jobs that one job follows.
MAX_PARENTS = 20
LONGEST_NAME = 500
#: A comparison of one count of the parent's run with a whole number. Statements read the written form.
_CONDITION = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]{0,99})\s*(>=|<=|==|!=|>|<)\s*(-?[0-9]{1,19})\s*")

Name = Annotated[Printable, Field(min_length=1, max_length=LONGEST_NAME)]
EdgeOutcome = Literal["succeeded", "failed", "finished"]


def written_condition(text: str) -> str:
    """Return the condition with one space between its three words. Raises ValueError if it is none."""
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError("must compare a count with a whole number by >, >=, <, <=, == or !=, as in prices_written > 0")
    count, operator, number = found.groups()
    if abs(int(number)) > LARGEST_COUNT:
        raise ValueError(f"compares with a number beyond {LARGEST_COUNT}; no count is so large")
    return f"{count} {operator} {int(number)}"


_Condition = Annotated[str, Field(max_length=200, pattern=r"^[ -~]*$"), AfterValidator(written_condition)]


class Edge(BaseModel):
    """A job that is followed, the outcome that its run must have, and a condition on the run's counts.

    ``failed`` runs have failed or been lost. ``finished`` ones have succeeded, failed or been lost.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    job: Name
    outcome: EdgeOutcome = "succeeded"
    when: _Condition | None = None

    @model_validator(mode="after")
    def _check_counts(self) -> "Edge":
        if self.when is not None and self.outcome == "failed":
            raise ValueError("when needs a run that succeeded: a failed run has no counts")
        return self


def _named(edge: object) -> object:
    """A name alone stands for an edge without conditions."""
    return {"job": edge} if isinstance(edge, str) else edge


def _check_parents(edges: list[Edge]) -> list[Edge]:
    names = [edge.job for edge in edges]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"names {twice!r} twice; give each job one edge")
    return edges


def _kind(after: object) -> str:
    return "[edges]" if isinstance(after, Sequence) and not isinstance(after, str) else "[name]"


_Edges = Annotated[
    list[Annotated[Edge, BeforeValidator(_named)]],
    Field(min_length=1, max_length=MAX_PARENTS),
    AfterValidator(_check_parents),
]
#: The setting ``after``. The tags are left out where a mistake is named.
After = Annotated[Annotated[Name, Tag("[name]")] | Annotated[_Edges, Tag("[edges]")], Discriminator(_kind)]


def edges_of(settings: Mapping[str, Any]) -> list[Edge]:
    """Return the edges that lead to a job with these stored settings."""
    after = settings.get("after")
    if after is None:
        return []
    if isinstance(after, str):
        return [Edge(job=after, outcome=settings.get("after_outcome", "succeeded"))]
    return [Edge.model_validate(_named(edge)) for edge in after]


def parents_of(after: object) -> Iterator[str]:
    """Name the jobs of a stored setting ``after``."""
    for edge in [after] if isinstance(after, str) else after if isinstance(after, Sequence) else ():
        yield edge["job"] if isinstance(edge, Mapping) else getattr(edge, "job", str(edge))


def ancestors(after: Mapping[str, object], job: str) -> set[str]:
    """Return the jobs whose runs can lead to a run of the job, and the job itself.

    ``after`` has the setting of each job.
    """
    found, remaining = {job}, [job]
    while remaining:
        new = set(parents_of(after.get(remaining.pop()))) - found
        found |= new
        remaining += new
    return found
