"""Statements of hot paths, sent through psycopg without its cursors.

SQLAlchemy, cursors and many round trips would take most of the time there. Statements are prepared once for each
connection, and sent together in one round trip. Their parameters are:

``%(name)s``             one value
``%(name)b::uuid[]``     a sequence of values, sent as a binary array
``%(name)s::numeric[]``  a literal made by ``numbers``
"""

import re
import sys
from collections import namedtuple
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import count
from struct import pack
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait
from sqlalchemy import Connection, TextClause

Values = dict[str, Any]
Rows = list[Any]
#: (statement, its values)
Call = tuple[str, Values]
#: Ends the transaction in the round trip of the calls before it.
COMMIT: Call = ("COMMIT", {})

_PLACE = re.compile(r"%\((\w+)\)[sb](?:::(\w+)\[\])?")
#: SQLAlchemy's parameters. A cast by two colons is none.
_COLON, _SEQUENCE = re.compile(r"(?<![:\w]):(\w+)"), re.compile(r"ANY\(:(\w+)\)")
_PREPARED = "prepared"
_NUMBER = count()
#: The planner cannot see the values in array parameters, so one plan serves all of them. The plan is kept while tables
#: grow, and must therefore use an index however small the table is now. A bitmap scan suits many rows, and most of our
#: probes find none. The settings apply only to the statements that are sent with them: NULL resets each to its default,
#: so that other statements of the transaction are planned for their own values.
_SETTINGS = {"plan_cache_mode": "'force_generic_plan'", "enable_seqscan": "'off'", "enable_bitmapscan": "'off'"}
_BY_INDEX = (
    "SELECT " + ", ".join(f"set_config('{name}', {value}, true)" for name, value in _SETTINGS.items())
).encode()
_AS_USUAL = ("SELECT " + ", ".join(f"set_config('{name}', NULL, true)" for name in _SETTINGS)).encode()
_NULL = b"\xff\xff\xff\xff"
_FIRST_DAY = date(2000, 1, 1).toordinal()
#: PostgreSQL's epoch. A timestamp as a float is exact to a quarter of a microsecond.
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC).timestamp()


def driver(connection: Connection) -> Any:
    """The connection's own psycopg connection, in the same transaction."""
    return connection.connection.driver_connection


def fetch(connection: Connection, statement: str, values: Values) -> Rows:
    """The rows of the statement, as named tuples. Raises psycopg's error."""
    (rows,) = together(connection, (statement, values))
    return rows


def together(connection: Connection, *calls: Call) -> list[Rows]:
    """Run the statements one after the other in one round trip, and return the rows of each as named tuples.

    Each statement sees everything that was committed before it began. Raises psycopg's error of the first statement
    that fails, and no later statement has run then.
    """
    used = driver(connection)
    results: Sequence[PGresult] | None = None
    try:
        results = run_prepared(used, connection.info.setdefault(_PREPARED, set()), calls)
    finally:
        if results is None and not isinstance(sys.exception(), Exception):
            connection.invalidate()  # SQLAlchemy does so too: a rollback now would raise in place of the exit
    answers: list[Rows] = []
    for result in results:
        if result.status != ExecStatus.TUPLES_OK or not result.ntuples:
            answers.append([])
            continue
        transformer = Transformer.from_context(used)
        transformer.set_pgresult(result)
        names = tuple([(result.fname(number) or b"").decode() for number in range(result.nfields)])
        answers.append(transformer.load_rows(0, result.ntuples, _row_maker(names)))
    return answers


def call(statement: TextClause, values: Values) -> Call:
    """Return a statement with SQLAlchemy's ``:name`` parameters as a call. Its sequences are of text."""
    return _translated(statement.text), {
        name: column("text", value) if isinstance(value, list) else value for name, value in values.items()
    }


@lru_cache(maxsize=64)
def _translated(statement: str) -> str:
    return _COLON.sub(r"%(\1)s", _SEQUENCE.sub(r"ANY(%(\1)b::text[])", statement))


