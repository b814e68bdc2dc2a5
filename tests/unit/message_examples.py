"""One example of every message."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from shared.contracts.account_alerts import (
    AlertKind,
    AlertRaised,
    AlertRecovered,
    AlertRules,
    ProfitAndLoss,
    SetAlertRules,
)
from shared.contracts.account_risk import (
    AccountHalted,
    AccountResumed,
    AccountRiskLimits,
    ResumeAccount,
    RiskKind,
    RiskLimitReached,
    SetRiskLimits,
)
from shared.contracts.accounts import (
    AccountClosed,
    AccountReset,
    AccountSettings,
    CashInLieuPaid,
    CashMoved,
    CashRefused,
    CloseAccount,
    ConfigureAccount,
    DividendPaid,
    InterestCharged,
    MarginCalled,
    MarginCallEnded,
    MoveCash,
    OpenAccount,
    ResetAccount,
)
from shared.contracts.bars import Interval, StoreBars, WholeBar
from shared.contracts.base import Message
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied, EnterCorporateAction
from shared.contracts.halts import HaltTrading, ResumeTrading, TradingHalted, TradingResumed
from shared.contracts.indicators import AddIndicator, GivenParameters, IndicatorName, RemoveIndicator
from shared.contracts.instrument_search import (
    AskedProvider,
    FoundInstrument,
    InstrumentsFound,
    InstrumentsValidated,
    SearchInstruments,
    ValidateInstruments,
    WrongInstrument,
)
from shared.contracts.instruments import (
    AddInstruments,
    ChangeInstrument,
    GivenInstrument,
    InstrumentChanges,
    InstrumentsChanged,
    InstrumentsRefused,
    InstrumentStatus,
    InstrumentTerms,
    TickRule,
)
from shared.contracts.jobs import RunJob
from shared.contracts.official_prices import AuctionKind, EnterOfficialPrice, OfficialPricePublished
from shared.contracts.operations import DiscardDeadLetters, RequeueDeadLetters
from shared.contracts.orders import (
    CancelOrder,
    CancelOrders,
    CancelRejected,
    NewOrder,
    OrderAccepted,
    OrderAdjusted,
    OrderCanceled,
    OrderClass,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    OrderStatus,
    OrderType,
    PositionChanged,
    ReplaceOrder,
    ReplaceRejected,
    Side,
    StopLoss,
    SubmitOrder,
    SubmitOrders,
    TakeProfit,
    TimeInForce,
)
from shared.contracts.prices import (
    NumberedPrice,
    PricesPushed,
    PricesUpdated,
    PushedBar,
    PushPrices,
    RefusedPrice,
    TakenPrice,
)
from shared.contracts.rebalancing import (
    Band,
    CancelRebalance,
    KeepTargets,
    PlanRebalance,
    RebalanceAnswered,
    RebalanceRefused,
    StartRebalance,
    Targets,
)
from shared.contracts.replay import ControlReplay, ReplayAction
from shared.contracts.sessions import ChangeSessions, RemoveSessionChange, SessionsChanged
from shared.contracts.strategy import (
    Action,
    Control,
    ControlStrategy,
    CreateStrategy,
    ReviseStrategy,
    SignalGenerated,
    StrategyChanged,
    StrategyRefused,
    StrategyState,
)
from shared.contracts.valuation import AccountsValued, AccountValue
from tests.unit.trading_examples import quote

ACCOUNT = UUID(int=1)
ORDER = UUID(int=2)
STRATEGY = UUID(int=3)
AT = datetime(2026, 11, 23, 15, 0, 0, 123456, tzinfo=UTC)

OTHER = UUID(int=8)

_of_account: dict[str, Any] = {"account_id": ACCOUNT, "sequence": 7, "at": AT}
_of_order: dict[str, Any] = {**_of_account, "order_id": ORDER}
_of_alert: dict[str, Any] = {
    "alert_id": OTHER,
    "account_id": ACCOUNT,
    "kind": AlertKind.DRAWDOWN,
    "subject": "account",
    "value": Decimal("0.11"),
    "threshold": Decimal("0.1"),
    "at": AT,
}
HALTED = "the drawdown is 21.00% and reached the limit of 20.00%"
_of_halt: dict[str, Any] = {
    "halt_id": OTHER,
    "generation": 1,
    "kind": RiskKind.DRAWDOWN,
    "value": Decimal("0.21"),
    "limit": Decimal("0.2"),
}
TARGETS = Targets(weights={"AAPL": Decimal("0.6")}, cash=Decimal("0.1"), band=Band(value=Decimal("0.05")))
_refused = {**_of_order, "reason": "not_tradable", "message": "symbol FB is not tradable"}
_terms: dict[str, Any] = {"client_order_id": "mine-1", "symbol": "AAPL", "submitted_at": AT, "strategy_id": STRATEGY}
_changes = InstrumentChanges(
    name="Apple Inc.",
    market="XNAS",
    exchange="NASDAQ",
    tick_size=Decimal("0.01"),
    tick_rule=TickRule.FIXED,
    lot_size=Decimal(1),
    fractionable=False,
    shortable=False,
    tradable=True,
    status=InstrumentStatus.ACTIVE,
)
_settings = AccountSettings.model_validate(
    {
        "multiplier": 2,
        "shorting": True,
        "fills": {
            "fills_on": "bar",
            "participation": "0.25",
            "latency": "0.5",
            "slippage": {"kind": "fixed", "rate": "2.5"},
            "commission": {"kind": "per_share", "rate": "0.005", "minimum": "1"},
        },
        "limits": {"max_position_share": "0.2", "orders_per_minute": 60, "blocked_symbols": ["FB"]},
        "strategies": {STRATEGY: {"max_daily_loss": "0.05"}},
    }
)

_ALL: tuple[Message, ...] = (
    PricesUpdated(prices=(quote("AAPL 99.90/100.10 100.000000001"), quote("BRK.B 500000"))),
    OpenAccount(account_id=ACCOUNT, name="Demo", cash=Decimal("100000.00"), currency="CHF"),
    ConfigureAccount(account_id=ACCOUNT, settings=_settings),
    MoveCash(account_id=ACCOUNT, transfer_id=OTHER, amount=Decimal("-250.50")),
    ResetAccount(account_id=ACCOUNT, reset_id=OTHER, cash=Decimal(50000)),
    CloseAccount(account_id=ACCOUNT, closing_id=OTHER),
    SubmitOrder(
        **_terms,
        account_id=ACCOUNT,
        order_id=ORDER,
        side=Side.BUY,
        type=OrderType.STOP_LIMIT,
        time_in_force=TimeInForce.DAY,
        qty=Decimal("0.000000001"),
        limit_price=Decimal("99.5"),
        stop_price=Decimal(98),
    ),
    SubmitOrders(
        account_id=ACCOUNT,
        orders=(
            NewOrder(
                **_terms,
                order_id=ORDER,
                side=Side.SELL,
                type=OrderType.TRAILING_STOP,
                time_in_force=TimeInForce.GTC,
                qty=Decimal(10),
                trail_percent=Decimal("2.5"),
                order_class=OrderClass.BRACKET,
                take_profit=TakeProfit(limit_price=Decimal("89.5")),
                stop_loss=StopLoss(stop_price=Decimal(105), limit_price=Decimal(106)),
            ),
            NewOrder(
                **_terms,
                order_id=OTHER,
                side=Side.BUY,
                type=OrderType.MARKET,
                time_in_force=TimeInForce.DAY,
                notional=Decimal("1000.50"),
            ),
        ),
    ),
    CancelOrder(account_id=ACCOUNT, order_id=ORDER, requested_at=AT),
    CancelOrders(account_id=ACCOUNT, order_ids=(ORDER,), requested_at=AT),
    ReplaceOrder(
        account_id=ACCOUNT,
        order_id=ORDER,
        new_order_id=OTHER,
        client_order_id="mine-2",
        qty=Decimal(12),
        time_in_force=TimeInForce.GTC,
        limit_price=Decimal("99.75"),
        stop_price=Decimal("98.5"),
        trail=Decimal("1.5"),
        requested_at=AT,
    ),
    OrderAccepted(**_of_order),
    OrderRejected(**_refused),
    OrderFilled(
        **_of_order,
        fill_id=UUID(int=4),
        symbol="AAPL",
        side=Side.SELL,
        qty=Decimal("1.5"),
        price=Decimal("100.10"),
        currency="EUR",
        rate=Decimal("1.083456789012"),
        fee=Decimal(0),
        price_sequence=9,
        order_status=OrderStatus.PARTIALLY_FILLED,
        filled_qty=Decimal("1.5"),
        position_qty=Decimal("8.5"),
        cash=Decimal("1E+5"),
    ),
    OrderCanceled(**_of_order),
    CancelRejected(**_refused),
    OrderReplaced(**_of_order, new_order_id=OTHER),
    ReplaceRejected(**_refused, new_order_id=OTHER),
    OrderAdjusted(**_of_order, qty=Decimal("16.5"), limit_price=Decimal("45.000000001"), stop_price=None),
    InterestCharged(**_of_account, day=AT.date(), amount=Decimal("5.00"), cash=Decimal("-5.00")),
    MarginCalled(**_of_account, equity=Decimal(2400), required=Decimal("2850.50"), due_at=AT),
    MarginCallEnded(**_of_account, how="met"),
    DividendPaid(
        **_of_account,
        action_id=UUID(int=5),
        symbol="AAPL",
        qty=Decimal(-10),
        amount=Decimal("-2.55"),
        cash=Decimal("99997.45"),
    ),
    CashInLieuPaid(
        **_of_account,
        action_id=UUID(int=5),
        symbol="AAPL",
        qty=Decimal("0.333333333"),
        amount=Decimal("9.99"),
        cash=Decimal("10009.99"),
    ),
    EnterCorporateAction(
        action_id=UUID(int=5), symbol="AAPL", kind=ActionKind.SPLIT, ratio=Decimal("0.333333333"), effective_at=AT
    ),
    CorporateActionApplied(
        action_id=UUID(int=5),
        symbol="AAPL",
        kind=ActionKind.DIVIDEND,
        amount=Decimal("0.255"),
        effective_at=AT,
        split_count=2,
    ),
    EnterOfficialPrice(
        symbol="AAPL",
        kind=AuctionKind.OPEN,
        day=date(2026, 11, 23),
        price=Decimal("101.25"),
        volume=Decimal(120000),
        held_at=AT,
    ),
    OfficialPricePublished(
        symbol="AAPL",
        kind=AuctionKind.CLOSE,
        day=date(2026, 11, 23),
        price=Decimal("102.5"),
        volume=Decimal(450000),
        held_at=AT,
        sequence=4,
        split_count=1,
        provider="replay",
    ),
    PushPrices(
        push_id=UUID(int=7),
        pushed=(
            NumberedPrice(
                index=0,
                symbol="AAPL",
                bid=Decimal("99.99"),
                ask=Decimal("100.01"),
                bid_size=Decimal(1),
                ask_size=Decimal(2),
                last=Decimal(100),
                currency="USD",
                at=AT,
                bar=PushedBar(
                    open=Decimal(99),
                    high=Decimal(101),
                    low=Decimal(98),
                    close=Decimal(100),
                    volume=Decimal(1000),
                    start=AT - timedelta(minutes=1),
                    end=AT,
                ),
            ),
        ),
        received_at=AT,
    ),
    PricesPushed(
        push_id=UUID(int=7),
        taken=(TakenPrice(index=0, symbol="AAPL", sequence=8),),
        refused=(RefusedPrice(index=1, symbol="IBM", reason="older", message="at: is not after the current price"),),
    ),
    AddInstruments(
        request_id=UUID(int=7),
        instruments=(InstrumentTerms.model_validate({"symbol": "BTC/USD", "name": "Bitcoin"}),),
        pairs_with=("USD", "EUR"),
    ),
    ChangeInstrument(request_id=UUID(int=7), symbol="AAPL", changes=_changes),
    InstrumentsChanged(request_id=UUID(int=7), symbols=("BTC/EUR",), added=("BTC/EUR", "EUR/USD")),
    InstrumentsRefused(
        request_id=UUID(int=7),
        symbol="AAPL",
        place=0,
        field="symbol",
        reason="duplicate",
        message="symbol: AAPL exists with another market; change it instead",
    ),
    SearchInstruments(
        request_id=UUID(int=7),
        words="spy",
        terms=InstrumentTerms.model_validate({"symbol": "SPY"}),
        requested_at=datetime(2026, 11, 23, 15, tzinfo=UTC),
    ),
    InstrumentsFound(
        request_id=UUID(int=7),
        match=FoundInstrument(symbol="SPY", name="SPDR S&P 500", market="XNYS", currency="USD", provider="yahoo"),
        asked=(AskedProvider(provider="yahoo"), AskedProvider(provider="alpaca", problem="answered with status 500")),
    ),
    ValidateInstruments(
        request_id=UUID(int=7),
        instruments=(GivenInstrument(symbol="SPY"), GivenInstrument(symbol="VOD", market="XLON", currency="GBP")),
        requested_at=datetime(2026, 11, 23, 15, tzinfo=UTC),
    ),
    InstrumentsValidated(
        request_id=UUID(int=7),
        wrong=(WrongInstrument(place=1, field="symbol", message="symbol: yahoo does not have VOD on XLON"),),
        asked=(AskedProvider(provider="yahoo"),),
    ),
    StoreBars(
        bars=(
            WholeBar(
                symbol="AAPL",
                interval=Interval.MINUTE,
                start=AT.replace(second=0, microsecond=0),
                open=Decimal("123.45"),
                high=Decimal(124),
                low=Decimal(123),
                close=Decimal("123.5"),
                volume=Decimal(1000),
                provider="import",
            ),
        )
    ),
    ControlReplay(action=ReplayAction.SPEED, speed=Decimal(2)),
    AddIndicator(
        symbol="AAPL",
        interval="1h",
        name=IndicatorName.BOLLINGER,
        parameters=GivenParameters(period=30, deviations=Decimal("2.5")),
        requested_at=AT,
    ),
    RemoveIndicator(symbol="AAPL", indicator_id=UUID(int=7)),
    HaltTrading(halt_id=UUID(int=7), symbol="AAPL", reason="news pending"),
    ResumeTrading(symbol="AAPL"),
    TradingHalted(halt_id=UUID(int=7), symbol="AAPL", reason="news pending", began_at=AT),
    TradingResumed(halt_id=UUID(int=7), symbol="AAPL", ended_at=AT),
    ChangeSessions(change_id=OTHER, market="XNYS", day=AT.date(), close_at=AT, reason="power failure"),
    RemoveSessionChange(change_id=OTHER, market="XNYS"),
    SessionsChanged(change_id=OTHER, market="XNYS", days=(date(2026, 11, 24),)),
    OrderExpired(**_of_order),
    PositionChanged(**_of_account, symbol="AAPL", qty=Decimal("-8.5"), cost=Decimal("-850.25")),
    CashMoved(**_of_account, transfer_id=OTHER, amount=Decimal("-250.50"), cash=Decimal("99749.50")),
    CashRefused(**_of_account, transfer_id=OTHER, reason="insufficient_cash", message="only 10 can be withdrawn"),
    AccountReset(**_of_account, reset_id=OTHER, generation=2, cash=Decimal(50000)),
    AccountClosed(**_of_account, closing_id=OTHER, generation=3),
    SetAlertRules(
        account_id=ACCOUNT,
        rules=AlertRules(profit_and_loss=(ProfitAndLoss(amount=Decimal(100), window=60),), drawdown=Decimal("0.1")),
    ),
    AlertRaised(**_of_alert, message="The account is 11.00% below its highest value, and alerts at 10.00%"),
    AlertRecovered(**_of_alert),
    SetRiskLimits(account_id=ACCOUNT, limits=AccountRiskLimits(max_drawdown=Decimal("0.2"))),
    RiskLimitReached(**_of_halt, account_id=ACCOUNT, message=HALTED, after=OTHER, at=AT),
    ResumeAccount(account_id=ACCOUNT, halt_id=OTHER, resumed_by="OPERATOR1"),
    AccountHalted(**_of_halt, account_id=ACCOUNT, reason=HALTED, sequence=7, at=AT),
    AccountResumed(account_id=ACCOUNT, halt_id=OTHER, sequence=8, at=AT),
    PlanRebalance(request_id=OTHER, account_id=ACCOUNT, targets=TARGETS),
    StartRebalance(request_id=OTHER, account_id=ACCOUNT, preview_id=OTHER),
    CancelRebalance(request_id=OTHER, account_id=ACCOUNT, rebalance_id=OTHER),
    KeepTargets(request_id=OTHER, account_id=ACCOUNT, targets=TARGETS),
    RebalanceAnswered(request_id=OTHER, rebalance_id=OTHER),
    RebalanceRefused(
        request_id=OTHER, field="weights.IBM", reason="invalid", message="weights.IBM: unknown instrument IBM"
    ),
    AccountsValued(
        values=(
            AccountValue(
                account_id=ACCOUNT,
                cash=Decimal("0.10"),
                market_value=Decimal("12.5"),
                equity=Decimal("12.60"),
                unrealized_pl=Decimal("-3.75"),
            ),
        ),
        at=AT,
    ),
    CreateStrategy(
        request_id=UUID(int=8),
        strategy_id=STRATEGY,
        account_id=ACCOUNT,
        name="my crossover",
        kind="sma_crossover",
        parameters={"fast": 10, "slow": 20},
        symbols=("AAPL", "MSFT"),
        interval="1h",
        schedule="1h",
        sizing={"kind": "equity", "value": "0.1"},
        protections={"max_trades_per_day": 5},
    ),
    ReviseStrategy(request_id=UUID(int=8), strategy_id=STRATEGY, changes={"parameters": {"fast": 12}}),
    ControlStrategy(request_id=UUID(int=8), strategy_id=STRATEGY, action=Control.START),
    StrategyChanged(request_id=UUID(int=8), strategy_id=STRATEGY, strategy_version=2, state=StrategyState.RUNNING),
    StrategyRefused(
        request_id=UUID(int=8),
        strategy_id=STRATEGY,
        field="symbols",
        reason="invalid",
        message="symbols: unknown instruments: NOSUCH",
    ),
    SignalGenerated(
        signal_id=UUID(int=5),
        strategy_id=STRATEGY,
        account_id=ACCOUNT,
        symbol="AAPL",
        action=Action.BUY,
        price=Decimal("100.10"),
        bar_at=AT,
        reason="fast average 101 above slow 100",
    ),
    RunJob(to="orders", run_id=UUID(int=6), job="process_orders", parameters={"symbols": ["AAPL"], "limit": 5}),
    RequeueDeadLetters(to="orders", letters=(1, 2), who="operator"),
    DiscardDeadLetters(to="orders", letters=(3,), who="operator"),
)
EXAMPLES: dict[type[Message], Message] = {type(message): message for message in _ALL}
