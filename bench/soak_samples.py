"""Samples of a soak: memory and open files of the processes, connections, and rows and bytes of each table."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil
import psycopg
from psycopg import sql
from sqlalchemy import make_url

from bench.embedded_run import EmbeddedRun
from bench.report import NotMeasured
from embedded.postgres_cluster import PostgresCluster

#: PostgreSQL's processes are counted together, since a connection has a process of its own.
OURS, POSTGRES, CHILDREN = "PaperProfit", "PostgreSQL", "PaperProfit's child processes"
#: The sampler's own connection is not counted.
SAMPLER = "paperprofit-soak"


class Memory(NamedTuple):
    """Bytes. ``own`` is resident memory without shared pages and files, such as PostgreSQL's buffers."""

    processes: int
    resident: int
    own: int


class Table(NamedTuple):
    """``bytes`` with indexes and TOAST, of all its partitions. ``least`` of them it needs for its first row."""

    rows: int
    bytes: int
    least: int


@dataclass(frozen=True)
class Sample:
    """``hours`` since the first sample. ``connections`` are those to the database, by application."""

    hours: float
    memory: Mapping[str, Memory]
    files: int
    threads: int
    connections: Mapping[str, int]
    tables: Mapping[str, Table]
    database: int


class Sampler:
    """Looks at a run from outside, over a superuser's connection of its own."""

    def __init__(self, run: EmbeddedRun) -> None:
        url = PostgresCluster(run.folder / "postgres").running_url()
        if url is None:
            raise NotMeasured("the run has no PostgreSQL")
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._process = psutil.Process(run.process.pid)
        self._connection = psycopg.connect(plain, autocommit=True, application_name=SAMPLER)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def take(self) -> Sample:
        """Take a sample. Raises NotMeasured if the run has ended."""
        hours = (time.monotonic() - self._began) / 3600
        try:
            memory = self._memory()
            files, threads = self._process.num_fds(), self._process.num_threads()
            connections = {str(name): int(count) for name, count in self._connection.execute(_CONNECTIONS, [SAMPLER])}
            tables = self._tables()
            (database,) = self._connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
        except (psutil.Error, psycopg.Error) as error:
            raise NotMeasured(f"the run ended, or does not answer: {error}") from error
        return Sample(hours, memory, files, threads, connections, tables, int(database))

    def _memory(self) -> dict[str, Memory]:
        members: dict[str, list[psutil.Process]] = {OURS: [self._process]}
        for child in self._process.children(recursive=True):
            members.setdefault(POSTGRES if _is_postgres(child) else CHILDREN, []).append(child)
        return {name: _memory(processes) for name, processes in members.items()}

    def _tables(self) -> dict[str, Table]:
        sizes = {str(name): (int(size), int(least)) for name, size, least in self._connection.execute(_BYTES)}
        counts = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {name}, count(*) FROM {table}").format(
                name=sql.Literal(name), table=sql.Identifier(*name.split("."))
            )
            for name in sizes
        )
        rows_of: dict[str, int] = dict(self._connection.execute(counts).fetchall())
        return {name: Table(rows_of[name], *size) for name, size in sizes.items()}


def _is_postgres(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("postgres")
    except psutil.Error:  # it has ended
        return False


def _memory(processes: list[psutil.Process]) -> Memory:
    known: list[Any] = []
    for process in processes:
        try:
            known.append(process.memory_info())
        except psutil.NoSuchProcess:  # a connection that was closed meanwhile
            continue
    return Memory(len(known), sum(each.rss for each in known), sum(each.rss - each.shared for each in known))


_CONNECTIONS = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND application_name <> %s GROUP BY 1 ORDER BY 1
"""
#: Without the maps of free space, which come once. The first row of an index needs two pages, and that of others one.
_BYTES = r"""
SELECT n.nspname || '.' || c.relname, sum(pg_relation_size(stored.oid)),
       sum(LEAST(pg_relation_size(stored.oid), CASE stored.relkind WHEN 'i' THEN 16384 ELSE 8192 END))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT c.oid AS relid UNION SELECT relid FROM pg_partition_tree(c.oid)) part
JOIN LATERAL (SELECT part.relid UNION SELECT reltoastrelid FROM pg_class WHERE oid = part.relid) heap ON heap.relid <> 0
JOIN LATERAL (SELECT heap.relid AS oid UNION SELECT indexrelid FROM pg_index WHERE indrelid = heap.relid) of ON true
JOIN pg_class stored ON stored.oid = of.oid AND stored.relkind IN ('r', 'i', 't')
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema)'
GROUP BY 1 ORDER BY 1
"""
