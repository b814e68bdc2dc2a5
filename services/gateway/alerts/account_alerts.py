"""Alerts of accounts. Valuation raises and ends them by the rules of each account, and they stand here as long."""

from sqlalchemy import Connection, text

from services.gateway.alerts.alert import Alert, moment
from shared.contracts.account_alerts import AlertKind

#: The alerts of accounts that stand at a time, the newest first. Each account sees all of its own.
MOST = 500
KINDS = tuple(f"account_{kind}" for kind in AlertKind)


def standing(connection: Connection) -> list[Alert]:
    """Return the open alerts of all accounts. There are none before the view exists."""
    if not connection.execute(_IS_READY).scalar_one():
        return []
    return [
        Alert(
            kind=f"account_{row.kind}",
            subject=f"{row.account_id} {row.subject}",
            severity="warning",
            message=f"Account {row.name} ({row.number}): {row.message}.",
            facts={
                "account_id": str(row.account_id),
                "value": str(row.value),
                "threshold": str(row.threshold),
                "raised_at": moment(row.raised_at),
            },
        )
        for row in connection.execute(_STANDING, {"most": MOST})
    ]


_IS_READY = text("""
SELECT COALESCE(has_table_privilege(to_regclass('valuation.alerts_v1'), 'SELECT'), false)
         AND COALESCE(has_table_privilege(to_regclass('orders.accounts_v1'), 'SELECT'), false)
""")
_STANDING = text("""
SELECT l.account_id, l.kind, l.subject, l.message, l.value, l.threshold, l.raised_at, a.name, a.number
FROM valuation.alerts_v1 l JOIN orders.accounts_v1 a ON a.id = l.account_id
WHERE l.recovered_at IS NULL ORDER BY l.raised_at DESC, l.id LIMIT :most
""")
