"""Each table's retention at the demo's settings, as the code has it, and the tables of the books."""

from collections.abc import Iterator
from datetime import timedelta

from services.gateway.retention import OWN as GATEWAY
from services.marketdata.persistence import partitions
from services.marketdata.settings import Settings
from services.strategy.jobs import OWN as STRATEGY
from services.valuation.jobs import OWN as VALUATION
from shared.contracts.routing import SERVICES
from shared.jobs.maintenance import Keep, OldRows, engine_rows

#: Their rows stay for ever and their number is the traders' choice, so the goal leaves them out.
BOOKS = frozenset(
    f"orders.{table}"
    for table in (
        "accounts", "orders", "fills", "ledger", "lots", "positions", "round_trips", "trades", "dividends",
        "margin_calls",
    )
)  # fmt: skip


def kept_days() -> dict[str, float]:
    """Return the days that most rows of a table are kept. Tables whose rows stay for ever are left out.

    Few rows are kept longer than the shortest period of their table: failed runs, and daily bars.
    """
    kept: dict[str, float] = {}
    for each in _removed():
        if each.keep:
            days = each.keep / timedelta(days=1)
            kept[each.table] = min(days, kept.get(each.table, days))
    return kept


def _removed() -> Iterator[OldRows]:
    for service in SERVICES:
        yield from engine_rows(service, Keep())
    yield from (*GATEWAY, *STRATEGY, *VALUATION)
    demo = Settings().keep_demo_bars_days
    yield OldRows("marketdata.market_data", partitions.KEPT, timedelta(days=demo))
