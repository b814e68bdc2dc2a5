"""Enter splits and dividends, and apply them once they are due.

They are applied before the first prices after them are fetched, and so before these are published. A consumer of both
messages in order never sees a price of new shares beside a holding of old ones.
"""

from sqlalchemy import text

from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.corporate_actions import CorporateActionApplied, EnterCorporateAction


def enter(uow: UnitOfWork, command: EnterCorporateAction) -> None:
    """Store the action until it is due. Raises IntegrityError where there is no such instrument."""
    uow.connection.execute(_ENTER, {**command.model_dump(), "now": uow.now})


def apply_due(uow: UnitOfWork) -> int:
    """Apply and publish the actions that are due, and return their number."""
    due = uow.connection.execute(_TAKE_DUE, {"now": uow.now}).all()
    for action in sorted(due, key=lambda row: (row.effective_at, row.id)):
        split_count = uow.connection.execute(_ADJUST, {"symbol": action.symbol, "ratio": action.ratio}).scalar_one()
        uow.publish(
            CorporateActionApplied(
                action_id=action.id,
                symbol=action.symbol,
                kind=action.kind,
                ratio=action.ratio,
                amount=action.amount,
                effective_at=action.effective_at,
                split_count=split_count,
            )
        )
    return len(due)


_ENTER = text("""
INSERT INTO marketdata.corporate_actions (id, symbol, kind, ratio, amount, effective_at, entered_at)
VALUES (:action_id, :symbol, :kind, :ratio, :amount, :effective_at, :now) ON CONFLICT (id) DO NOTHING
""")
_TAKE_DUE = text("""
UPDATE marketdata.corporate_actions SET applied_at = :now WHERE applied_at IS NULL AND effective_at <= :now
RETURNING id, symbol, kind, ratio, amount, effective_at
""")
#: A split also turns the current price into one of new shares, which counts as an update of it.
_ADJUST = text("""
UPDATE marketdata.instruments SET
  split_count = split_count + CASE WHEN CAST(:ratio AS numeric) IS NULL THEN 0 ELSE 1 END,
  sequence = sequence + 1,
  last_price = round(last_price / COALESCE(:ratio, 1), 9), bid = round(bid / COALESCE(:ratio, 1), 9),
  ask = round(ask / COALESCE(:ratio, 1), 9), open = round(open / COALESCE(:ratio, 1), 9),
  high = round(high / COALESCE(:ratio, 1), 9), low = round(low / COALESCE(:ratio, 1), 9),
  bid_size = bid_size * COALESCE(:ratio, 1), ask_size = ask_size * COALESCE(:ratio, 1),
  volume = volume * COALESCE(:ratio, 1)
WHERE symbol = :symbol RETURNING split_count
""")
