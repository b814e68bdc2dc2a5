"""The orders that bring an account to its target weights, with all that is left out and why. Pure: no database.

Weights are parts of the equity at last prices. Quantities are rounded down to the lot, or to the ninth decimal where
fractions are traded. Buys spend at most the free cash and the estimated proceeds, less the cash that is to be left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal
from uuid import UUID

from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import Side
from shared.contracts.rebalancing import Targets
from shared.exchange import costs
from shared.exchange.acceptance.sizing import ALLOWANCE
from shared.exchange.order import LEAST_QTY
from shared.money import ZERO, cents_down, cents_up, plain

_WEIGHT = Decimal("0.000001")
_BASIS_POINT = Decimal("0.0001")


@dataclass(frozen=True)
class AccountFacts:
    """An account at current prices, in its currency. ``free`` is the cash that no order has reserved."""

    id: UUID
    currency: str
    generation: int
    equity: Decimal
    cash: Decimal
    free: Decimal
    settings: AccountSettings
    halt_reason: str | None = None


@dataclass(frozen=True)
class Listed:
    """An instrument and the account's position in it. ``rate`` is the price of a unit of its currency.

    ``stale``: its market is open and its price is old. ``ordered``: the account has an open order in it.
    ``splitting``: its price has a split that the books do not have yet.
    """

    symbol: str
    qty: Decimal = ZERO
    last: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    rate: Decimal | None = None
    tradable: bool = True
    halted: bool = False
    stale: bool = False
    is_open: bool = True
    ordered: bool = False
    splitting: bool = False
    lot_size: Decimal = Decimal(1)
    fractionable: bool = True
    shortable: bool = True

    @property
    def worth(self) -> Decimal:
        """The last price in the account's currency, zero where it is not known."""
        return (self.last or ZERO) * (self.rate or ZERO)

    def price(self, side: Side) -> Decimal:
        """The price at which a market order fills now, in the account's currency."""
        quoted = self.ask if side is Side.BUY else self.bid
        return (quoted or self.last or ZERO) * (self.rate or ZERO)


@dataclass(frozen=True)
class PlannedOrder:
    """A market order. Money is in the account's currency. ``cut`` says what made it smaller."""

    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    value: Decimal
    cost: Decimal
    cut: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """A symbol that is not traded. ``reason`` is a word for programs, ``message`` the sentence for people."""

    symbol: str
    reason: str
    message: str


@dataclass(frozen=True)
class WeightRow:
    """The weight of a symbol. ``target`` is None for a position that has none."""

    symbol: str
    target: Decimal | None
    before: Decimal
    after: Decimal


@dataclass(frozen=True)
class Plan:
    """``budget`` is the cash that the buys may spend beside the proceeds of the sells."""

    equity: Decimal
    orders: Sequence[PlannedOrder]
    left_out: Sequence[LeftOut]
    weights: Sequence[WeightRow]
    cash_before: Decimal
    cash_after: Decimal
    cash_target: Decimal | None
    cost: Decimal
    budget: Decimal


def make_plan(targets: Targets, account: AccountFacts, listed: Mapping[str, Listed], *, scheduled: bool) -> Plan:
    """The plan for these targets. A ``scheduled`` one leaves out the symbols whose market is closed."""
    others = {name: ZERO for name, each in listed.items() if each.qty and name not in targets.weights}
    wanted = {**targets.weights, **(others if targets.close_others else {})}
    orders: list[PlannedOrder] = []
    left_out = [
        LeftOut(name, "no_target", f"{name} has no target, and close_others is not set")
        for name in others
        if name not in wanted
    ]
    for symbol, target in sorted(wanted.items()):
        found = _order(targets, account, listed.get(symbol, Listed(symbol, tradable=False)), target, scheduled)
        (orders if isinstance(found, PlannedOrder) else left_out).append(found)  # type: ignore[arg-type]
    budget = account.free - cents_up((targets.cash or ZERO) * max(account.equity, ZERO))
    sells = [each for each in orders if each.side is Side.SELL]
    proceeds = sum((cents_down(each.qty * each.price) - each.cost for each in sells), ZERO)
    buys, unpaid = affordable([each for each in orders if each.side is Side.BUY], budget + proceeds, listed, account)
    return _summed(targets, account, listed, [*sells, *buys], [*left_out, *unpaid], wanted, budget)


