"""Paths of errors in rules, as their author wrote the rules."""

from collections.abc import Iterable

#: After these parts of a path pydantic names the kind of the condition or of the value.
_TAGGED = {"entry", "exit", "not", "left", "right"}


def path_of(place: Iterable[int | str]) -> list[str]:
    """The path of an error as the rules have it: without the kinds of conditions and values, such as ``op``."""
    path: list[str] = []
    tagged = False
    for part in place:
        if tagged:
            tagged = False
            continue
        before = path[-1] if path else ""
        tagged = part in _TAGGED or before == "define" or (isinstance(part, int) and before in {"all", "any"})
        path.append(str(part))
    return path
