"""Enter splits, dividends and new symbols, and apply them once they are due.

A provider may report a split only after it has sent prices of new shares. Such a price is left as it is.

They are applied before the first prices after them are fetched, and so before these are published. A consumer of both
messages in order never sees a price of new shares beside a holding of old ones.
"""

from collections.abc import Sequence

from sqlalchemy import text

from services.marketdata.domain.price_checks import Known
from services.marketdata.persistence.actions import ex_date_of, is_history
from services.marketdata.persistence.instruments import known_of, lock_known, locking_known
from services.marketdata.usecases.rename_symbol import rename
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.corporate_actions import CorporateActionApplied, EnterCorporateAction
from shared.storage.driver import Rows, call


def enter(uow: UnitOfWork, command: EnterCorporateAction) -> None:
    """Store the action until it is due. Raises IntegrityError where there is no such instrument.

    A split or dividend from before the current price, and before anybody held or ordered the symbol, only adjusts
    earlier bars.
    """
    ex_date = ex_date_of(uow.connection, command.symbol, command.effective_at)
    applied = {"applied_at": uow.now, "split_count": 0} if _is_history(uow, command) else {}
    given = {**command.model_dump(), "ex_date": ex_date, "now": uow.now}
    uow.connection.execute(_ENTER, {"applied_at": None, "split_count": None, **given, **applied})


def _is_history(uow: UnitOfWork, command: EnterCorporateAction) -> bool:
    if command.new_symbol is not None or command.effective_at > uow.now:
        return False
    priced = uow.connection.execute(_PRICED_AFTER, {"symbol": command.symbol, "at": command.effective_at}).scalar()
    return bool(priced) and is_history(uow.connection, command.symbol, command.effective_at)


def lock_current(uow: UnitOfWork, symbols: Sequence[str]) -> dict[str, Known]:
    """Apply the actions that are due, and lock the instruments for new prices: ``apply_due`` and ``lock_known``."""
    due, rows = uow.run(call(_DUE, {"now": uow.now}), locking_known(symbols, uow.now))
    if not due:
        return known_of(rows)
    _apply(uow, due)
    return lock_known(uow.connection, symbols, uow.now)


def apply_due(uow: UnitOfWork) -> int:
    """Apply and publish the actions that are due, and return their number."""
    (due,) = uow.run(call(_DUE, {"now": uow.now}))
    _apply(uow, due)
    return len(due)


def _apply(uow: UnitOfWork, due: Rows) -> None:
    for action in [row._asdict() for row in due]:
        if action["new_symbol"] is not None:
            rename(uow, CorporateActionApplied(**action, action_id=action["id"], split_count=0))
            continue
        shares = {"new": action["new_shares"] or 1, "old": action["old_shares"] or 1}
        if action["is_priced"]:
            shares = {"new": 1, "old": 1}
        price = uow.connection.execute(_ADJUST, {"symbol": action["symbol"], **shares}).one()
        applied = {"id": action["id"], "split_count": price.split_count, "now": uow.now}
        uow.connection.execute(_APPLIED, applied)
        uow.publish(CorporateActionApplied(**action, action_id=action["id"], **price._asdict()))


_ENTER = text("""
INSERT INTO marketdata.corporate_actions
  (id, symbol, kind, ratio, new_shares, old_shares, cash_in_lieu, amount, effective_at, pay_at, ex_date, new_symbol,
   entered_at, applied_at, split_count)
VALUES (:action_id, :symbol, :kind, :ratio, :new_shares, :old_shares, :cash_in_lieu, :amount, :effective_at, :pay_at,
        :ex_date, :new_symbol, :now, :applied_at, :split_count)
ON CONFLICT (id) DO NOTHING
""")
_PRICED_AFTER = text("SELECT quoted_at > :at FROM marketdata.instruments WHERE symbol = :symbol")
_DUE = text("""
SELECT c.id, c.symbol, c.kind, c.ratio, c.new_shares, c.old_shares, c.cash_in_lieu, c.amount, c.effective_at, c.pay_at,
       c.new_symbol, COALESCE(c.provider IS NOT NULL AND i.quoted_at >= c.effective_at, false) AS is_priced
FROM marketdata.corporate_actions c JOIN marketdata.instruments i ON i.symbol = c.symbol
WHERE c.applied_at IS NULL AND c.effective_at <= :now
ORDER BY c.effective_at, c.id FOR UPDATE OF c
""")
_APPLIED = text("""
UPDATE marketdata.corporate_actions SET applied_at = :now, split_count = :split_count WHERE id = :id
""")
#: A split also turns the current price into one of new shares, which counts as an update of it.
_ADJUST = text("""
UPDATE marketdata.instruments SET
  split_count = split_count + 1, sequence = sequence + 1,
  last_price = round(last_price * :old / :new, 9), bid = round(bid * :old / :new, 9),
  ask = round(ask * :old / :new, 9), open = round(open * :old / :new, 9),
  high = round(high * :old / :new, 9), low = round(low * :old / :new, 9),
  bid_size = round(bid_size * :new / :old, 9), ask_size = round(ask_size * :new / :old, 9),
  volume = round(volume * :new / :old, 9)
WHERE symbol = :symbol RETURNING split_count, last_price AS last
""")