def affordable(
    buys: Sequence[PlannedOrder], money: Decimal, listed: Mapping[str, Listed], account: AccountFacts
) -> tuple[list[PlannedOrder], list[LeftOut]]:
    """The buys that this money pays for, all cut in the same proportion, and those of which nothing is left.

    The exchange reserves more than the price for a market order, so that much has to be there.
    """
    needed = sum((needed_for(each, account) for each in buys), ZERO)
    if needed <= money:
        return list(buys), []
    part = max(money, ZERO) / needed
    kept, unpaid = [], []
    for each in buys:
        instrument = listed[each.symbol]
        qty = _floor(each.qty * part, _unit(instrument, fractional=each.qty % instrument.lot_size != 0))
        if not qty:
            message = f"{plain(cents_down(max(money, ZERO)))} of cash buys no lot of {each.symbol}"
            unpaid.append(LeftOut(each.symbol, "no_cash", message))
            continue
        cut = f"cut from {plain(each.qty)} to {plain(qty)} by the cash"
        kept.append(replace(_priced(each.symbol, Side.BUY, qty, instrument, account), cut=cut))
    return kept, unpaid


def needed_for(order: PlannedOrder, account: AccountFacts) -> Decimal:
    """The cash that the exchange reserves for the buy."""
    commission = account.settings.fills.commission
    amount = cents_up(order.qty * order.price * ALLOWANCE)
    return amount + costs.fee(commission, qty=order.qty, amount=amount, filled=order.qty, charged=ZERO)


def blocked(account: AccountFacts, each: Listed, *, opens: bool, shorts: bool, scheduled: bool) -> LeftOut | None:
    """The reason why no order in the symbol is sent now, or None."""
    name = each.symbol
    reasons = (
        (account.equity <= ZERO, "no_equity", "the account has no equity"),
        (account.settings.trading_blocked, "trading_blocked", "trading is blocked for the account"),
        (opens and account.halt_reason is not None, "account_halted", f"the account is halted: {account.halt_reason}"),
        (opens and not each.tradable, "not_tradable", f"{name} is not tradable"),
        (each.halted, "symbol_halted", f"trading in {name} is halted"),
        (each.last is None, "no_price", f"{name} has no price yet"),
        (each.rate is None, "no_rate", f"there is no exchange rate between {name} and {account.currency}"),
        (each.stale, "stale_price", f"the price of {name} is old although its market is open"),
        (scheduled and not each.is_open, "market_closed", f"the market of {name} is closed"),
        (each.splitting, "split", f"the books wait for a split or dividend of {name}"),
        (each.ordered, "open_order", f"an order in {name} is open"),
        (shorts and not account.settings.shorting, "shorting", "the account may not sell short"),
        (shorts and not each.shortable, "not_shortable", f"{name} cannot be sold short"),
    )
    return next((LeftOut(name, reason, message) for holds, reason, message in reasons if holds), None)


def _order(
    targets: Targets, account: AccountFacts, each: Listed, target: Decimal, scheduled: bool
) -> PlannedOrder | LeftOut:
    """The order for one symbol, or the reason why there is none."""
    unpriced = blocked(account, each, opens=False, shorts=False, scheduled=scheduled)
    if unpriced is not None:
        return unpriced
    value = each.qty * each.worth
    away = abs(value / account.equity - target)
    band = targets.band.value * (abs(target) if targets.band.kind == "relative" else 1)
    if away <= band:
        return LeftOut(each.symbol, "within_band", f"{each.symbol} is {away:.2%} of the equity from its target")
    closing, opening = _split(each, target, target * account.equity - value, targets)
    side = Side.BUY if target * account.equity > value else Side.SELL
    refusal = blocked(account, each, opens=opening > 0, shorts=opening > 0 and side is Side.SELL, scheduled=scheduled)
    if refusal is not None and not closing:
        return refusal
    qty = closing if refusal is not None else closing + opening
    small = _too_small(targets, each, qty)
    if small is not None:
        return small
    return replace(
        _priced(each.symbol, side, qty, each, account),
        cut=None if refusal is None else f"only closes: {refusal.message}",
    )


