"""Risk limits of accounts: measure each account that has limits, and publish the first figure that reached its own.

The number of statements is constant, however many accounts have limits. Nothing is published while the account is
halted: orders halts it, and valuation reads that from its view.
"""

import json
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, text

from services.valuation.domain.risk import Mark, Measured, RiskFacts, measure, sentence
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.account_risk import AccountRiskLimits, RiskLimitReached, SetRiskLimits
from shared.jobs.run_context import Counts
from shared.money import ZERO


def set_limits(uow: UnitOfWork, command: SetRiskLimits) -> None:
    """Store the limits. The next snapshot measures by them. The marks stay."""
    given = {"account": command.account_id, "limits": command.limits.model_dump_json(), "now": uow.now}
    uow.connection.execute(_SET_LIMITS, given)


def measure_accounts(uow: UnitOfWork) -> Counts:
    """Measure all accounts with limits by their last summaries and the current values of their positions."""
    saved, reached = [], 0
    for row in uow.connection.execute(_ACCOUNTS):
        limits = AccountRiskLimits.model_validate(row.limits)
        measured = measure(limits, _facts(row), _mark(row))
        saved.append(_saved(row, measured))
        if measured.reached is not None and row.halted_at is None:
            _publish(uow, row, limits, measured)
            reached += 1
    if saved:
        uow.connection.execute(_SAVE, {"accounts": json.dumps(saved, default=str)})
    return {"risk_limits_reached": reached}


def _publish(uow: UnitOfWork, row: Row[Any], limits: AccountRiskLimits, measured: Measured) -> None:
    kind = measured.reached
    limit = None if kind is None else limits.limit_of(kind)
    if kind is None or limit is None:
        return
    uow.publish(
        RiskLimitReached(
            halt_id=uuid4(),
            account_id=row.account_id,
            generation=row.generation,
            after=row.last_halt,
            kind=kind,
            value=measured.figures[kind],
            limit=limit,
            message=sentence(kind, measured.figures[kind], limit, row.largest_symbol),
            at=uow.now,
        )
    )


def _facts(row: Row[Any]) -> RiskFacts:
    return RiskFacts(
        generation=row.generation,
        halt_id=row.ended_halt,
        at=row.at,
        equity=row.equity,
        growth=row.growth,
        peak_growth=row.highest_growth,
        day=row.last_day,
        day_pl=row.profit or ZERO,
        largest_value=row.largest_value or ZERO,
        gross_value=row.gross_value,
    )


def _mark(row: Row[Any]) -> Mark | None:
    if row.marked_generation is None:
        return None
    return Mark(
        row.marked_generation, row.marked_halt, row.marked_at, row.peak_growth, row.day, row.day_pl,
        row.concentration_mark, row.exposure_mark,
    )  # fmt: skip


def _saved(row: Row[Any], measured: Measured) -> dict[str, Any]:
    mark = measured.mark
    return {
        "account_id": row.account_id,
        "generation": mark.generation,
        "halt_id": mark.halt_id,
        "marked_at": mark.marked_at,
        "peak_growth": mark.peak_growth,
        "day": mark.day,
        "day_pl": mark.day_pl,
        "concentration_mark": mark.concentration,
        "exposure_mark": mark.exposure,
        "measured_at": row.at,
        "largest_symbol": row.largest_symbol,
        **{kind.value: value for kind, value in measured.figures.items()},
    }


_SET_LIMITS = text("""
INSERT INTO valuation.risk_limits (account_id, limits, changed_at) VALUES (:account, CAST(:limits AS jsonb), :now)
ON CONFLICT (account_id) DO UPDATE SET limits = excluded.limits, changed_at = excluded.changed_at
""")
#: While a halt stands, the mark stays that of the halt before. The lock keeps two runs from measuring at a time.
_ACCOUNTS = text("""
SELECT r.account_id, r.limits, r.generation AS marked_generation, r.halt_id AS marked_halt, r.marked_at, r.peak_growth,
       r.day, r.day_pl, r.concentration_mark, r.exposure_mark, a.generation, a.halted_at, a.halt_id AS last_halt,
       CASE WHEN a.halted_at IS NULL THEN a.halt_id ELSE r.halt_id END AS ended_halt,
       last.at, last.equity, last.growth, last.peak_growth AS highest_growth, last.day_pl AS profit,
       COALESCE(last.long_value - last.short_value, 0) AS gross_value, days.day AS last_day,
       held.largest_symbol, held.largest_value
FROM valuation.risk_limits r JOIN orders.accounts_v1 a ON a.id = r.account_id AND a.status = 'ACTIVE'
CROSS JOIN LATERAL (
  SELECT s.at, s.equity, s.growth, s.peak_growth, s.day_pl, s.long_value, s.short_value
  FROM valuation.account_summaries s
  WHERE s.account_id = r.account_id AND s.generation = a.generation AND s.growth IS NOT NULL
  ORDER BY s.at DESC LIMIT 1
) last
LEFT JOIN LATERAL (
  SELECT d.day FROM valuation.daily_summaries d JOIN marketdata.markets_v1 m ON m.code = d.market
  WHERE d.account_id = r.account_id AND d.at >= COALESCE(a.generation_at, '-infinity')
    AND d.day < CAST(last.at AT TIME ZONE m.timezone AS date)
  ORDER BY d.day DESC LIMIT 1
) days ON true
CROSS JOIN LATERAL (
  SELECT (array_agg(p.symbol ORDER BY abs(p.value) DESC, p.symbol))[1] AS largest_symbol,
         max(abs(p.value)) AS largest_value
  FROM valuation.current_positions_v1 p WHERE p.account_id = r.account_id AND p.value IS NOT NULL
) held
ORDER BY r.account_id FOR UPDATE OF r
""")
_SAVE = text("""
UPDATE valuation.risk_limits r SET
  generation = v.generation, halt_id = v.halt_id, marked_at = v.marked_at, peak_growth = v.peak_growth, day = v.day,
  day_pl = v.day_pl, concentration_mark = v.concentration_mark, exposure_mark = v.exposure_mark,
  measured_at = v.measured_at, drawdown = v.drawdown, daily_loss = v.daily_loss, concentration = v.concentration,
  gross_exposure = v.gross_exposure, largest_symbol = v.largest_symbol
FROM jsonb_to_recordset(CAST(:accounts AS jsonb)) AS v (
  account_id uuid, generation integer, halt_id uuid, marked_at timestamptz, peak_growth numeric, day date,
  day_pl numeric, concentration_mark numeric, exposure_mark numeric, measured_at timestamptz, drawdown numeric,
  daily_loss numeric, concentration numeric, gross_exposure numeric, largest_symbol text)
WHERE r.account_id = v.account_id
""")
