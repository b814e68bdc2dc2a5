"""Runs of backtests: their progress, their end on request, the keys that may ask for both, and stored markets."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

import pytest

from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.persistence.sessions import add_markets
from services.strategy import backtest_jobs
from services.strategy.backtest import stored
from services.strategy.backtest.request import WrongRequest
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.backtests import BacktestRequest
from shared.contracts.markets import MARKETS
from tests.component.http_trader import KEY, Trader
from tests.component.paper_exchange import Exchange
from tests.component.test_corporate_actions import enter
from tests.component.watching import context_of
from tests.support import eventually, value

REQUEST: dict[str, Any] = {
    "strategy": {"kind": "buy_and_hold"}, "symbols": ["MSFT"], "interval": "1m",
    "from": "2026-11-23T14:00:00Z", "to": "2026-11-23T15:00:00Z", "cash": "100000", "settings": {},
}  # fmt: skip
BEGIN = datetime(2026, 11, 23, 14, tzinfo=UTC)
_STORE = """
INSERT INTO marketdata.market_data (symbol, interval, start_at, open, high, low, close, volume, provider)
VALUES (%(symbol)s, %(interval)s, %(at)s, %(close)s, %(close)s, %(close)s, %(close)s, 100, 'test')
ON CONFLICT DO NOTHING
"""


def store(marketdata: ServiceContext, symbol: str, *closes: str, begin: datetime = BEGIN, interval: str = "1m") -> None:
    length = timedelta(days=1) if interval == "1d" else timedelta(minutes=1)
    with marketdata.engine.begin() as connection:
        for number, close in enumerate(closes):
            given = {"symbol": symbol, "interval": interval, "at": begin + number * length, "close": Decimal(close)}
            connection.exec_driver_sql(_STORE, given)


def trading_key(trader: Trader) -> dict[str, str]:
    """Another key of the account, which may trade and nothing more."""
    asked = {"name": "trader", "scopes": ["trade"]}
    made = trader.client.post(f"/api/accounts/{trader.account_id}/keys", json=asked, headers=KEY).json()
    return {"APCA-API-KEY-ID": made["key_id"], "APCA-API-SECRET-KEY": made["secret_key"]}


def test_a_running_backtest_shows_its_progress_and_is_canceled(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own key may do so without the scope to operate. Another key that only trades may not."""
    store(trader.system.contexts["marketdata"], "MSFT", "100", "101")
    over = Event()

    def endless(_setup: Any, _series: Any, progress: Any) -> None:
        while not over.wait(0.01):
            progress(25, 100)

    monkeypatch.setattr(backtest_jobs, "run_backtest", endless)
    own, other = trading_key(trader), trading_key(trader)
    try:
        answer = trader.client.post("/api/backtests", json=REQUEST, headers=own)
        assert answer.status_code == 202, answer.text
        path = f"/api/backtests/{answer.json()['id']}"
        running = eventually(
            lambda: (it := trader.get(path))["progress"]["percent"] == 25 and it, what="a backtest with progress"
        )
        assert (running["state"], running["progress"]["done"], running["fills"]) == ("running", 25, [])
        assert trader.client.post(f"{path}/cancel", headers=other).status_code == 403
        assert trader.client.post(f"{path}/cancel", headers=own).status_code == 202
        found = eventually(lambda: (it := trader.get(path))["state"] == "finished" and it, what="the end of it")
    finally:
        over.set()
    assert (found["outcome"], found["figures"]) == ("canceled", None)


def test_a_strategy_that_raises_ends_its_run_and_says_so(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.strategy.strategies.library.allocation import BuyAndHold

    def raising(*_: Any) -> Any:
        raise RuntimeError("out of ideas")

    store(trader.system.contexts["marketdata"], "MSFT", "100", "101")
    monkeypatch.setattr(BuyAndHold, "decide", raising)
    answer = trader.ask("POST", "/api/backtests", json=REQUEST)
    path = f"/api/backtests/{answer.json()['id']}"
    found = eventually(lambda: (it := trader.get(path))["state"] == "finished" and it, what="the end of it")
    assert (found["outcome"], found["error"]) == ("failed", "strategy: RuntimeError: out of ideas")


def request(**changes: Any) -> BacktestRequest:
    return BacktestRequest.model_validate({**REQUEST, **changes})


def test_stored_series_have_sessions_and_currencies(exchange: Exchange, urls: dict[str, str]) -> None:
    """A stock of Frankfurt in euros, converted by the stored pair. Without its bars the request is refused."""
    store(exchange.marketdata, "SAP", "100", "101")
    with exchange.marketdata.engine.begin() as connection:
        add_markets(connection, [MARKETS["XETR"]])
        add_instruments(
            connection,
            [Instrument("SAP", "SAP", market="XETR", currency="EUR"), Instrument("EUR/USD", "Euro")],
        )
        connection.exec_driver_sql(_ADD_SESSION, {"open": BEGIN.replace(hour=8), "close": BEGIN.replace(hour=16)})
    with context_of("strategy", urls, exchange.clock) as strategy, strategy.engine.begin() as connection:
        asked = request(symbols=["SAP"])
        (series,) = stored.series_of(connection, asked, 1)
        assert (series.currency, series.calendar.market) == ("EUR", "XETR")
        assert series.calendar.session_at(BEGIN).open_at == BEGIN.replace(hour=8)
        with pytest.raises(WrongRequest, match="SAP trades in EUR, and there are no bars of 1m of EUR/USD or USD/EUR"):
            stored.pairs_of(connection, asked, [series])
        store(exchange.marketdata, "EUR/USD", "1.1", "1.2")
        (pair,) = stored.pairs_of(connection, asked, [series])
        assert (pair.symbol, [bar.close for bar in pair.bars]) == ("EUR/USD", [Decimal("1.1"), Decimal("1.2")])
        assert stored.pairs_of(connection, request(symbols=["SAP"], settings={"currency": "EUR"}), [series]) == []


def test_a_split_within_the_time_changes_no_return(exchange: Exchange, urls: dict[str, str]) -> None:
    """Bars from before it and dividends of before it are in shares of today."""
    now = exchange.clock.now.replace(second=0, microsecond=0)
    store(exchange.marketdata, "AAPL", "100", "102", begin=now - timedelta(minutes=2))
    enter(exchange, "dividend", "1")
    enter(exchange, "split", "2")
    exchange.clock.move(minutes=2)
    store(exchange.marketdata, "AAPL", "52", begin=now + timedelta(minutes=1))
    begin, end = (now - timedelta(minutes=3)).isoformat(), (now + timedelta(minutes=5)).isoformat()
    asked = request(symbols=["AAPL"], **{"from": begin, "to": end})
    with context_of("strategy", urls, exchange.clock) as strategy, strategy.engine.begin() as connection:
        (series,) = stored.series_of(connection, asked, 1)
        dividends = stored.dividends_of(connection, asked)
    assert [bar.close for bar in series.bars] == [50, 51, 52]
    applied = value(
        exchange.marketdata.engine, "SELECT count(*) FROM marketdata.corporate_actions_v1 WHERE applied_at IS NOT NULL"
    )
    assert applied == 2
    assert [each.amount for each in dividends] == [Decimal("0.5")]


_ADD_SESSION = """
INSERT INTO marketdata.market_sessions (market, day, kind, open_at, close_at)
VALUES ('XETR', '2026-11-23', 'regular', %(open)s, %(close)s) ON CONFLICT DO NOTHING
"""
