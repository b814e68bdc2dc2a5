"""Figures of the day over HTTP, on the real clock."""

from sqlalchemy import text

from tests.component.http_trader import Trader, push
from tests.support import eventually

_SUMMARIZE_YESTERDAY = text("""
INSERT INTO valuation.daily_summaries
  (account_id, day, run_id, at, cash, market_value, equity, unrealized_pl, realized_pl, fees, net_deposits, fills)
VALUES (:account, CAST(now() AT TIME ZONE 'UTC' AS date) - 1, gen_random_uuid(), now() - interval '1 day', 250000, 0,
        250000, 0, 0, 0, 0, 0)
""")
_BUY_FIVE_DAYS_AGO = text(
    "UPDATE orders.lots SET opened_at = opened_at - interval '5 days' WHERE account_id = :account"
)
_CLOSE_YESTERDAY = text("""
INSERT INTO marketdata.market_data
SELECT 'AAPL', '1m', (date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC') - interval '1 minute',
       110, 110, 110, 110, 1, 'test'
""")
_FORGET_YESTERDAY = text("DELETE FROM marketdata.market_data WHERE symbol = 'AAPL' AND provider = 'test'")


def test_after_a_reset_last_equity_is_not_that_of_the_generation_before(trader: Trader) -> None:
    """A summary of yesterday tells 250,000, and the account begins again with 5,000: today's profit is 0."""
    with trader.system.contexts["valuation"].engine.begin() as connection:
        connection.execute(_SUMMARIZE_YESTERDAY, {"account": trader.account_id})
    assert trader.get("/account")["last_equity"] == "250000"
    trader.ask("POST", "/api/account/reset", json={"cash": "5000"})
    eventually(lambda: trader.get("/account")["equity"] == "5000")
    assert trader.get("/account")["last_equity"] == "5000"


def test_a_position_of_earlier_days_has_figures_of_the_day(trader: Trader) -> None:
    """Ten shares bought five days ago at 100.01 are worth 120 now, and 110 at yesterday's close. Null without that."""
    trader.filled("100")
    with trader.system.contexts["orders"].engine.begin() as connection:
        connection.execute(_BUY_FIVE_DAYS_AGO, {"account": trader.account_id})
    push(trader.system, "120")
    eventually(lambda: trader.get("/positions/AAPL")["current_price"] == "120")
    names = ("lastday_price", "change_today", "unrealized_intraday_pl", "unrealized_intraday_plpc")
    shown = trader.get("/positions/AAPL")
    assert [shown[name] for name in names] == [None] * 4
    engine = trader.system.contexts["marketdata"].engine
    try:
        with engine.begin() as connection:
            connection.execute(_CLOSE_YESTERDAY)
        shown = trader.get("/positions/AAPL")
        assert [shown[name] for name in names] == ["110", "0.090909", "100", "0.090909"]
        assert shown["unrealized_pl"] == "199.9"
    finally:
        with engine.begin() as connection:
            connection.execute(_FORGET_YESTERDAY)
    trader.ask("DELETE", "/positions")
    push(trader.system, "120")
    eventually(lambda: trader.get("/positions") == [])
