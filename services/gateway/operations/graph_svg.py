"""The graph of jobs as an SVG picture: self-contained, without scripts, and with all text escaped."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from services.gateway.operations.graph_layout import Cell, lay_out
from shared.jobs.admin.graph_queries import Follows, Graph

WIDTH, HEIGHT = 230, 46
GAP, ROW, MARGIN = 120, 66, 24
#: Jobs without edges stand in so many columns below the graph.
COLUMNS = 4
#: The most characters of a line of text in a node, and on an edge.
IN_NODE, ON_EDGE = 28, 24
COLORS = {
    "succeeded": "#1a7f37",
    "running": "#0550ae",
    "joining": "#0550ae",
    "queued": "#6639ba",
    "waiting": "#6639ba",
    "failed": "#c21c2c",
    "lost": "#c21c2c",
    "canceled": "#8a5a00",
    "skipped": "#57606a",
}
GRAY = "#57606a"
#: Lines behind a text do not touch it.
HALO = 'stroke="#ffffff" stroke-width="4" stroke-linejoin="round" paint-order="stroke"'
#: Characters that XML cannot hold.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Point = tuple[float, float]


def draw(graph: Graph) -> str:
    """Draw the chains in layers from left to right, and the jobs without edges below them."""
    jobs = {job["name"]: job for job in graph.jobs}
    chained = {name for edge in graph.edges for name in (edge.parent, edge.job)}
    names = [*graph.missing, *(name for name in jobs if name in chained)]
    layout = lay_out(names, [(edge.parent, edge.job) for edge in graph.edges])
    places = _places(layout.layers)
    bottom = max((y for _, y in places.values()), default=MARGIN - ROW) + ROW
    alone = [name for name in jobs if name not in chained]
    heading = bottom + 20
    for number, name in enumerate(alone):
        row, column = divmod(number, COLUMNS)
        places[name] = (MARGIN + column * (WIDTH + 30), heading + 16 + row * ROW)
    width = max((x for x, _ in places.values()), default=MARGIN) + WIDTH + MARGIN
    height = max([bottom, *(y + ROW for y in (y for _, y in places.values()))]) + MARGIN
    parts = [_text(MARGIN, heading, "Jobs without a chain", GRAY, 12)] if alone else []
    arrows = [_edge(edge, [places[cell] for cell in layout.paths[edge.parent, edge.job]]) for edge in graph.edges]
    parts += [arrow for arrow, _ in arrows] + [label for _, label in arrows if label]
    parts += [each for name in names + alone for each in _node(name, jobs.get(name), places[name])]
    return _document(width, height, len(jobs), len(graph.edges), parts)


def _document(width: float, height: float, jobs: int, edges: int, parts: Sequence[str]) -> str:
    arrow = '<marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="system-ui, sans-serif">',
            f"<title>The graph of {jobs} jobs and {edges} edges, each job with the state of its latest run</title>",
            f'<defs>{arrow}<path d="M0 0 8 4 0 8z" fill="{GRAY}"/></marker></defs>',
            f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _places(layers: Sequence[Sequence[Cell]]) -> dict[Cell, Point]:
    """The upper left corner of each cell. Short layers are centered beside the longest one."""
    longest = max(map(len, layers), default=0)
    return {
        cell: (MARGIN + column * (WIDTH + GAP), MARGIN + (row + (longest - len(layer)) / 2) * ROW)
        for column, layer in enumerate(layers)
        for row, cell in enumerate(layer)
    }


def _edge(edge: Follows, cells: Sequence[Point]) -> tuple[str, str]:
    """An arrow past the bends, and its words, which stand in the gap before the job that follows."""
    points: list[Point] = [(cells[0][0] + WIDTH, cells[0][1] + HEIGHT / 2)]
    for x, y in cells[1:-1]:
        points += [(x, y + HEIGHT / 2), (x + WIDTH, y + HEIGHT / 2)]
    points.append((cells[-1][0], cells[-1][1] + HEIGHT / 2))
    path = f"M{points[0][0]:g} {points[0][1]:g}"
    for (x, y), (to_x, to_y) in pairwise(points):
        bend = min(GAP, abs(to_x - x)) / 2
        path += f" C{x + bend:g} {y:g} {to_x - bend:g} {to_y:g} {to_x:g} {to_y:g}"
    title = f"{edge.job} follows {edge.parent} that {edge.outcome} {edge.when or ''}".strip()
    dash = ' stroke-dasharray="5 4"' if edge.outcome == "failed" else ""
    line = f'<path d="{path}" fill="none" stroke="{GRAY}" stroke-width="1.4"{dash} marker-end="url(#arrow)">'
    words = " ".join(filter(None, [edge.outcome if edge.outcome != "succeeded" else "", edge.when]))
    (_, from_y), (end_x, end_y) = points[-2:]
    label = _text(end_x - GAP / 2, (from_y + end_y) / 2 + 3, _cut(words, ON_EDGE), GRAY, 10, "middle")
    return f"{line}<title>{_escaped(title)}</title></path>", label if words else ""


def _node(name: str, job: Mapping[str, Any] | None, place: Point) -> Iterator[str]:
    x, y = place
    state, at = state_of(job)
    color = COLORS.get(state, GRAY)
    dash = "" if job and job["enabled"] and not job["retired_at"] else ' stroke-dasharray="4 3"'
    service = job["service"] if job else ""
    described = "\n".join(filter(None, [name, job["description"] if job else "", state, at]))
    yield f"<g><title>{_escaped(described)}</title>"
    yield f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff" stroke="{color}"{dash}/>'
    yield f'<rect x="{x:g}" y="{y:g}" width="6" height="{HEIGHT}" rx="3" fill="{color}"/>'
    yield _text(x + 16, y + 19, _cut(name, IN_NODE), "#1f2328", 13)
    below = " · ".join(filter(None, [service, state, at]))
    yield _text(x + 16, y + 36, _cut(below, IN_NODE + 5), color, 11)
    if job and job["join"] == "any" and not isinstance(job["settings"].get("after"), str | None):
        yield _text(x - 6, y + 8, "any", GRAY, 10, "end")
    yield "</g>"


def state_of(job: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return a word for the state of the job's latest run, and its time of the day in UTC."""
    if job is None:
        return "not declared", ""
    run = job["last_run"]
    word = (run["outcome"] or run["state"]) if run else "never ran"
    if job["retired_at"] or not job["enabled"]:
        word = "retired" if job["retired_at"] else "disabled"
    at = run and (run["finished_at"] or run["started_at"] or run["queued_at"])
    return word, f"{datetime.fromisoformat(at):%H:%M:%S}" if at else ""


def _text(x: float, y: float, words: str, color: str, size: int, anchor: str = "start") -> str:
    place = f'x="{x:g}" y="{y:g}" fill={quoteattr(color)} font-size="{size}" text-anchor="{anchor}" {HALO}'
    return f"<text {place}>{_escaped(words)}</text>"


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"


def _escaped(words: str) -> str:
    return escape(_NO_XML.sub("\ufffd", words))
