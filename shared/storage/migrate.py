"""Migrations: each service carries its own, in its own schema, run under an advisory lock.

The first migration of each schema made the whole of it once; since then migrations only add, and a released one never
changes. A database of the last revision before that is carried over by ``carry_over.sql`` beside the migrations.
"""

from pathlib import Path
from zlib import crc32

import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

log = structlog.get_logger(__name__)

ROOT = Path(__file__).resolve().parents[2]
JOBS_ROLE = "paperprofit_jobs"
#: The last revision of each schema before its migrations became one.
LAST_BEFORE = {
    "jobs": "jobs_0002",
    "marketdata": "marketdata_0010",
    "orders": "orders_0009",
    "valuation": "valuation_0005",
    "strategy": "strategy_0004",
    "gateway": "gateway_0004",
}


class DatabaseTooOld(RuntimeError):
    """The schema is of a revision from which nothing leads to the present one."""


def migrate(engine: Engine, schema: str, folder: Path, *, role: str | None = None) -> None:
    """Bring ``schema`` to the newest revision in ``folder``; replicas that start together wait in turn.

    ``role`` is taken on for the run, where the schema belongs to a shared role. A schema that a newer version has
    migrated stays as it is, since migrations only add. Raises DatabaseTooOld.
    """
    with engine.connect() as connection:
        lock = crc32(f"migrate:{schema}".encode())
        connection.execute(text("SET lock_timeout = 0; SET statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": lock})
        connection.commit()
        try:
            _upgrade(connection, schema, folder, role)
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": lock})
            connection.commit()
            connection.invalidate()  # its session settings go with it


def _upgrade(connection: Connection, schema: str, folder: Path, role: str | None) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(folder))
    config.attributes.update(connection=connection, schema=schema)
    if role:
        connection.execute(text(f"SET ROLE {role}"))
    revision = revision_of(connection, schema)
    if revision is not None and "_v1_" not in revision:
        carry_over(connection, schema, folder, revision)
    if revision is None or "_v1_" not in revision or _knows(config, revision):
        command.upgrade(config, "head")
    else:
        log.warning("a newer version has migrated this schema", schema=schema, revision=revision)
    connection.commit()
    connection.execute(text("RESET ROLE"))
    connection.commit()


def revision_of(connection: Connection, schema: str) -> str | None:
    """The revision that the schema is at; None where nothing has migrated it."""
    table = f"{schema}.alembic_version"
    if connection.execute(text("SELECT to_regclass(:table)"), {"table": table}).scalar_one() is None:
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {table}")).scalar_one_or_none()
    return found


def carry_over(connection: Connection, schema: str, folder: Path, revision: str) -> None:
    """Bring a schema of the last revision before the initial migration to it, with its rows. Raises DatabaseTooOld."""
    if revision != LAST_BEFORE[schema]:
        raise DatabaseTooOld(
            f"the schema {schema} of this database is at revision {revision}, and only {LAST_BEFORE[schema]} can be"
            " carried over: start it once with the version that ends there, or begin with an empty database"
        )
    connection.exec_driver_sql((folder / "carry_over.sql").read_text(encoding="utf-8"))
    connection.execute(text(f"UPDATE {schema}.alembic_version SET version_num = '{schema}_v1_0001'"))
    log.info("schema carried over", schema=schema, revision=revision)


def _knows(config: Config, revision: str) -> bool:
    """True if the migrations at hand have the revision."""
    try:
        ScriptDirectory.from_config(config).get_revision(revision)
    except CommandError:
        return False
    return True


def migrations_of(service: str) -> Path:
    return ROOT / "services" / service / "migrations"


def migrate_service(engine: Engine, service: str) -> None:
    """Migrate the job engine's schema, to which every service writes, and then the service's. Raises DatabaseTooOld."""
    migrate(engine, "jobs", ROOT / "shared" / "jobs" / "migrations", role=JOBS_ROLE)
    migrate(engine, service, migrations_of(service))
