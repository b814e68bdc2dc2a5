"""The alerts of an account: each figure against its threshold, raised once and recovered with hysteresis."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from shared.contracts.account_alerts import AlertKind, AlertRules, ProfitAndLoss
from shared.money import ZERO, cents

HUNDRED = Decimal(100)
#: Money and shares of the equity are rounded for people.
_SHARE = Decimal("0.0001")


@dataclass(frozen=True)
class Change:
    """The profit or loss of a window, without deposits, and the equity at its beginning."""

    profit: Decimal
    equity_before: Decimal


@dataclass(frozen=True)
class Facts:
    """The figures of an account. Money is in its currency. ``stale_for`` is in seconds of open market."""

    account_id: UUID
    equity: Decimal
    drawdown: Decimal | None
    maintenance_margin: Decimal
    largest_symbol: str | None
    largest_value: Decimal
    stale_symbol: str | None
    stale_for: Decimal
    #: By the subject of their rule. A window without a summary is missing.
    changes: Mapping[str, Change] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A figure, the threshold of the rule about it, and the sentence that states it."""

    kind: AlertKind
    subject: str
    value: Decimal
    threshold: Decimal
    message: str


@dataclass(frozen=True)
class Verdict:
    """The alerts to raise now, and the open ones to end, by kind and subject."""

    raised: Sequence[Finding]
    recovered: Mapping[tuple[str, str], Decimal]


def judge(rules: AlertRules, facts: Facts, open_alerts: Mapping[tuple[str, str], Decimal]) -> Verdict:
    """Raise what reached its threshold and is not open. End an open alert below its threshold less the recovery.

    ``open_alerts`` has the last value of each. An open alert whose rule, or whose position, is gone ends too.
    """
    found = {(each.kind.value, each.subject): each for each in findings(rules, facts)}
    raised = [each for key, each in found.items() if key not in open_alerts and each.value >= each.threshold]
    recovered = {}
    for key, last in open_alerts.items():
        finding = found.get(key)
        if finding is None:
            recovered[key] = last
        elif finding.value < finding.threshold * (1 - rules.recovery):
            recovered[key] = finding.value
    return Verdict(raised, recovered)


def findings(rules: AlertRules, facts: Facts) -> Iterator[Finding]:
    """Each figure that has a rule, reached or not."""
    for rule in rules.profit_and_loss:
        if rule.subject in facts.changes:
            yield from _profit_and_loss(rule, facts.changes[rule.subject])
    if rules.drawdown is not None and facts.drawdown is not None:
        fall = (-facts.drawdown).quantize(_SHARE)
        message = f"The account is {fall:.2%} below its highest value, and alerts at {rules.drawdown:.2%}"
        yield Finding(AlertKind.DRAWDOWN, "account", fall, rules.drawdown, message)
    if rules.concentration is not None and facts.largest_symbol is not None:
        share = _part(facts.largest_value, facts.equity)
        message = f"{facts.largest_symbol} is {share:.2%} of the equity, and alerts at {rules.concentration:.2%}"
        yield Finding(AlertKind.CONCENTRATION, "account", share, rules.concentration, message)
    if rules.margin is not None:
        used = _part(facts.maintenance_margin, facts.equity)
        message = f"The maintenance margin is {used:.2%} of the equity, and alerts at {rules.margin:.2%}"
        yield Finding(AlertKind.MARGIN, "account", used, rules.margin, message)
    if rules.stale_price is not None and facts.stale_symbol is not None:
        age, most = Decimal(int(facts.stale_for)), Decimal(rules.stale_price)
        message = f"The price of {facts.stale_symbol} is {age} seconds old in open trading, and alerts at {most}"
        yield Finding(AlertKind.STALE_PRICE, "account", age, most, message)


def _profit_and_loss(rule: ProfitAndLoss, change: Change) -> Iterator[Finding]:
    """The gain and the loss of a window, so that a gain that becomes a loss ends one alert and raises another.

    With both thresholds the lower one counts.
    """
    amounts = [] if rule.amount is None else [rule.amount]
    if rule.percent is not None and change.equity_before > ZERO:
        amounts.append(cents(change.equity_before * rule.percent / HUNDRED))
    if not amounts:
        return
    threshold, span = min(amounts), "today" if rule.window is None else f"in {rule.window} minutes"
    for kind, value in ((AlertKind.GAIN, change.profit), (AlertKind.LOSS, -change.profit)):
        amount = max(value, ZERO)
        message = f"The account has a {kind.value} of {cents(amount)} {span}, and alerts at {threshold}"
        yield Finding(kind, rule.subject, amount, threshold, message)


def _part(amount: Decimal, equity: Decimal) -> Decimal:
    """The amount as a share of the equity. Anything held without equity is 1,000 %."""
    if amount <= ZERO:
        return ZERO
    return (amount / equity).quantize(_SHARE) if equity > ZERO else Decimal(10)
