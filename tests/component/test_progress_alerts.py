"""Progress: alive processes whose prices, values or outboxes stand still raise alerts, and are not ready."""

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from services.gateway.alerts.evaluator import Evaluator
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.valuation.actors import value_holders
from shared.bus.unit_of_work import ServiceContext
from shared.observability.health import replica_probes, verdict
from shared.observability.progress import ProgressMonitor
from tests.component.alert_rows import (
    MINUTE,
    evaluate_until_resolved,
    execute,
    make_evaluator,
    notifications,
    only_notification,
    open_alerts,
)
from tests.component.auction_days import FRIDAY, WEDNESDAY, move_to_new_york, utc
from tests.component.paper_exchange import Exchange
from tests.component.scripted_prices import push
from tests.conftest import FakeClock
from tests.support import price, prices

OLD = [("prices_old", "prices")]


@pytest.fixture
def priced(exchange: Exchange) -> Exchange:
    """A market that is always open, with one price. Nobody holds anything."""
    exchange.price("AAPL 99/101 100")
    return exchange


@pytest.fixture
def held(priced: Exchange) -> Exchange:
    """An account holds AAPL, whose last price is valued."""
    account = priced.open()
    priced.submit(account)
    priced.price("AAPL 99/101 100")
    revalue(priced)
    return priced


def revalue(exchange: Exchange) -> None:
    """Valuation handles the newest price."""
    with exchange.valuation.unit_of_work() as uow:
        value_holders(prices(price("AAPL", 100, at=exchange.clock.now)), uow)


def test_a_price_that_stands_still_in_an_open_market_raises_an_alert_until_the_next_one(
    gateway: ServiceContext, priced: Exchange, evaluator: Evaluator, clock: FakeClock
) -> None:
    """Two minutes old is not too old yet. The alert has the figure."""
    priced.price("AAPL 99/101 100")
    clock.move(seconds=119)
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    clock.move(seconds=2)
    evaluator.evaluate()
    assert open_alerts(gateway) == OLD
    assert "122 seconds, longer than 2 minutes" in only_notification(gateway).message
    priced.price("AAPL 99/101 100")
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


def test_a_market_whose_prices_stand_still_while_others_move_raises_its_own_alert(
    gateway: ServiceContext, priced: Exchange, evaluator: Evaluator, clock: FakeClock
) -> None:
    """The alert names the market and its provider, and ends with the market's next price."""
    with priced.marketdata.engine.begin() as connection:
        add_instruments(connection, [Instrument("BTC/USD", "Bitcoin", "24/7", "crypto")])
    push(priced.marketdata, {"BTC/USD": "100"})
    clock.move(seconds=121)
    priced.price("AAPL 99/101 100")
    evaluator.evaluate()
    assert open_alerts(gateway) == [("market_prices_old", "24/7")]
    assert "check scripted and the log of marketdata" in only_notification(gateway).message
    push(priced.marketdata, {"BTC/USD": "101"})
    priced.price("AAPL 99/101 100")
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


def test_a_delayed_price_is_as_old_as_the_time_since_it_came(
    gateway: ServiceContext, priced: Exchange, evaluator: Evaluator, clock: FakeClock
) -> None:
    """The exchange's own delay of a quarter of an hour raises no alert."""
    execute(
        priced.marketdata,
        "UPDATE marketdata.instruments SET delayed = true, received_at = :now, quoted_at = :quoted "
        "WHERE quoted_at IS NOT NULL",
        now=clock.now,
        quoted=clock.now - 15 * MINUTE,
    )
    evaluator.evaluate()
    assert open_alerts(gateway) == []


