"""The number of shares of a decision. The same rules hold live and in a backtest."""

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.view import Account, Position, SymbolView
from shared.contracts.orders import Side
from shared.contracts.sizing import Sizing
from shared.exchange.acceptance.sizing import ALLOWANCE, SHORT_ALLOWANCE
from shared.exchange.order import LEAST_QTY
from shared.money import ZERO

__all__ = ["ATR", "Sized", "Sizing", "Terms", "size"]

#: The name of the average true range. A strategy may have its own of that name.
ATR = "atr"

WHOLE = Decimal(1)


class Sized(NamedTuple):
    """The order that a decision becomes. ``side`` is None for none. ``cuts`` say what made it smaller, in sentences."""

    side: Side | None
    qty: Decimal = ZERO
    cuts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """The facts on which a size depends. ``rate`` is the price of a unit of the instrument's currency."""

    account: Account
    price: Decimal
    rate: Decimal = WHOLE


def size(decision: Decision, symbol: SymbolView, sizing: Sizing, terms: Terms) -> Sized:
    """The order for the decision, within the limits of the position and the buying power.

    An exit closes the whole position, less what open orders sell already. An entry opens nothing where the strategy
    holds the symbol or has an open order to enter it.
    """
    position = symbol.position
    buys = decision.action in {Action.BUY, Action.TARGET}
    if buys and position.others < 0 and position.qty >= 0:
        return Sized(None, cuts=(_of_others(position),))
    match decision.action:
        case Action.HOLD:
            return Sized(None)
        case Action.EXIT:
            return _exit(position.qty, buying=position.buying, selling=position.selling)
        case Action.TARGET:
            return _target(decision, symbol, sizing, terms)
        case Action.BUY:
            asked = (decision.notional or ZERO) / (terms.price * terms.rate)
            return _limited(Side.BUY, asked, position.qty + position.buying, sizing, terms)
    return _enter(decision, symbol, sizing, terms)


def _enter(decision: Decision, symbol: SymbolView, sizing: Sizing, terms: Terms) -> Sized:
    """The order that opens a position. It closes one on the other side first."""
    position, short = symbol.position, decision.action is Action.ENTER_SHORT
    if position.qty < 0 if short else position.qty > 0:
        return Sized(None, cuts=("The strategy holds the symbol already.",))
    if position.selling if short else position.buying:
        return Sized(None, cuts=("An order to enter is open.",))
    only = _closing_only(position, terms.account, short=short)
    if only is not None:
        closing = _exit(position.qty, buying=position.buying, selling=position.selling) if position.qty else Sized(None)
        return closing._replace(cuts=(*closing.cuts, only))
    asked, why = _asked(decision, symbol, sizing, terms)
    if sizing.fractional and (decision.stop_loss is not None or decision.take_profit is not None):
        whole, sizing = asked // 1, sizing.model_copy(update={"fractional": False})
        why = (*why, *(("Cut to whole shares, because fractions take no stop loss and no take profit.",)
                       if whole != asked else ()))  # fmt: skip
    opening = _limited(Side.SELL if short else Side.BUY, asked, ZERO, sizing, terms, why)
    if opening.side is None and position.qty:
        closing = _exit(position.qty, buying=position.buying, selling=position.selling)
        return closing._replace(cuts=(*closing.cuts, *opening.cuts))
    return opening if opening.side is None else opening._replace(qty=opening.qty + abs(position.qty))


def _closing_only(position: Position, account: Account, *, short: bool) -> str | None:
    """The reason why the account can hold no position on that side, or None."""
    if short and not account.shorting:
        return "The account's settings do not allow short sales."
    return _of_others(position) if (position.others > 0 if short else position.others < 0) else None


def _of_others(position: Position) -> str:
    """The cut of an order on the other side. An account has one position in a symbol, which the order would close."""
    number = f"{abs(position.others).normalize():f} shares"
    if position.others > 0:
        return f"The account holds {number} that others bought, which a short sale would sell."
    return f"The account is short of {number} that others sold, which a purchase would buy back."


def _exit(qty: Decimal, *, buying: Decimal, selling: Decimal) -> Sized:
    left = qty - selling if qty > 0 else qty + buying
    if qty > 0 and left > 0:
        return Sized(Side.SELL, left)
    if qty < 0 and left < 0:
        return Sized(Side.BUY, -left)
    return Sized(None, cuts=("There is nothing to close." if not qty else "An order to close is open.",))


def _target(decision: Decision, symbol: SymbolView, sizing: Sizing, terms: Terms) -> Sized:
    position = symbol.position
    held = position.qty + position.buying - position.selling
    wanted = (decision.weight or ZERO) * terms.account.equity / (terms.price * terms.rate)
    change = wanted - held
    if change > 0:
        return _limited(Side.BUY, change, max(held, ZERO), sizing, terms)
    qty = _in_units(min(-change, max(held, ZERO)), sizing)
    return Sized(Side.SELL, qty) if qty else Sized(None)


def _asked(decision: Decision, symbol: SymbolView, sizing: Sizing, terms: Terms) -> tuple[Decimal, tuple[str, ...]]:
    """The shares that the rule of size asks for, and a sentence where it cannot say."""
    worth, part = terms.price * terms.rate, terms.account.equity * sizing.value
    if sizing.kind == "risk":
        if decision.stop_loss is None or decision.stop_loss == terms.price:
            return ZERO, ("The size follows from the stop loss, and the decision has none.",)
        return part / (abs(terms.price - decision.stop_loss) * terms.rate), ()
    if sizing.kind == "volatility":
        atr = symbol.value(ATR)
        if not atr:
            return ZERO, ("The size follows from the average true range, which is not known.",)
        return part / (Decimal(str(atr)) * terms.rate), ()
    return {"qty": sizing.value, "notional": sizing.value / worth, "equity": part / worth}[sizing.kind], ()


def _limited(
    side: Side, asked: Decimal, held: Decimal, sizing: Sizing, terms: Terms, why: tuple[str, ...] = ()
) -> Sized:
    """The quantity within the position's limits and the buying power, rounded down."""
    worth = terms.price * terms.rate
    share = sizing.max_position_share
    limits = {
        "max_position_qty": sizing.max_position_qty,
        "max_position_notional": None if sizing.max_position_notional is None else sizing.max_position_notional / worth,
        "max_position_share": None if share is None else terms.account.equity * share / worth,
    }
    rooms = {name: max(limit - held, ZERO) for name, limit in limits.items() if limit is not None}
    allowance = ALLOWANCE if side is Side.BUY else SHORT_ALLOWANCE  # the exchange reserves as much above the price
    rooms["the buying power"] = max(terms.account.buying_power, ZERO) / (worth * allowance)
    cuts = list(why)
    qty = asked
    for name, room in rooms.items():
        if room < qty:
            qty = room
            cuts.append(f"Cut to {_in_units(room, sizing).normalize():f} by {name}.")
    qty = _in_units(qty, sizing)
    if not qty and asked:
        cuts.append("Nothing is left to order.")
    return Sized(side if qty else None, qty, tuple(cuts))


def _in_units(qty: Decimal, sizing: Sizing) -> Decimal:
    unit = LEAST_QTY if sizing.fractional else WHOLE
    return qty // unit * unit
