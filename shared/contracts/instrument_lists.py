"""Lists of instruments as CSV, which people write by hand or export from elsewhere."""

import csv
from collections.abc import Iterator

from pydantic import ValidationError

from shared.contracts.base import first_error
from shared.contracts.instruments import MOST_INSTRUMENTS, GivenInstrument, InstrumentTerms

COLUMNS = tuple(InstrumentTerms.model_fields)
_YES, _NO = {"true", "yes", "1"}, {"false", "no", "0"}


class UnreadableList(ValueError):
    """The list has a mistake. The message names the line and the field, counting the header as line 1."""

    def __init__(self, line: int, field: str, reason: str) -> None:
        super().__init__(f"line {line}, {field}: {reason}")
        self.line = line
        self.field = field


def read_csv(text: str) -> list[tuple[int, GivenInstrument]]:
    """Each instrument with the number of its line. Raises UnreadableList.

    The first line names the columns. ``symbol`` has to be among them. An empty field has its default.
    """
    rows = csv.reader(text.removeprefix("\ufeff").splitlines(), strict=True)
    found: dict[str, tuple[int, GivenInstrument]] = {}
    try:
        columns = _columns(next(rows, []))
        for line, row in _filled(rows):
            if len(row) != len(columns):
                raise UnreadableList(line, "row", f"has {len(row)} fields, but the header has {len(columns)}")
            given = _given(line, dict(zip(columns, row, strict=True)))
            if given.symbol in found:
                raise UnreadableList(line, "symbol", f"{given.symbol} is also on line {found[given.symbol][0]}")
            found[given.symbol] = line, given
            if len(found) > MOST_INSTRUMENTS:
                raise UnreadableList(line, "row", f"the list has more than {MOST_INSTRUMENTS} instruments; split it")
    except csv.Error as error:
        raise UnreadableList(rows.line_num, "row", f"is not CSV: {error}") from None
    if not found:
        raise UnreadableList(rows.line_num, "row", "the list has no instruments")
    return list(found.values())


def _columns(header: list[str]) -> list[str]:
    columns = [name.strip().lower() for name in header]
    for name in columns:
        if name not in COLUMNS:
            raise UnreadableList(1, "header", f"{name[:40]!r} is not a column; use {', '.join(COLUMNS)}")
    if "symbol" not in columns or len(set(columns)) < len(columns):
        raise UnreadableList(1, "header", "must have the column symbol, and no column twice")
    return columns


def _filled(rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, with the numbers of their lines."""
    for row in rows:
        if any(field.strip() for field in row):
            yield rows.line_num, row  # type: ignore[attr-defined]


def _given(line: int, row: dict[str, str]) -> GivenInstrument:
    """The instrument of a row, of which complete terms can be made."""
    given: dict[str, str | bool] = {name: value.strip() for name, value in row.items() if value.strip()}
    for name in ("fractionable", "shortable"):
        word = str(given.get(name, "")).lower()
        if word in _YES | _NO:
            given[name] = word in _YES
    if "symbol" not in given:
        raise UnreadableList(line, "symbol", "is missing")
    given["symbol"] = str(given["symbol"]).upper()
    try:
        InstrumentTerms.model_validate(given)
        return GivenInstrument.model_validate(given)
    except ValidationError as error:
        field, _, reason = first_error(error).partition(": ")
        raise UnreadableList(line, field, reason) from None