def test_old_prices_of_a_closed_market_raise_no_alert(
    gateway: ServiceContext, priced: Exchange, clock: FakeClock
) -> None:
    """Not before the open, on a holiday, after an early close or on a weekend, but two minutes after the open."""
    move_to_new_york(priced)
    priced.price("AAPL 99/101 100")
    evaluator = make_evaluator(gateway, clock)
    for quiet in (utc(WEDNESDAY, "14:29"), utc(WEDNESDAY, "14:31"), utc(FRIDAY, "14:00"), utc(FRIDAY, "18:00")):
        clock.now = quiet
        evaluator.evaluate()
        assert open_alerts(gateway) == []
    clock.now = utc(FRIDAY, "14:32") + timedelta(seconds=1)
    evaluator.evaluate()
    assert open_alerts(gateway) == OLD
    clock.now = utc(FRIDAY, "18:00") + timedelta(days=1)
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


def test_nothing_that_has_no_prices_raises_an_alert(
    gateway: ServiceContext, exchange: Exchange, evaluator: Evaluator, clock: FakeClock
) -> None:
    """Not an empty demo, an instrument without a provider, nor one that is halted or no longer traded."""
    clock.move(hours=1)
    evaluator.evaluate()
    exchange.price("AAPL 99/101 100")
    exchange.price("IBM 99/101 100")
    change = "UPDATE marketdata.instruments SET halted_at = now(), halt_reason = 'news' WHERE symbol = 'AAPL'"
    execute(exchange.marketdata, change)
    execute(exchange.marketdata, "UPDATE marketdata.instruments SET tradable = false WHERE symbol = 'IBM'")
    clock.move(hours=1)
    evaluator.evaluate()
    assert notifications(gateway) == []


def test_prices_from_before_our_start_raise_no_alert_for_two_minutes(
    gateway: ServiceContext, priced: Exchange, clock: FakeClock
) -> None:
    """Everything was off over night. The feed has this long to begin."""
    clock.move(hours=10)
    evaluator = Evaluator(gateway, None, queue_age=MINUTE)
    for seconds, alerts in ((0, []), (119, []), (2, OLD)):
        clock.move(seconds=seconds)
        evaluator.evaluate()
        assert open_alerts(gateway) == alerts
    assert priced.sequences["AAPL"] == 1


@pytest.mark.parametrize(
    ("settings", "least", "alerts"),
    [
        ('{"schedule": "5m"}', 120, []),
        ('{"schedule": "4m"}', 120, OLD),
        ('{"schedule": "1m"}', 600, []),
        ('{"schedule": "*/5 * * * *"}', 120, []),
        ('{"schedule": "1m", "market_hours_only": true, "market": "XNYS"}', 120, []),
        ('{"schedule": "1m", "market_hours_only": true}', 120, OLD),
    ],
)
def test_prices_may_be_as_old_as_two_intervals_of_their_job(
    gateway: ServiceContext,
    priced: Exchange,
    clock: FakeClock,
    settings: str,
    least: float,
    alerts: list[tuple[str, str]],
) -> None:
    """The newest is 599 seconds old. A job that only runs in the hours of a closed market brings none."""
    execute(
        priced.marketdata,
        "INSERT INTO jobs.jobs (name, service, description, market, declared, updated_at, last_slot, next_slot)"
        " VALUES ('update_market_data', 'marketdata', '', :market, CAST(:settings AS jsonb), :now, :now, :next)",
        settings=settings,
        market="XNYS" if "XNYS" in settings else "DEMO",
        now=clock.now,
        next=clock.now + 5 * MINUTE,
    )
    evaluator = Evaluator(gateway, None, queue_age=MINUTE, price_age=least)
    clock.move(seconds=599)
    evaluator.evaluate()
    assert [alert for alert in open_alerts(gateway) if alert[0] == "prices_old"] == alerts


def test_prices_that_are_not_valued_raise_an_alert_until_they_are(
    gateway: ServiceContext, held: Exchange, clock: FakeClock
) -> None:
    """Prices go on. The alert has the time since the last one that was valued."""
    evaluator = Evaluator(gateway, None, queue_age=MINUTE)
    for seconds, alerts in ((50, []), (50, []), (30, [("values_old", "values")])):
        clock.move(seconds=seconds)
        held.price("AAPL 99/101 100")
        before = clock.now - timedelta(seconds=seconds)
        execute(held.marketdata, "UPDATE marketdata.instruments SET since = :before", before=before)
        evaluator.evaluate()
        assert open_alerts(gateway) == alerts
    revalue(held)
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


