"""Charts as inline SVG, for pages that need nothing from elsewhere: a line over time, bars, and shares of a whole.

Colours and positions are attributes, no styles, so that a content security policy may forbid those. Labels are escaped.
"""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from math import ceil

WIDTH, HEIGHT, LEFT, MARGIN = 900, 240, 80, 24
BLUE, RED, GREEN, GREY = "#0969da", "#a40e26", "#1a7f37", "#d8dee4"
COLOURS = (BLUE, "#bf8700", GREEN, "#8250df", RED, "#1b7c83", "#bc4c00", "#57606a")
#: The width of a character of a label. Of many bars only some have a label, so that they do not overlap.
CHARACTER = 6.5
BAR_HEIGHT = 22
_BOTTOM, _RIGHT = HEIGHT - MARGIN, WIDTH - 10


def line_chart(points: Sequence[tuple[datetime, float]], label: str, colour: str = BLUE) -> str:
    """A line over time with its lowest and highest value, and the first and the last day by the zone of the times.

    Within one day these are times. A value that never changes is a line at the top.
    """
    if len(points) < 2:
        return "<p>There are too few values for a chart.</p>"
    begin, end = points[0][0], points[-1][0]
    values = [value for _, value in points]
    low, high = min(values), max(values)
    time = (end - begin).total_seconds() or 1.0
    placed = [
        f"{LEFT + (_RIGHT - LEFT) * ((at - begin).total_seconds() / time):.1f},"
        f"{_BOTTOM - (_BOTTOM - MARGIN) * ((value - low) / (high - low) if high > low else 1):.1f}"
        for at, value in points
    ]
    same_day = begin.date() == end.date()
    first, last = (f"{at:%H:%M}" if same_day else f"{at:%Y-%m-%d}" for at in (begin, end))
    texts = [
        _text(LEFT - 6, MARGIN + 4, "end", f"{high:,.2f}"),
        _text(LEFT - 6, _BOTTOM + 4, "end", f"{low:,.2f}" if high > low else ""),
        _text(LEFT, HEIGHT - 4, "start", first),
        _text(_RIGHT, HEIGHT - 4, "end", last),
    ]
    frame = f'<path d="M{LEFT} {MARGIN}H{_RIGHT}M{LEFT} {_BOTTOM}H{_RIGHT}" stroke="{GREY}"/>'
    line = f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(placed)}"/>'
    return _svg(label, HEIGHT, frame + line + "".join(texts))


def bar_chart(bars: Sequence[tuple[str, float]], label: str) -> str:
    """Bars above and below zero, in the given order, each with its name and its value as a tooltip."""
    if not bars:
        return "<p>There are no values for a chart.</p>"
    values = [value for _, value in bars]
    low, high = min(0.0, *values), max(0.0, *values)
    span, step = (high - low) or 1.0, (_RIGHT - LEFT) / len(bars)
    zero = _BOTTOM - (_BOTTOM - MARGIN) * (0 - low) / span
    width, room = max(min(step * 0.7, 60.0), 0.5), CHARACTER * (max(len(name) for name, _ in bars) + 2)
    every = ceil(room / step)
    parts = [f'<path d="M{LEFT} {zero:.1f}H{_RIGHT}" stroke="{GREY}"/>']
    for number, (name, value) in enumerate(bars):
        middle, height = LEFT + step * (number + 0.5), (_BOTTOM - MARGIN) * abs(value) / span
        top = zero - height if value > 0 else zero
        parts.append(
            f'<rect x="{middle - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
            f' fill="{RED if value < 0 else GREEN}"><title>{escape(name)}: {value:,.2f}</title></rect>'
        )
        if number % every == 0:
            parts.append(_text(middle, HEIGHT - 4, "middle", name))
    parts += [_text(LEFT - 6, MARGIN + 4, "end", f"{high:,.2f}"), _text(LEFT - 6, _BOTTOM + 4, "end", f"{low:,.2f}")]
    return _svg(label, HEIGHT, "".join(parts))


def share_chart(shares: Sequence[tuple[str, float]], label: str) -> str:
    """Horizontal bars of parts of a whole, each with its name and its percentage. A negative part is red."""
    if not shares:
        return "<p>There are no values for a chart.</p>"
    largest = max(abs(share) for _, share in shares) or 1.0
    most, begin = _RIGHT - 70 - 2 * LEFT, 2 * LEFT
    parts = []
    for number, (name, share) in enumerate(shares):
        top, width = number * BAR_HEIGHT, most * abs(share) / largest
        colour = RED if share < 0 else COLOURS[number % len(COLOURS)]
        parts += [
            _text(begin - 6, top + 15, "end", name[:20]),
            f'<rect x="{begin}" y="{top + 3}" width="{width:.1f}" height="{BAR_HEIGHT - 6}" fill="{colour}"/>',
            _text(begin + width + 6, top + 15, "start", f"{100 * share:,.2f} %"),
        ]
    return _svg(label, BAR_HEIGHT * len(shares) + 4, "".join(parts))


def _text(x: float, y: float, side: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{side}">{escape(text)}</text>'


def _svg(label: str, height: int, inner: str) -> str:
    named = f'role="img" aria-label="{escape(label)}"'
    return f'<div class="wide"><svg viewBox="0 0 {WIDTH} {height}" {named} font-size="11">{inner}</svg></div>'
