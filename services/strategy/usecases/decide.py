"""Let one strategy decide on its symbols, and turn its decisions into rows, signals and orders. Pure: no database."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from uuid import UUID, uuid5

from services.strategy.persistence.decisions import DecisionRow, SignalRow
from services.strategy.persistence.market import INTERVALS
from services.strategy.strategies.decision import Decision
from services.strategy.strategies.judgement import Outcome, Trader, check_texts, checked, judge
from services.strategy.strategies.ordering import order_for
from services.strategy.strategies.protections import Standing
from services.strategy.strategies.view import (
    NO_POSITION,
    NO_SESSION,
    Account,
    Bar,
    History,
    Position,
    SymbolView,
    View,
)
from services.strategy.usecases.load import Loaded, Prepared
from shared.contracts.orders import SubmitOrder
from shared.money import ZERO

#: The histories of an evaluation: symbol and interval → its bars with the values of every indicator.
Histories = Mapping[tuple[str, str], History]


@dataclass(frozen=True, slots=True)
class Wish:
    """A decision with its signal and its order. ``cancels`` are exits of a bracket, which hold the shares to sell."""

    row: DecisionRow
    signal: SignalRow | None = None
    order: SubmitOrder | None = None
    cancels: tuple[UUID, ...] = ()


def decide(prepared: Prepared, loaded: Loaded, histories: Histories) -> list[Wish]:
    """The strategy's decisions. Raises whatever the strategy raises, and ValueError for a decision that is none."""
    row, account = prepared.row, loaded.accounts[prepared.row.account_id]
    symbols = {name: _symbol(prepared, loaded, histories, name) for name in row.symbols}
    seen = Account(account.equity, account.cash, account.buying_power, account.currency, account.shorting)
    view = View(loaded.now, symbols, seen, INTERVALS[row.interval])
    standing = Standing(
        loaded.now,
        {name for name, each in symbols.items() if each.position.is_open},
        loaded.entries.get(row.id, 0),
        {symbol: at for (owner, symbol), at in loaded.closed_at.items() if owner == row.id},
    )
    trader = Trader(prepared.sizing, prepared.protections, standing)
    wishes = []
    for decision in checked(prepared.strategy.decide(view), symbols):
        check_texts(decision)
        wishes.append(_wish(prepared, loaded, view, decision, trader))
    return wishes


def _wish(prepared: Prepared, loaded: Loaded, view: View, decision: Decision, trader: Trader) -> Wish:
    """The decision with its order, or with the reasons why it has none."""
    row, symbol = prepared.row, view.symbols[decision.symbol]
    rate, traded = rate_of(loaded, decision.symbol, view.account.currency), (row.id, decision.symbol) in loaded.traded
    judged = judge(decision, symbol, view.account, rate, trader, traded=traded)
    sized = judged.sized
    looked = replace(_row(prepared, view, decision), outcome=judged.outcome, cuts=sized.cuts)
    signal = _signal(prepared, symbol, decision, symbol.bar) if judged.signals and symbol.bar is not None else None
    if sized.side is None or signal is None:
        return Wish(looked, signal)
    order = order_for(
        decision,
        sized,
        sized.side,
        account_id=row.account_id,
        order_id=signal.id,
        client_order_id=f"{row.id}-{signal.bar_at:%Y%m%dT%H%M%S%f}-{decision.symbol}",
        strategy_id=row.id,
        at=loaded.now,
        opens=judged.opens,
    )
    ordered = loaded.ordered.get((row.id, decision.symbol))
    cancels = tuple(ordered.exits) if ordered is not None and judged.closes else ()
    done = replace(looked, side=sized.side, qty=sized.qty, order_id=signal.id)
    return Wish(done, replace(signal, side=sized.side, order_id=signal.id), order, cancels)


def _symbol(prepared: Prepared, loaded: Loaded, histories: Histories, name: str) -> SymbolView:
    instrument, history = loaded.instruments.get(name), histories[name, prepared.row.interval]
    values = {own: history.indicators[key_of(wanted)] for own, wanted in prepared.indicators.items()}
    return SymbolView(
        name,
        History(history.bars, values),
        len(history.bars) - 1,
        _position(prepared, loaded, name),
        instrument.quote if instrument else None,
        loaded.sessions.get(instrument.market, NO_SESSION) if instrument else NO_SESSION,
        rate_of(loaded, name, loaded.accounts[prepared.row.account_id].currency),
    )


def key_of(wanted: object) -> str:
    """The name of an indicator among those of all strategies."""
    return repr(wanted)


def _position(prepared: Prepared, loaded: Loaded, name: str) -> Position:
    key = prepared.row.id, name
    held, ordered = loaded.held.get(key), loaded.ordered.get(key)
    buying, selling = (ordered.buying, ordered.selling) if ordered else (ZERO, ZERO)
    others = loaded.positions.get((prepared.row.account_id, name), ZERO) - (held.qty if held is not None else ZERO)
    if held is None:
        return Position(buying=buying, selling=selling, others=others) if ordered or others else NO_POSITION
    rate = rate_of(loaded, name, loaded.accounts[prepared.row.account_id].currency)
    price = held.cost / held.qty / rate if rate else None
    return Position(held.qty, price, held.entered_at, buying, selling, others)


def rate_of(loaded: Loaded, symbol: str, currency: str) -> Decimal | None:
    """The price of a unit of the instrument's currency in the account's. None where it is not known."""
    instrument = loaded.instruments.get(symbol)
    if instrument is None or instrument.currency == currency:
        return Decimal(1)
    return loaded.rates.get((instrument.currency, currency))


def _row(prepared: Prepared, view: View, decision: Decision) -> DecisionRow:
    symbol = view.symbols[decision.symbol]
    bar, quote = symbol.bar, symbol.quote
    return DecisionRow(
        strategy_id=prepared.row.id,
        symbol=decision.symbol,
        version=prepared.row.version,
        action=decision.action.value,
        outcome=Outcome.HELD,
        reason=decision.reason,
        bar_at=bar.start if bar else None,
        close=bar.close if bar else None,
        last=quote.last if quote else None,
        quote_at=quote.at if quote else None,
        position=symbol.position.qty,
        equity=view.account.equity,
        conditions=decision.conditions,
    )


def _signal(prepared: Prepared, symbol: SymbolView, decision: Decision, bar: Bar) -> SignalRow:
    """The signal of a decision to act. Its id is that of the order which it may send."""
    return SignalRow(
        id=uuid5(prepared.row.id, f"{decision.symbol}/{bar.start.isoformat()}"),
        strategy_id=prepared.row.id,
        symbol=decision.symbol,
        version=prepared.row.version,
        bar_at=bar.start,
        type=decision.action.value,
        side=None,
        price=symbol.quote.last if symbol.quote is not None else bar.close,
        strength=decision.strength,
        confidence=decision.confidence,
        reason=decision.reason,
        indicators={name: symbol.value(name) for name in prepared.indicators},
        order_id=None,
    )
