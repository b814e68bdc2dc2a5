"""Alerts of accounts: judge the figures of each account that has rules, and keep, raise and end its alerts.

The number of statements is constant, however many accounts have rules.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zlib import crc32

from sqlalchemy import Row, text

from services.valuation.domain.alerts import Change, Facts, Verdict, judge
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.account_alerts import AlertKind, AlertRaised, AlertRecovered, AlertRules, SetAlertRules
from shared.exchange.margin import maintenance_margin
from shared.jobs.run_context import Counts
from shared.money import ZERO


def set_rules(uow: UnitOfWork, command: SetAlertRules) -> None:
    """Store the rules. The next snapshot judges by them."""
    given = {"account": command.account_id, "rules": command.rules.model_dump_json(), "now": uow.now}
    uow.connection.execute(_SET_RULES, given)


def judge_accounts(uow: UnitOfWork) -> Counts:
    """Raise and end the alerts of all accounts by their latest summaries and the current values."""
    open_alerts: dict[UUID, dict[tuple[str, str], Row[Any]]] = defaultdict(dict)
    uow.connection.execute(_LOCK, {"key": _KEY})
    for row in uow.connection.execute(_OPEN):
        open_alerts[row.account_id][row.kind, row.subject] = row
    accounts = uow.connection.execute(_ACCOUNTS, {"now": uow.now}).all()
    rules = {row.account_id: AlertRules.model_validate(row.rules) for row in accounts}
    changes = _changes(uow, rules)
    raised: list[dict[str, Any]] = []
    ended: list[tuple[UUID, UUID]] = []
    for row in accounts:
        facts = _facts(row, changes[row.account_id])
        known = open_alerts.pop(row.account_id, {})
        same = {key: alert.value for key, alert in known.items() if alert.generation == row.generation}
        verdict = judge(rules[row.account_id], facts, same)
        raised += _raise(uow, row, verdict)
        ended += [_end(uow, known[key], value) for key, value in verdict.recovered.items()]
        ended += [_end(uow, alert, alert.value) for key, alert in known.items() if key not in same]
    ended += [_end(uow, alert, alert.value) for known in open_alerts.values() for alert in known.values()]
    if ended:
        accounts_of, ids = zip(*ended, strict=True)
        uow.connection.execute(_END, {"now": uow.now, "accounts": list(accounts_of), "ids": list(ids)})
    if raised:
        uow.connection.execute(_RAISE, {"now": uow.now, "alerts": json.dumps(raised)})
    return {"alerts_raised": len(raised), "alerts_recovered": len(ended)}


def _changes(uow: UnitOfWork, rules: Mapping[UUID, AlertRules]) -> Mapping[UUID, dict[str, Change]]:
    """The profit of each window of each account's rules, since the last summary before the window began."""
    windows = [(id_, each.window) for id_, given in rules.items() for each in given.profit_and_loss]
    given = {"accounts": [id_ for id_, _ in windows], "windows": [window for _, window in windows], "now": uow.now}
    found: dict[UUID, dict[str, Change]] = defaultdict(dict)
    for row in uow.connection.execute(_CHANGES, given):
        subject = "day" if row.minutes is None else f"{row.minutes}m"
        found[row.account_id][subject] = Change(row.profit, row.equity_before)
    return found


def _facts(row: Row[Any], changes: Mapping[str, Change]) -> Facts:
    return Facts(
        account_id=row.account_id,
        equity=row.equity,
        drawdown=row.drawdown,
        maintenance_margin=maintenance_margin(row.long_value, row.short_value),
        largest_symbol=row.largest_symbol,
        largest_value=row.largest_value or ZERO,
        stale_symbol=row.stale_symbol,
        stale_for=row.stale_for or ZERO,
        changes=changes,
    )


def _raise(uow: UnitOfWork, row: Row[Any], verdict: Verdict) -> Sequence[dict[str, Any]]:
    raised = []
    for each in verdict.raised:
        event = AlertRaised(
            alert_id=uuid4(),
            account_id=row.account_id,
            kind=each.kind,
            subject=each.subject,
            value=each.value,
            threshold=each.threshold,
            message=each.message,
            at=uow.now,
        )
        uow.publish(event)
        raised.append({**event.payload(), "generation": row.generation})
    return raised


def _end(uow: UnitOfWork, alert: Row[Any], value: Decimal) -> tuple[UUID, UUID]:
    uow.publish(
        AlertRecovered(
            alert_id=alert.id,
            account_id=alert.account_id,
            kind=AlertKind(alert.kind),
            subject=alert.subject,
            value=value,
            threshold=alert.threshold,
            at=uow.now,
        )
    )
    return alert.account_id, alert.id


