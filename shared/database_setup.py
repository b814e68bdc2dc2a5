"""Set up PostgreSQL for the services: a role and a schema for each, and the tables of the job engine.

    python -m shared.database_setup

Run it before the services start, and again after every upgrade. It changes nothing that is already as it should be.
No service may migrate the schema ``jobs``, because its owner could delete the record of operators' actions.
"""

import sys
from collections.abc import Mapping

import psycopg
import structlog
from psycopg import sql
from pydantic import Field, Json, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url

from shared.contracts.routing import SERVICES
from shared.observability.logs import configure_logs
from shared.outage import first_line
from shared.settings import InvalidSettings, ServiceSettings, load
from shared.storage.engine import PoolerRefused, make_engine, refusal_of, refuse_pooler
from shared.storage.errors import DATABASE_ERRORS
from shared.storage.migrate import ROOT, DatabaseTooOld, migrate_jobs
from shared.storage.sessions import session_info

log = structlog.get_logger(__name__)

ROLES_SQL = ROOT / "deploy" / "postgres" / "roles.sql"


class SetupSettings(BaseSettings):
    """``database_url`` holds the name and password of a superuser."""

    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_", extra="ignore")

    database_url: SecretStr = SecretStr("postgresql+psycopg://localhost/paperprofit")
    database_passwords: Json[dict[str, SecretStr]] = Field(
        default="{}", validate_default=True, description="of each service's role; without it no password is changed"
    )


def set_up(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Make roles and schemas, set the passwords, and migrate the schema ``jobs``.

    Raises InvalidSettings where no service has a name of ``passwords``, PoolerRefused, DatabaseTooOld, and
    DATABASE_ERRORS.
    """
    for service in set(passwords) - set(SERVICES):
        raise InvalidSettings(f"PAPERPROFIT_DATABASE_PASSWORDS names {service}, which is no service")
    engine = make_engine(admin_url, name="setup", pool_size=1)
    try:
        with engine.connect() as connection:
            refuse_pooler(connection)
        make_roles(admin_url, passwords)
        migrate_jobs(engine)
    finally:
        engine.dispose()


def make_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Make roles and schemas, and set the passwords. Raises psycopg.Error."""
    plain_url = make_url(admin_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(session_info(plain_url), autocommit=True) as connection:
        connection.execute(ROLES_SQL.read_bytes())
        for service, password in passwords.items():
            role = f"paperprofit_{service}"
            # encrypted here, because the server may log the statement
            encrypted = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
            change = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(encrypted))
            connection.execute(change)


def main() -> int:
    """Set PostgreSQL up, and return the exit code."""
    configure_logs(ServiceSettings())
    try:
        settings = load(SetupSettings)
        passwords = {name: each.get_secret_value() for name, each in settings.database_passwords.items()}
        set_up(settings.database_url.get_secret_value(), passwords)
    except (InvalidSettings, PoolerRefused, DatabaseTooOld, *DATABASE_ERRORS) as error:
        log.critical("PostgreSQL could not be set up", error=first_line(refusal_of(error) or error))
        return 1
    log.info("PostgreSQL is set up")
    return 0


if __name__ == "__main__":
    sys.exit(main())
