"""The frame of a self-contained HTML page: its style for screen and print, its tables, and the policy that it needs.

``POLICY`` is the content security policy of such a page. It names the one style by its hash, and allows nothing else:
no script, no image, no other host.
"""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape

STYLE = """
:root{color-scheme:light dark}
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:940px;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.1rem;margin-top:2rem}svg{width:100%;height:auto;min-width:36rem}
p,h1,td:first-child{overflow-wrap:anywhere}text{fill:currentColor}.note{background:#fff8c5;padding:.4rem .6rem}
.quiet{color:#57606a}.wide{overflow-x:auto}.figures{columns:2}.bad{color:#a40e26}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .5rem;text-align:right;border-bottom:1px solid #d8dee4}
td+td{white-space:nowrap}td:first-child,th:first-child{text-align:left;min-width:5rem}
@page{size:A4;margin:15mm}
@media screen and (prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}.note{background:#3b2e00}
.quiet{color:#9198a1}.bad{color:#ff8182}td,th{border-color:#30363d}}
@media print{body{margin:0;max-width:none;padding:0;font-size:11px}h2{break-after:avoid}tr,svg{break-inside:avoid}
.wide{overflow:visible}svg{min-width:0}td+td{white-space:normal}
thead{display:table-header-group}.page{break-before:page}.note{border:1px solid #9a6700;background:none}}
"""
_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def html_page(title: str, parts: Iterable[str]) -> str:
    """The page of these parts, which are HTML. The title is text."""
    screen = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<head><meta charset="utf-8">{screen}<title>{escape(title)}</title><style>{STYLE}</style></head>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en">{head}\n<body>\n{body}\n</body></html>\n'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, bad: Iterable[bool] = ()) -> str:
    """A table of texts. It scrolls where the screen is too narrow. ``bad`` marks the rows that are shown as losses."""
    marks = iter(bad)
    lines = []
    for row in rows:
        loss = ' class="bad"' if next(marks, False) else ""
        lines.append(f"<tr{loss}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    above = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr></thead>" if head else ""
    return f'<div class="wide"><table>{above}<tbody>{"".join(lines)}</tbody></table></div>'
