"""The heat map of an optimisation: a figure over two parameters, as SVG."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

CELL, LEFT, TOP = 44, 90, 54
#: Colours of the worst, the middle and the best value: red, pale, blue. Red and blue differ for the colour-blind too.
_COLOURS = ((178, 24, 43), (247, 247, 247), (33, 102, 172))
_UNKNOWN = "#d0d0d0"


def heat_map(trials: Sequence[Mapping[str, Any]], objective: str) -> str | None:
    """The objective in the sample over the first two parameters that vary. None where fewer than two do.

    If others vary too, each cell has the best of their values.
    """
    names = [name for name in trials[0]["parameters"] if len({str(each["parameters"][name]) for each in trials}) > 1]
    if len(names) < 2:
        return None
    across, down = names[:2]
    cells: dict[tuple[str, str], float] = {}
    for each in trials:
        value = each["in_sample"][objective]
        place = str(each["parameters"][across]), str(each["parameters"][down])
        if value is not None:
            cells[place] = max(value, cells.get(place, value))
    columns, rows = (sorted({str(each["parameters"][name]) for each in trials}, key=float) for name in (across, down))
    return _picture(cells, columns, rows, (across, down, objective))


def _picture(
    cells: Mapping[tuple[str, str], float], columns: Sequence[str], rows: Sequence[str], names: tuple[str, str, str]
) -> str:
    low, high = min(cells.values(), default=0.0), max(cells.values(), default=0.0)
    across, down, objective = map(escape, names)
    width, height = LEFT + CELL * len(columns) + 10, TOP + CELL * len(rows) + 10
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11" role="img">',
        f"<title>{objective} over {across} and {down}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="16">{objective} in the sample, {low:.2f} (red) to {high:.2f} (blue)</text>',
        f'<text x="{LEFT}" y="34">{across} →</text>',
        f'<text x="4" y="{TOP - 6}">{down} ↓</text>',
    ]
    parts += [
        f'<text x="{LEFT + CELL * place + CELL // 2}" y="{TOP - 6}" text-anchor="middle">{escape(name)}</text>'
        for place, name in enumerate(columns)
    ]
    for line, row in enumerate(rows):
        y = TOP + CELL * line
        parts.append(f'<text x="{LEFT - 6}" y="{y + CELL // 2 + 4}" text-anchor="end">{escape(row)}</text>')
        for place, column in enumerate(columns):
            parts.append(_cell(LEFT + CELL * place, y, cells.get((column, row)), low, high))
    return "".join([*parts, "</svg>"])


def _cell(x: int, y: int, value: float | None, low: float, high: float) -> str:
    box = f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" fill="{_colour(value, low, high)}"/>'
    if value is None:
        return box
    share = (value - low) / (high - low) if high > low else 0.5
    ink = "white" if share < 0.2 or share > 0.8 else "black"
    return (
        f'{box}<text x="{x + CELL // 2}" y="{y + CELL // 2 + 4}" text-anchor="middle" fill="{ink}">{value:.2f}</text>'
    )


def _colour(value: float | None, low: float, high: float) -> str:
    if value is None:
        return _UNKNOWN
    share = (value - low) / (high - low) if high > low else 0.5
    first, second = _COLOURS[:2] if share < 0.5 else _COLOURS[1:]
    part = share * 2 if share < 0.5 else share * 2 - 1
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(first, second, strict=True))
