"""Migrations: each service carries its own, in its own schema, run under an advisory lock."""

from pathlib import Path
from zlib import crc32

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

ROOT = Path(__file__).resolve().parents[2]
JOBS_ROLE = "paperprofit_jobs"


def migrate(engine: Engine, schema: str, folder: Path, *, role: str | None = None) -> None:
    """Bring ``schema`` to the newest revision in ``folder``; replicas that start together wait in turn.

    ``role`` is taken on for the run, where the schema belongs to a shared role.
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
    command.upgrade(config, "head")
    connection.commit()
    connection.execute(text("RESET ROLE"))
    connection.commit()


def migrations_of(service: str) -> Path:
    return ROOT / "services" / service / "migrations"


def migrate_service(engine: Engine, service: str) -> None:
    """The job engine's schema first, since every service writes to it, then the service's own."""
    migrate(engine, "jobs", ROOT / "shared" / "jobs" / "migrations", role=JOBS_ROLE)
    migrate(engine, service, migrations_of(service))
