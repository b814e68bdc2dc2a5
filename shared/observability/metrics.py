"""The metrics of a replica for Prometheus: the counters of all its processes, its outbox, and the age of prices.

Worker processes count into files of the folder PROMETHEUS_MULTIPROC_DIR. The process that answers the scrape adds them
up.
"""

import os
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import text

from shared.bus.unit_of_work import ServiceContext
from shared.storage.errors import DATABASE_ERRORS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: The most rows that a scrape counts, so that it stays cheap however long the outbox is.
COUNTED_ROWS = 10_000


class OutboxCollector:
    """Rows in the service's outbox and the age of the oldest. Yields nothing while the database is away."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    def collect(self) -> Iterator[Metric]:
        try:
            with self._context.engine.connect() as connection:
                statement = text(_OUTBOX.format(schema=self._context.service))
                found = connection.execute(statement, {"most": COUNTED_ROWS}).one()
        except DATABASE_ERRORS:
            return
        yield self._gauge("paperprofit_outbox_rows", f"Messages not sent yet, counted to {COUNTED_ROWS}", found.rows)
        yield self._gauge("paperprofit_outbox_lag_seconds", "Age of the oldest message not sent yet", found.lag)

    def _gauge(self, name: str, description: str, amount: float) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(name, description, labels=["service"])
        gauge.add_metric([self._context.service], float(amount))
        return gauge


class PriceCollector:
    """The age of the newest price, in marketdata and in the gateway, which read it. Yields nothing without a price."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    def collect(self) -> Iterator[Metric]:
        try:
            with self._context.engine.connect() as connection:
                newest = connection.execute(_NEWEST_PRICE).scalar()
        except DATABASE_ERRORS:
            return
        if newest is not None:
            age = (self._context.clock() - newest).total_seconds()
            yield GaugeMetricFamily("paperprofit_price_age_seconds", "Age of the newest price, also overnight", age)


def exposition(context: ServiceContext) -> bytes:
    """The text for a scrape: the metrics of all processes of the replica, or of this one where it is the only one."""
    registry = CollectorRegistry()
    registry.register(OutboxCollector(context))
    if context.service in {"marketdata", "gateway"}:
        registry.register(PriceCollector(context))
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY) + generate_latest(registry)
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


_NEWEST_PRICE = text("SELECT max(quoted_at) FROM marketdata.instruments_v1")
_OUTBOX = """
SELECT count(*) AS rows, COALESCE(extract(epoch FROM now() - min(created_at)), 0) AS lag
FROM (SELECT created_at FROM {schema}.outbox ORDER BY id LIMIT :most) waiting
"""
