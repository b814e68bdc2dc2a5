"""The embedded run's database: the same roles and schemas as deployed."""

import secrets

from sqlalchemy import make_url

from shared.contracts.routing import SERVICES
from shared.database_setup import set_up


def service_urls(admin_url: str) -> dict[str, str]:
    """Set the database up, give each role a new password, and return each service's URL. Raises DatabaseTooOld."""
    admin = make_url(admin_url)
    passwords = {service: secrets.token_hex(16) for service in SERVICES}
    set_up(admin_url, passwords)
    return {
        service: admin.set(username=f"paperprofit_{service}", password=password).render_as_string(hide_password=False)
        for service, password in passwords.items()
    }
