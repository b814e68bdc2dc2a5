"""The strategy of a backtest at the end of a bar: its protections, its decisions, and their orders.

Decisions are judged by the code of live trading (``strategies/judgement.py``). As there, all decisions of one moment
see the same account, and their orders follow when all are made.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from services.strategy.backtest.copies import copied
from services.strategy.backtest.exchange import BacktestExchange
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Backtest, Decided, Setup
from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.guard import StrategyFailed, Watchdog, gathered
from services.strategy.strategies.judgement import Judged, Outcome, Trader, check_texts, checked, judge
from services.strategy.strategies.ordering import order_for, order_to_close
from services.strategy.strategies.protections import (
    Largest,
    Standing,
    Watch,
    halt,
    halt_of_failures,
    market_day,
    watched,
)
from services.strategy.strategies.view import View
from shared.contracts.markets import DEFAULT_MARKET
from shared.contracts.orders import OrderStatus, Side, SubmitOrder
from shared.contracts.risk_marks import share_of
from shared.exchange.lots import cost_of
from shared.money import ZERO


class BacktestTrader:
    """It lets the strategy decide, and sends its orders to the exchange."""

    def __init__(
        self,
        setup: Setup,
        exchange: BacktestExchange,
        result: Backtest,
        series: Sequence[Series],
        watchdog: Watchdog,
        *,
        on_bars: bool,
    ) -> None:
        self._setup, self._exchange, self._result, self._on_bars = setup, exchange, result, on_bars
        self._watchdog = watchdog
        #: Decisions that failed one after another.
        self.failures = 0
        self._calendars = {each.symbol: each.calendar for each in series}
        self._market = series[0].calendar.market if series else DEFAULT_MARKET
        #: The times of the orders to enter, and the start of the bar on which each symbol was traded last.
        self._entries: list[datetime] = []
        self._traded: dict[str, datetime] = {}
        self._watch = Watch()
        #: Plain orders by their terms, and the largest quantity that was validated.
        self._plain: dict[tuple[str, Side, bool], SubmitOrder] = {}
        self._largest = ZERO
        self._seen = self._losses = 0
        self._realized = ZERO

    def decide(self, view: View) -> None:
        """Look at the protections, let the strategy decide, and submit its orders.

        As in live trading nothing is ordered where a decision fails.
        """
        if self._setup.protections.on_results and self._halts(view):
            return
        try:
            decisions = self._watchdog.decide(self._decided, view)
            wanted = gathered(lambda found: self._wanted(found, view), decisions)
        except StrategyFailed as error:
            self._fail(view, str(error))
            return
        self.failures = 0
        self._result.decisions += len(decisions)
        for decision, judged, order in wanted:
            self._result.decided.append(self._submit(decision, judged, order, view))

    def _wanted(
        self, decisions: Sequence[Decision], view: View
    ) -> Sequence[tuple[Decision, Judged, SubmitOrder | None]]:
        """The decisions to act with their outcomes and orders."""
        acting = [each for each in decisions if each.action is not Action.HOLD]
        if not acting:
            return ()
        trader = Trader(self._setup.sizing, self._setup.protections, self._standing(view))
        judged = [(each, self._judged(each, view, trader)) for each in acting]
        return [(each, found, self._order(each, found, view)) for each, found in judged]

    def _fail(self, view: View, error: str) -> None:
        """Count a decision that failed, and halt the strategy after too many."""
        self.failures += 1
        self._result.failures.append((view.now, error))
        why = halt_of_failures(self._setup.protections, self.failures, error)
        if why is not None:
            self._halt(view, why)

    def _decided(self, view: View) -> list[Decision]:
        found = list(checked(self._setup.strategy.decide(view), view.symbols))
        for decision in found:
            if decision.action is not Action.HOLD:
                check_texts(decision)
        return found

    def _judged(self, decision: Decision, view: View, trader: Trader) -> Judged:
        symbol, rate = view.symbols[decision.symbol], self._exchange.rate(decision.symbol)
        bar = symbol.bar
        traded = bar is not None and self._traded.get(decision.symbol) == bar.start
        return judge(decision, symbol, view.account, None if rate is None else rate.last, trader, traded=traded)

    def _submit(self, decision: Decision, judged: Judged, order: SubmitOrder | None, view: View) -> Decided:
        exchange, sized = self._exchange, judged.sized
        symbol = view.symbols[decision.symbol]
        if order is None or symbol.bar is None:
            return Decided(view.now, decision, judged.outcome, sized, None, None)
        self._traded[decision.symbol] = symbol.bar.start
        if judged.closes:
            exits = exchange.exits(decision.symbol)
            if exits:
                exchange.end(exits, OrderStatus.CANCELED, view.now)
        if judged.opens:
            self._entries.append(view.now)
        refusal = exchange.submit(order, view.now, session_end=self._session_end(decision.symbol, view.now))
        symbol.position = exchange.position(decision.symbol)
        return Decided(view.now, decision, judged.outcome, sized, order.order_id, refusal.message if refusal else None)

    def _order(self, decision: Decision, judged: Judged, view: View) -> SubmitOrder | None:
        """The order, or None. One like a validated one of plain terms differs in its id, time and quantity only."""
        sized, side, now = judged.sized, judged.sized.side, view.now
        if judged.outcome is not Outcome.ORDERED or side is None:
            return None
        order_id = self._exchange.order_id()
        terms = (decision.symbol, side, sized.qty % 1 == 0)
        is_plain = decision.limit_price is decision.stop_loss is decision.take_profit is None
        like = self._plain.get(terms) if is_plain and sized.qty <= self._largest else None
        if like is not None:
            return copied(like, order_id=order_id, qty=sized.qty, submitted_at=now)
        order = order_for(
            decision,
            sized,
            side,
            account_id=self._exchange.seed,
            order_id=order_id,
            client_order_id=str(order_id),
            strategy_id=self._exchange.seed,
            at=now,
            opens=judged.opens,
        )
        if is_plain:
            self._plain[terms] = order
            self._largest = max(self._largest, sized.qty)
        return order

    def _session_end(self, symbol: str, now: datetime) -> datetime | None:
        """The end of day orders. On bars without sessions it follows from the bars instead."""
        calendar = self._calendars[symbol]
        if calendar.days:
            return calendar.end_after(now)
        if self._on_bars:
            return None
        return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)

    def _standing(self, view: View) -> Standing:
        entries = 0
        if self._setup.protections.max_trades_per_day:
            begin, _ = market_day(self._market, view.now)
            entries = sum(at >= begin for at in self._entries)
        held = {name for name, each in view.symbols.items() if each.position.is_open}
        return Standing(view.now, held, entries, self._exchange.closed_at)

    def _halts(self, view: View) -> bool:
        """True if a protection pauses the strategy, for the rest of the backtest."""
        trips = self._exchange.round_trips
        for trip in trips[self._seen :]:
            self._realized += trip.closed.realized
            self._losses = self._losses + 1 if trip.closed.realized < 0 else 0
        self._seen = len(trips)
        protections, equity = self._setup.protections, view.account.equity
        profit, largest = self._profit(), self._largest_position(equity)
        day, limit = market_day(self._market, view.now)[1], protections.max_concentration
        self._watch = watched(self._watch, profit=profit, day=day, largest=largest, limit=limit)
        why = halt(protections, self._watch, profit=profit, losses=self._losses, equity=equity, largest=largest)
        if why is None:
            return False
        self._halt(view, why)
        return True

    def _halt(self, view: View, why: str) -> None:
        self._result.halted = (view.now, why)
        if self._setup.protections.flatten:
            self._flatten(view)

    def _profit(self) -> Decimal:
        """The profit so far, realized or not, in the account's currency."""
        exchange, profit = self._exchange, self._realized
        for symbol, qty in exchange.held.items():
            rate = exchange.rate(symbol)
            if rate is not None:
                profit += qty * exchange.last[symbol] * rate.last - cost_of(exchange.lots[symbol])
        return profit

    def _largest_position(self, equity: Decimal) -> Largest:
        exchange, found = self._exchange, Largest()
        for symbol, qty in exchange.held.items():
            rate = exchange.rate(symbol)
            if rate is not None:
                share = share_of(abs(qty) * exchange.last[symbol] * rate.last, equity)
                found = max(found, Largest(symbol, share), key=lambda each: each.share)
        return found

    def _flatten(self, view: View) -> None:
        """Cancel all orders, and close all positions at the market."""
        exchange = self._exchange
        orders = [order for each in exchange.open_orders.values() for order in each.values()]
        exchange.end(orders, OrderStatus.CANCELED, view.now)
        for symbol, qty in list(exchange.held.items()):
            order_id = exchange.order_id()
            order = order_to_close(
                symbol,
                qty,
                account_id=exchange.seed,
                order_id=order_id,
                client_order_id=str(order_id),
                strategy_id=exchange.seed,
                at=view.now,
            )
            exchange.submit(order, view.now, session_end=self._session_end(symbol, view.now))
        for symbol, each in view.symbols.items():
            each.position = exchange.position(symbol)
