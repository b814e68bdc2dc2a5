"""Migrations: each service carries its own, in its own schema, run under an advisory lock.

The schema ``jobs`` belongs to no service. ``shared.database_setup`` migrates it, and services check its revision.

The first migration of each schema made the whole of it once; since then migrations only add, and a released one never
changes. A database of the last revision before that is carried over by ``carry_over.sql`` beside the migrations.
"""

import time
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
JOBS_MIGRATIONS = ROOT / "shared" / "jobs" / "migrations"
#: Between two looks at a schema that another process migrates.
PAUSE_SECONDS = 0.5
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
    config = _config(folder)
    config.attributes.update(connection=connection, schema=schema)
    if role:
        connection.execute(text(f"SET ROLE {role}"))
    revision = revision_of(connection, schema)
    if revision is not None and "_v1_" not in revision:
        carry_over(connection, schema, folder, revision)
    if revision is None or "_v1_" not in revision or _knows(script_of(folder), revision):
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


def _config(folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(folder))
    return config


def script_of(folder: Path) -> ScriptDirectory:
    """The migrations in the folder."""
    return ScriptDirectory.from_config(_config(folder))


def _knows(script: ScriptDirectory, revision: str) -> bool:
    """True if the migrations at hand have the revision."""
    try:
        script.get_revision(revision)
    except CommandError:
        return False
    return True


def migrations_of(service: str) -> Path:
    return ROOT / "services" / service / "migrations"


def migrate_jobs(engine: Engine) -> None:
    """Migrate the job engine's schema as a superuser, for all services. Raises DatabaseTooOld."""
    migrate(engine, "jobs", JOBS_MIGRATIONS, role=JOBS_ROLE)


def migrate_service(engine: Engine, service: str, *, seconds: float = 0) -> None:
    """Migrate the service's schema, once that of the job engine is as new as this version needs.

    Raises DatabaseTooOld, for the job engine's schema after ``seconds``.
    """
    wait_for_jobs(engine, seconds)
    migrate(engine, service, migrations_of(service))


def wait_for_jobs(engine: Engine, seconds: float) -> None:
    """Wait until ``shared.database_setup`` has migrated the schema ``jobs``. A newer revision is fine.

    Raises DatabaseTooOld after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    needed = script_of(JOBS_MIGRATIONS).get_current_head()
    while True:
        with engine.connect() as connection:
            found = _jobs_revision(connection)
        if found == needed:
            return
        if "_v1_" in found and not _knows(script_of(JOBS_MIGRATIONS), found):
            log.warning("a newer version has migrated this schema", schema="jobs", revision=found)
            return
        if time.monotonic() >= deadline:
            raise DatabaseTooOld(
                f"the schema jobs of this database is at revision {found or 'none'}, and this version needs {needed}:"
                " run python -m shared.database_setup as a superuser (docker compose up setup), then start again"
            )
        time.sleep(PAUSE_SECONDS)


def _jobs_revision(connection: Connection) -> str:
    """The revision of the schema ``jobs``, empty where it has none that services may read."""
    if not connection.execute(_JOBS_REVISION_IS_READABLE).scalar():
        return ""
    return str(connection.execute(text("SELECT version_num FROM jobs.alembic_version")).scalar() or "")


_JOBS_REVISION_IS_READABLE = text("SELECT has_table_privilege(to_regclass('jobs.alembic_version'), 'SELECT')")
