"""``/api/jobs/graph``: which jobs follow which, on which conditions, and the latest run of each."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from services.gateway.http.auth import OPERATE
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Answer
from services.gateway.operations.graph_layout import layers_of
from services.gateway.operations.graph_svg import draw
from shared.jobs.admin.graph_queries import graph
from shared.jobs.edges import EdgeOutcome


class NodeRun(Answer):
    """The latest run of a job. ``round`` is null if the run began its chain."""

    id: UUID
    trigger: str
    state: str
    outcome: str | None
    reason: str | None
    round: str | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Node(Answer):
    """A job. Each job has a higher ``layer`` than all that it follows."""

    name: str
    service: str
    description: str
    enabled: bool
    retired_at: datetime | None
    schedule: str
    join: Literal["all", "any"]
    layer: int
    last_run: NodeRun | None


class GraphEdge(Answer):
    """The job ``to`` follows the job ``from``."""

    parent: str = Field(alias="from")
    job: str = Field(alias="to")
    outcome: EdgeOutcome
    when: str | None


class JobGraph(Answer):
    """All jobs, and the edges between them. Nobody declares the jobs that are ``missing``."""

    nodes: list[Node]
    edges: list[GraphEdge]
    missing: list[str]


async def get_graph(gateway: Gateway) -> JobGraph:
    """Get the graph of the jobs with the latest run of each."""
    found = await read(gateway, graph)
    ends = [(edge.parent, edge.job) for edge in found.edges]
    layers = layers_of([*found.missing, *(job["name"] for job in found.jobs)], ends)
    shown = Node.model_fields.keys() - {"layer"}
    nodes = [{**{name: job[name] for name in shown}, "layer": layers[job["name"]]} for job in found.jobs]
    edges = [{"from": edge.parent, "to": edge.job, "outcome": edge.outcome, "when": edge.when} for edge in found.edges]
    return JobGraph.model_validate({"nodes": nodes, "edges": edges, "missing": found.missing})


async def get_graph_picture(gateway: Gateway) -> Annotated[Response, str]:
    """Get the graph of the jobs as a picture."""
    return Response(draw(await read(gateway, graph)), media_type="image/svg+xml")


endpoints = (
    Endpoint("GET", "/api/jobs/graph", get_graph, OPERATE),
    Endpoint("GET", "/api/jobs/graph.svg", get_graph_picture, OPERATE, media="image/svg+xml"),
)