_SET_RULES = text("""
INSERT INTO valuation.alert_rules (account_id, rules, changed_at) VALUES (:account, CAST(:rules AS jsonb), :now)
ON CONFLICT (account_id) DO UPDATE SET rules = excluded.rules, changed_at = excluded.changed_at
""")
#: Of two runs at a time, one judges by what the other wrote.
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_KEY = crc32(b"valuation:alerts")
_OPEN = text("""
SELECT account_id, id, generation, kind, subject, value, threshold FROM valuation.alerts
WHERE recovered_at IS NULL
""")
#: The age of a price is the time that its market was open without a new one.
_ACCOUNTS = text("""
SELECT r.account_id, r.rules, a.generation, v.equity, v.long_value, v.short_value, last.drawdown,
       held.largest_symbol, held.largest_value, held.stale_symbol, held.stale_for
FROM valuation.alert_rules r JOIN orders.accounts_v1 a ON a.id = r.account_id AND a.status = 'ACTIVE'
JOIN valuation.account_values_v1 v ON v.account_id = r.account_id
LEFT JOIN LATERAL (
  SELECT s.drawdown FROM valuation.account_summaries_v1 s
  WHERE s.account_id = r.account_id AND s.generation = a.generation ORDER BY s.at DESC LIMIT 1
) last ON true
CROSS JOIN LATERAL (
  SELECT (array_agg(p.symbol ORDER BY abs(p.value) DESC, p.symbol))[1] AS largest_symbol,
         max(abs(p.value)) AS largest_value,
         (array_agg(p.symbol ORDER BY age.seconds DESC NULLS LAST, p.symbol)
            FILTER (WHERE age.seconds IS NOT NULL))[1] AS stale_symbol,
         max(age.seconds) AS stale_for
  FROM valuation.current_positions_v1 p
  LEFT JOIN LATERAL (
    SELECT extract(epoch FROM LEAST(s.close_at, :now) - GREATEST(s.open_at, p.quoted_at)) AS seconds
    FROM marketdata.sessions_v1 s
    WHERE s.market = p.market AND s.open_at < :now AND s.close_at > p.quoted_at ORDER BY 1 DESC LIMIT 1
  ) age ON true
  WHERE p.account_id = r.account_id AND p.value IS NOT NULL
) held
ORDER BY r.account_id
""")
#: Money that came or went in the window is no profit. A window that began before the generation begins with it.
_CHANGES = text("""
SELECT w.account_id, w.minutes,
       CASE WHEN w.minutes IS NULL THEN last.day_pl
            ELSE last.equity - before.equity - last.net_deposits + before.net_deposits END AS profit,
       CASE WHEN w.minutes IS NULL THEN last.equity - last.day_pl ELSE before.equity END AS equity_before
FROM unnest(CAST(:accounts AS uuid[]), CAST(:windows AS integer[])) AS w (account_id, minutes)
JOIN orders.accounts_v1 a ON a.id = w.account_id
CROSS JOIN LATERAL (
  SELECT s.equity, s.net_deposits, s.day_pl FROM valuation.account_summaries_v1 s
  WHERE s.account_id = w.account_id AND s.generation = a.generation AND s.day_pl IS NOT NULL
  ORDER BY s.at DESC LIMIT 1
) last
LEFT JOIN LATERAL (
  (SELECT s.equity, s.net_deposits FROM valuation.account_summaries_v1 s
   WHERE s.account_id = w.account_id AND s.generation = a.generation AND s.net_deposits IS NOT NULL
     AND s.at <= CAST(:now AS timestamptz) - w.minutes * interval '1 minute' ORDER BY s.at DESC LIMIT 1)
  UNION ALL
  (SELECT s.equity, s.net_deposits FROM valuation.account_summaries_v1 s
   WHERE s.account_id = w.account_id AND s.generation = a.generation AND s.net_deposits IS NOT NULL
   ORDER BY s.at LIMIT 1)
  LIMIT 1
) before ON w.minutes IS NOT NULL
WHERE w.minutes IS NULL OR before.equity IS NOT NULL
""")
_RAISE = text("""
INSERT INTO valuation.alerts
  (account_id, id, generation, kind, subject, message, value, threshold, raised_at)
SELECT account_id, alert_id, generation, kind, subject, message, value, threshold, :now
FROM jsonb_to_recordset(CAST(:alerts AS jsonb))
  AS given (account_id uuid, alert_id uuid, generation integer, kind text, subject text, message text, value numeric,
            threshold numeric)
""")
_END = text("""
UPDATE valuation.alerts SET recovered_at = :now
WHERE account_id = ANY(CAST(:accounts AS uuid[])) AND id = ANY(CAST(:ids AS uuid[])) AND recovered_at IS NULL
""")