def forget(connection: Connection) -> None:
    """Forget the prepared statements, because psycopg drops all of them after a rollback, ours too."""
    if not connection.closed and not connection.invalidated:
        connection.info.pop(_PREPARED, None)


def forget_returned(used: Any, record: Any, _state: object) -> None:
    """Do as ``forget`` for a connection that returns to its pool in a transaction, which is then rolled back."""
    if used.pgconn.transaction_status != TransactionStatus.IDLE:
        record.info.pop(_PREPARED, None)


def column(kind: str, values: Sequence[Any]) -> bytes:
    """A sequence of values of that type, encoded once for several statements. Raises ValueError for numbers."""
    encode = _ARRAYS[kind][1]
    if encode is None:
        raise ValueError(f"encode a column of {kind} with numbers()")
    return encode(values)


def numbers(values: Iterable[Decimal | None]) -> str:
    """A literal of ``numeric[]``."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


class _Parameter(NamedTuple):
    """A parameter of a statement. ``oid`` is PostgreSQL's number of its type, which only arrays state."""

    name: str
    oid: int | None
    encode: Callable[[Any], bytes] | None


class _Statement(NamedTuple):
    name: bytes
    sql: bytes
    parameters: tuple[_Parameter, ...]

    def prepare(self, pgconn: PGconn, values: Values) -> None:
        """Prepare it, with two commands: psycopg may not have dropped the name after a rollback, so close it first."""
        pgconn.send_close_prepared(self.name)
        oids = [_scalar(values[name])[0] if oid is None else oid for name, oid, _ in self.parameters]
        pgconn.send_prepare(self.name, self.sql, oids)

    def send(self, pgconn: PGconn, values: Values) -> None:
        given: list[bytes | None] = []
        formats: list[int] = []
        for name, _, encode in self.parameters:
            value = values[name]
            if encode is not None:
                given.append(value if isinstance(value, bytes) else encode(value))
                formats.append(Format.BINARY)
            else:
                given.append(value.encode() if isinstance(value, str) else _scalar(value)[1])
                formats.append(Format.TEXT)
        pgconn.send_query_prepared(self.name, given, formats, Format.BINARY)


@lru_cache(maxsize=512)
def _compiled(statement: str) -> _Statement:
    kinds: dict[str, str | None] = {}
    for name, kind in _PLACE.findall(statement):
        kinds[name] = kinds.get(name) or kind or None
    places = {name: number for number, name in enumerate(kinds, 1)}
    sql = _PLACE.sub(lambda found: f"${places[found[1]]}" + (f"::{found[2]}[]" if found[2] else ""), statement)
    parameters = tuple(_Parameter(name, *_ARRAYS[kind] if kind else (None, None)) for name, kind in kinds.items())
    return _Statement(f"paperprofit_{next(_NUMBER)}".encode(), sql.encode(), parameters)


def run_prepared(used: Any, prepared: set[bytes], calls: Sequence[Call]) -> list[PGresult]:
    """Run the calls in one round trip and return the result of each. Raises psycopg's error of the first that fails."""
    pgconn: PGconn = used.pgconn
    begins = pgconn.transaction_status == TransactionStatus.IDLE
    sent: list[bytes | None] = []  # for each result: the statement that it prepared, b"" for a setting, None for a call
    answered = False
    pgconn.enter_pipeline_mode()
    try:
        for command in [b"BEGIN", _BY_INDEX] if begins else [_BY_INDEX]:
            pgconn.send_query_params(command, None)
            sent.append(b"")
        for statement, values in calls:
            compiled = _compiled(statement)
            if compiled.name not in prepared and compiled.name not in sent:
                compiled.prepare(pgconn, values)
                sent += [b"", compiled.name]
            compiled.send(pgconn, values)
            sent.append(None)
        if calls[-1] is not COMMIT:
            pgconn.send_query_params(_AS_USUAL, None)
            sent.append(b"")
        pgconn.pipeline_sync()
        results: list[PGresult] = used.wait(_answers(pgconn))
        pgconn.exit_pipeline_mode()
        answered = True
    finally:
        if not answered:
            used.close()  # the rest of its results was not read
    for name, result in zip(sent, results, strict=True):
        if result.status == ExecStatus.FATAL_ERROR:
            prepared.clear()
            raise error_from_result(result, encoding=used.info.encoding)
        if name:
            prepared.add(name)
    return [result for name, result in zip(sent, results, strict=True) if name is None]