def test_a_price_that_comes_rarely_is_not_behind_while_it_is_handled(
    gateway: ServiceContext, held: Exchange, evaluator: Evaluator, clock: FakeClock
) -> None:
    """The value before it is an hour old, and was right until now. Two minutes later it is behind."""
    clock.move(hours=1)
    held.price("AAPL 99/101 100")
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    clock.move(seconds=121)
    evaluator.evaluate()
    assert ("values_old", "values") in open_alerts(gateway)


def test_values_of_nothing_are_not_behind(
    gateway: ServiceContext, priced: Exchange, evaluator: Evaluator, clock: FakeClock
) -> None:
    """No account holds the symbol of the price that valuation has not handled."""
    clock.move(hours=1)
    priced.price("AAPL 99/101 100")
    evaluator.evaluate()
    clock.move(seconds=115)
    evaluator.evaluate()
    assert notifications(gateway) == []


def add_message(context: ServiceContext, age: timedelta) -> None:
    execute(
        context,
        f"INSERT INTO {context.service}.outbox (message_id, exchange, routing_key, key, shard, mandatory, body,"
        " created_at) VALUES (:id, 'paperprofit.events', 'x', 'x', 1, false, '', now() - :age)",
        id=uuid4(),
        age=age,
    )


def test_a_message_that_is_not_sent_for_a_minute_raises_an_alert_until_it_is(
    gateway: ServiceContext, orders: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """The service measures its own outbox, which the gateway cannot read."""
    monitor = ProgressMonitor(orders)
    add_message(orders, timedelta(seconds=50))
    monitor.measure()
    evaluator.evaluate()
    assert open_alerts(gateway) == []
    add_message(gateway, timedelta(seconds=400))
    execute(orders, "UPDATE orders.outbox SET created_at = now() - interval '75 s'")
    monitor.measure()
    evaluator.evaluate()
    assert open_alerts(gateway) == [("outbox_stuck", "orders")]
    assert "has waited for 75 seconds" in only_notification(gateway).message
    execute(orders, "DELETE FROM orders.outbox")
    monitor.measure()
    evaluate_until_resolved(evaluator, clock)
    assert open_alerts(gateway) == []


def test_a_figure_of_a_process_that_has_ended_raises_no_alert(
    gateway: ServiceContext, orders: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """The loss of the process has an alert of its own."""
    add_message(orders, timedelta(seconds=75))
    ProgressMonitor(orders).measure()
    clock.move(seconds=31)
    evaluator.evaluate()
    assert open_alerts(gateway) == []


def test_the_readiness_of_a_service_tells_what_is_behind_and_how_far(held: Exchange, clock: FakeClock) -> None:
    """Each tells of its own parts. Liveness does not, because no restart helps."""
    monitors = [ProgressMonitor(context) for context in (held.marketdata, held.valuation, held.orders)]
    execute(held.orders, "DELETE FROM orders.outbox")
    execute(held.valuation, "DELETE FROM valuation.outbox")
    clock.move(seconds=125)
    for monitor in monitors:
        monitor.measure()
    marketdata, valuation, orders = (monitor.checks() for monitor in monitors)
    assert marketdata == {"outbox": True, "outbox_behind_seconds": 0.0, "prices": False, "prices_behind_seconds": 125.0}
    assert valuation == {"outbox": True, "outbox_behind_seconds": 0.0, "values": True, "values_behind_seconds": 0.0}
    assert orders == {"outbox": True, "outbox_behind_seconds": 0.0}
    assert not verdict(marketdata)["healthy"]
    assert verdict(valuation)["healthy"]


def test_progress_is_part_of_the_readiness_only(tmp_path: Path) -> None:
    """``/healthz`` has both."""
    probes = replica_probes(tmp_path, 1, lambda: {"prices": False, "prices_behind_seconds": 125.0})
    assert ["prices" in probes[path]() for path in ("/livez", "/readyz", "/healthz")] == [False, True, True]
