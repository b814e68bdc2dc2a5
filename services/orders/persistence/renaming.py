"""Rows of a symbol under a new one: those of every table of orders that has a symbol."""

from sqlalchemy import Connection, text

#: All tables of the books. A new one with a symbol belongs to them, which a test checks.
TABLES = ("orders", "fills", "lots", "positions", "round_trips", "trades", "ledger", "dividends")


def move(connection: Connection, old: str, new: str) -> None:
    """Give the rows the new symbol. The old symbol's last price, and what was taken of it, are not kept."""
    for table in TABLES:
        connection.execute(
            text(f"UPDATE orders.{table} SET symbol = :new WHERE symbol = :old"), {"old": old, "new": new}
        )
    for table in ("quotes", "consumed"):
        connection.execute(text(f"DELETE FROM orders.{table} WHERE symbol = :old"), {"old": old})