def _answers(pgconn: PGconn) -> Generator[Wait, Ready, list[PGresult]]:
    """Send the buffered commands, and collect the results up to the end of the pipeline."""
    results: list[PGresult] = []
    wanted = Wait.RW
    while True:
        ready = yield wanted
        if ready & Ready.W and not pgconn.flush():
            wanted = Wait.R
        if ready & Ready.R:
            pgconn.consume_input()
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    continue  # the end of one statement's results
                if result.status == ExecStatus.PIPELINE_SYNC:
                    return results
                results.append(result)


@lru_cache(maxsize=512)
def _row_maker(names: tuple[str, ...]) -> Callable[[Sequence[Any]], Any]:
    made: Callable[[Sequence[Any]], Any] = namedtuple("Row", names)._make  # type: ignore[attr-defined]  # noqa: PYI024
    return made


#: PostgreSQL's types of single values. The type of a string follows from its place in the statement.
_SCALARS: dict[type, int] = {datetime: 1184, date: 1082, timedelta: 1186, UUID: 2950, int: 20, bool: 16, str: 0}


def _scalar(value: Any) -> tuple[int, bytes | None]:
    """PostgreSQL's type of the value, and the value as text. None's type follows from its place in the statement."""
    if value is None:
        return 0, None
    return 0 if isinstance(value, str) else _SCALARS[type(value)], str(value).encode()


def _array(oid: int, encode: Callable[[Any], bytes]) -> Callable[[Sequence[Any]], bytes]:
    """Encodes a one-dimensional array of that element type in PostgreSQL's binary format."""

    def encoded(values: Sequence[Any]) -> bytes:
        if not values:
            return pack("!iii", 0, 0, oid)
        items = [_NULL if value is None else encode(value) for value in values]
        return pack("!iiiii", 1, 1, oid, len(items), 1) + b"".join(items)

    return encoded


@lru_cache(maxsize=4096)
def _string(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(4, "big") + encoded


@lru_cache(maxsize=1024)
def _time(value: datetime) -> bytes:
    """Cached, because the rows of a transaction share their times."""
    return b"\0\0\0\x08" + round((value.timestamp() - _EPOCH) * 1_000_000).to_bytes(8, "big", signed=True)


def _integer(size: int) -> Callable[[int], bytes]:
    head = size.to_bytes(4, "big")
    return lambda value: head + value.to_bytes(size, "big", signed=True)


_INT4 = _integer(4)

#: By PostgreSQL's name of the element type: the number of the array type, and its encoder (each element's length comes
#: before it). Numbers have none, because ``numbers`` writes them as a literal.
_ARRAYS: dict[str, tuple[int, Callable[[Any], bytes] | None]] = {
    "boolean": (1000, _array(16, lambda value: b"\0\0\0\x01\x01" if value else b"\0\0\0\x01\0")),
    "bytea": (1001, _array(17, lambda value: len(value).to_bytes(4, "big") + value)),
    "smallint": (1005, _array(21, _integer(2))),
    "date": (1182, _array(1082, lambda value: _INT4(value.toordinal() - _FIRST_DAY))),
    "int": (1007, _array(23, _INT4)),
    "bigint": (1016, _array(20, _integer(8))),
    "text": (1009, _array(25, _string)),
    "timestamptz": (1185, _array(1184, _time)),
    "float8": (1022, _array(701, lambda value: pack("!id", 8, value))),
    "uuid": (2951, _array(2950, lambda value: b"\0\0\0\x10" + value.int.to_bytes(16, "big"))),
    "numeric": (1231, None),
}
