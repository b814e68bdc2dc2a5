"""The checks of every new price, whichever provider it came from, and the reading of pushed ones."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.marketdata.domain.price_checks import Known, PriceFault, Refusal, refuse
from services.marketdata.domain.quote import Quote
from services.marketdata.providers.push import quote_of
from services.marketdata.usecases.refused_prices import LOG_EVERY, RefusedLog
from shared.contracts.prices import PushedBar, PushedPrice

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HUNDRED = Decimal(100)
KNOWN = Known("USD", quoted_at=NOON - SECOND, last=HUNDRED, provider="yahoo")
QUOTE = Quote(
    symbol="AAPL",
    bid=Decimal("99.99"),
    ask=Decimal("100.01"),
    bid_size=HUNDRED,
    ask_size=HUNDRED,
    last=HUNDRED,
    open=HUNDRED,
    high=HUNDRED,
    low=HUNDRED,
    close=HUNDRED,
    volume=Decimal(0),
    quoted_at=NOON,
    provider="yahoo",
)


def fault(known: Known | None = KNOWN, **changes: Any) -> str | None:
    refusal = refuse(replace(QUOTE, **changes), known, NOON)
    return None if refusal is None else refusal.fault.value


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bid": None},
        {"ask": None, "ask_size": None},
        {"bid": None, "ask": None},
        {"bid": HUNDRED, "ask": HUNDRED},
        {"bid_size": Decimal(0)},
        {"currency": "USD"},
        {"quoted_at": NOON + 5 * SECOND},
        {"last": Decimal("149.99")},
        {"last": Decimal("1E-9"), "volume": Decimal(1)},
        {"last": Decimal("50.123456789000")},
    ],
)
def test_a_good_price_passes(changes: dict[str, Any]) -> None:
    """A missing side is no fault."""
    assert fault(**changes) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({name: Decimal(0)}, "not_positive") for name in ("bid", "ask", "last", "open", "high", "low", "close")),
        ({"last": Decimal(-1)}, "not_positive"),
        *(({"last": Decimal(text)}, "not_finite") for text in ("NaN", "sNaN", "Infinity", "-Infinity")),
        ({"volume": Decimal("NaN")}, "not_finite"),
        ({"bid_size": Decimal("Infinity")}, "not_finite"),
        ({"ask": Decimal("1E13")}, "too_large"),
        ({"last": Decimal("100.0000000001")}, "decimals"),
        ({"volume": Decimal(-1)}, "size"),
        ({"ask_size": Decimal(-1)}, "size"),
        ({"bid": Decimal("100.02")}, "crossed"),
        ({"low": Decimal(101)}, "bar"),
        ({"high": Decimal(99)}, "bar"),
        ({"open": Decimal(102)}, "bar"),
        ({"bar_start": NOON + SECOND}, "bar"),
        ({"quoted_at": NOON + 6 * SECOND}, "ahead"),
        ({"quoted_at": NOON - SECOND}, "older"),
        ({"quoted_at": NOON - 2 * SECOND}, "older"),
        ({"currency": "GBP"}, "currency"),
        ({"last": Decimal("150.01")}, "jump"),
        ({"last": Decimal("49.99")}, "jump"),
    ],
)
def test_a_bad_price_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    """Its message says what is wrong."""
    assert fault(**changes) == reason


def test_a_price_of_nobody_and_of_a_halted_instrument_is_refused() -> None:
    """Neither during a halt nor from before its end."""
    assert fault(None) == "unknown_symbol"
    assert fault(replace(KNOWN, halted_at=NOON)) == "halted"
    assert fault(replace(KNOWN, resumed_at=NOON + SECOND)) == "halted"
    assert fault(replace(KNOWN, resumed_at=NOON)) is None


def test_the_first_real_price_may_be_far_from_a_made_up_one() -> None:
    """Whoever goes live after the demo has its prices in the database."""
    far = {"last": Decimal(650)}
    assert [fault(replace(KNOWN, provider=name), **far) for name in ("replay", "simulated", "push")] == [
        None,
        None,
        "jump",
    ]
    assert fault(Known("USD"), **far) is None


def pushed(**fields: Any) -> Quote | Refusal:
    return quote_of(PushedPrice.model_validate({"symbol": "AAPL", **fields}), NOON)


BAR = {"open": "1", "high": "3", "low": "1", "close": "2", "volume": "10"}


@pytest.mark.parametrize(
    ("fields", "last"),
    [
        ({"last": "5", "bid": "4", "ask": "6"}, "5"),
        ({"bar": BAR, "bid": "4", "ask": "6"}, "2"),
        ({"bid": "1.01", "ask": "1.02"}, "1.015"),
        ({"bid": "0.000000001", "ask": "0.000000002"}, "0.000000002"),
    ],
)
def test_a_missing_last_is_the_bar_s_close_or_the_middle_of_both_sides(fields: dict[str, Any], last: str) -> None:
    """No other side is made up."""
    quote = pushed(**fields)
    assert isinstance(quote, Quote)
    assert (quote.last, quote.bid is None) == (Decimal(last), "bid" not in fields)


def test_a_price_with_one_side_only_has_no_last() -> None:
    """A spread is not invented."""
    refusal = pushed(bid="1")
    assert isinstance(refusal, Refusal)
    assert refusal.fault is PriceFault.NO_LAST


def test_the_time_of_a_price_is_its_own_or_the_end_of_its_bar_or_now() -> None:
    """In this order."""
    end = NOON - SECOND
    given = {"bar": {**BAR, "start": end - 60 * SECOND, "end": end}}
    for fields, at in (({**given, "at": NOON}, NOON), (given, end), ({"last": "1"}, NOON)):
        quote = pushed(**fields)
        assert isinstance(quote, Quote)
        assert quote.quoted_at == at


@pytest.mark.parametrize(("minutes", "interval"), [(1, None), (5, "5m"), (60, "1h"), (1440, "1d"), (7, None)])
def test_a_pushed_bar_names_its_interval(minutes: int, interval: str | None) -> None:
    """Where it is as long as one that is stored."""
    quote = pushed(bar={**BAR, "start": NOON - timedelta(minutes=minutes), "end": NOON})
    assert isinstance(quote, Quote)
    assert quote.interval == interval


@pytest.mark.parametrize("span", [{"start": NOON, "end": NOON}, {"start": NOON - SECOND, "end": NOON + SECOND}])
def test_a_bar_that_ends_before_it_began_or_after_its_price_is_refused(span: dict[str, datetime]) -> None:
    """What is not over yet was not traded."""
    refusal = quote_of(PushedPrice(symbol="AAPL", at=NOON, bar=PushedBar.model_validate({**BAR, **span})), NOON)
    assert isinstance(refusal, Refusal)
    assert refusal.fault is PriceFault.BAR


def test_a_repeated_fault_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """With the number of those in between. Another fault has its own line."""
    log = RefusedLog()
    crossed, jump = (Refusal(each, "why") for each in (PriceFault.CROSSED, PriceFault.JUMP))
    for number in range(100):
        log.add(NOON + number * timedelta(milliseconds=10), QUOTE, crossed)
    log.add(NOON, QUOTE, jump)
    log.add(NOON + LOG_EVERY, QUOTE, crossed)
    lines = [record for record in caplog.records if record.msg == "price refused"]
    assert [(record.reason, record.others_meanwhile) for record in lines] == [  # type: ignore[attr-defined]
        ("crossed", 0),
        ("jump", 0),
        ("crossed", 99),
    ]
