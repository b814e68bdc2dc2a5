"""The embedded run's database: the same roles and schemas as deployed."""

import secrets

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from shared.contracts.routing import SERVICES
from shared.storage.migrate import ROOT
from shared.storage.sessions import session_info

ROLES_SQL = ROOT / "deploy" / "postgres" / "roles.sql"


def service_urls(admin_url: str) -> dict[str, str]:
    """Make the roles and schemas, give each role a new password, and return each service's URL."""
    admin = make_url(admin_url)
    passwords = {service: secrets.token_hex(16) for service in SERVICES}
    plain_url = admin.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(session_info(plain_url), autocommit=True) as connection:
        connection.execute(ROLES_SQL.read_bytes())
        for service, password in passwords.items():
            role = sql.Identifier(f"paperprofit_{service}")
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password)))
    return {
        service: admin.set(username=f"paperprofit_{service}", password=password).render_as_string(hide_password=False)
        for service, password in passwords.items()
    }
