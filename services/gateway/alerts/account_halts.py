"""Alerts of halted accounts. Each stands from the halt until somebody resumes the account."""

from sqlalchemy import Connection, text

from services.gateway.alerts.alert import Alert, moment

MOST = 500
KIND = "account_halted"


def standing(connection: Connection) -> list[Alert]:
    """Return an alert for each halted account. There are none before the view exists."""
    if not connection.execute(_IS_READY).scalar_one():
        return []
    return [
        Alert(
            kind=KIND,
            subject=str(row.id),
            severity="critical",
            message=f"Account {row.name} ({row.number}) is halted: {row.halt_reason}; resume it to let it trade.",
            facts={"account_id": str(row.id), "halt_id": str(row.halt_id), "halted_at": moment(row.halted_at)},
        )
        for row in connection.execute(_HALTED, {"most": MOST})
    ]


_IS_READY = text("SELECT COALESCE(has_table_privilege(to_regclass('orders.account_halts_v1'), 'SELECT'), false)")
_HALTED = text("""
SELECT id, name, number, halt_id, halted_at, halt_reason FROM orders.accounts_v1
WHERE halted_at IS NOT NULL ORDER BY halted_at DESC, id LIMIT :most
""")
