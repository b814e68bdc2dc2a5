"""The sets of instruments of ``config/instruments.toml``."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.contracts.base import first_error
from shared.contracts.instruments import InstrumentTerms


class UnreadableSet(ValueError):
    """The file or the set has a mistake. The message names the set and the instrument."""


def read_set(path: Path, name: str) -> list[InstrumentTerms]:
    """The instruments of the set. Raises UnreadableSet."""
    try:
        sets = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableSet(f"{path} cannot be read: {error}") from None
    if name not in sets:
        raise UnreadableSet(f"there is no set {name!r} of instruments; choose {', '.join(sets)}")
    parts = sets[name] if isinstance(sets[name], list) else [sets[name]]
    return [terms for part in parts for terms in _part(name, part)]


def _part(name: str, part: dict[str, Any]) -> list[InstrumentTerms]:
    shared = {key: value for key, value in part.items() if key != "instruments"}
    found = []
    for each in part.get("instruments", ()):
        try:
            symbol, title = each
            found.append(InstrumentTerms.model_validate({**shared, "symbol": symbol, "name": title}))
        except ValidationError as error:
            raise UnreadableSet(f"set {name}, {each}: {first_error(error)}") from None
        except ValueError:
            raise UnreadableSet(f"set {name}, {each}: write a symbol and a name") from None
    return found