def _too_small(targets: Targets, each: Listed, qty: Decimal) -> LeftOut | None:
    if not qty:
        lot = plain(_unit(each, fractional=targets.fractional))
        return LeftOut(each.symbol, "below_lot", f"the change is less than {lot} of {each.symbol}")
    if qty * each.worth < targets.min_order:
        message = f"the order would come to {plain(cents_down(qty * each.worth))}, less than min_order"
        return LeftOut(each.symbol, "below_min_order", message)
    return None


def _split(each: Listed, target: Decimal, change: Decimal, targets: Targets) -> tuple[Decimal, Decimal]:
    """The shares that the change closes and opens, each rounded down. A position without a target closes as a whole."""
    shares, held = abs(change) / each.worth, abs(each.qty)
    unit = _unit(each, fractional=targets.fractional)
    if not each.qty or (change > 0) == (each.qty > 0):
        closing, opening = ZERO, shares
    elif target * each.qty <= 0:
        closing, opening = held, max(shares - held, ZERO)
    else:
        return _floor(min(shares, held), unit), ZERO
    if change < 0:  # only whole shares can be sold short
        unit = max(each.lot_size, Decimal(1))
    return closing, _floor(opening, unit)


def _priced(symbol: str, side: Side, qty: Decimal, each: Listed, account: AccountFacts) -> PlannedOrder:
    """The order with its value at the last price, and its cost: commission, half of the spread, and slippage."""
    price = each.price(side)
    commission = costs.fee(account.settings.fills.commission, qty=qty, amount=qty * price, filled=qty, charged=ZERO)
    slippage, by = account.settings.fills.slippage, ZERO
    if slippage.kind == "fixed":
        by = price * slippage.rate * _BASIS_POINT
    elif slippage.kind == "spread" and each.bid is not None and each.ask is not None:
        by = slippage.rate * max(each.ask - each.bid, ZERO) * (each.rate or ZERO)
    cost = commission + cents_up(qty * (abs(price - each.worth) + by))
    return PlannedOrder(symbol, side, qty, price, cents_down(qty * each.worth), cost)


def _summed(
    targets: Targets,
    account: AccountFacts,
    listed: Mapping[str, Listed],
    orders: Sequence[PlannedOrder],
    left_out: Sequence[LeftOut],
    wanted: Mapping[str, Decimal],
    budget: Decimal,
) -> Plan:
    """The plan with the weights before and after its orders."""
    cost = sum((each.cost for each in orders), ZERO)
    changes = {each.symbol: each.qty if each.side is Side.BUY else -each.qty for each in orders}
    moved = sum((change * listed[name].worth for name, change in changes.items()), ZERO)
    after = account.equity - cost
    weights = []
    for name in sorted({*wanted, *(name for name, each in listed.items() if each.qty)}):
        each = listed.get(name, Listed(name))
        held = each.qty + changes.get(name, ZERO)
        row = WeightRow(
            name, wanted.get(name), _weight(each.qty * each.worth, account.equity), _weight(held * each.worth, after)
        )
        weights.append(row)
    return Plan(
        equity=account.equity,
        orders=orders,
        left_out=left_out,
        weights=weights,
        cash_before=_weight(account.cash, account.equity),
        cash_after=_weight(account.cash - moved - cost, after),
        cash_target=targets.cash,
        cost=cost,
        budget=budget,
    )


def _weight(value: Decimal, equity: Decimal) -> Decimal:
    return (value / equity).quantize(_WEIGHT, rounding=ROUND_DOWN) if equity > ZERO else ZERO


def _unit(each: Listed, *, fractional: bool) -> Decimal:
    return LEAST_QTY if fractional and each.fractionable else each.lot_size


def _floor(qty: Decimal, unit: Decimal) -> Decimal:
    return qty // unit * unit
