"""After a fault run: wait until nothing of it is under way, and look for everything that should hold and does not."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy import Engine

from shared.contracts.routing import WORKERS
from shared.storage.engine import make_engine
from tests.chaos.fleet import Fleet
from tests.chaos.recorder import Recorder
from tests.chaos.tickets import FILLS_NOW
from tests.chaos.traders import Trader
from tests.support import broken_invariants, eventually, rows, value

OPEN = {"accepted", "partially_filled", "held"}


def calm(fleet: Fleet, orders: Engine, traders: Sequence[Trader]) -> None:
    """Wait until nothing of the fault run is under way. Orders that wait for the market may rest."""
    fleet.wait_healthy()
    all_sent(fleet)

    def quiet() -> bool:
        waiting = fleet.node.server.queues(fleet.vhost)
        return all(depth.ready + depth.unacked == 0 for name, depth in waiting.items() if name == "orders.commands")

    eventually(quiet, seconds=60, what="nobody has a command in hand")
    eventually(lambda: value(orders, "SELECT count(*) = 0 FROM orders.parked"), seconds=30, what="nothing is parked")
    fleet.recorder.listen()
    resting = partial(rows, orders, CHECKS[FILLED], accounts=accounts_of(traders))
    ahead = value(orders, _ACCEPTED_AHEAD, accounts=accounts_of(traders))
    with suppress(AssertionError):  # the audit tells more
        eventually(lambda: not unhandled(orders, fleet.recorder) and not resting(), seconds=60 + float(ahead))
    all_sent(fleet)  # what the last commands brought about, too


def all_sent(fleet: Fleet) -> None:
    """Wait until nothing that was committed before now waits in an outbox."""
    for service in ("gateway", *WORKERS):
        engine = make_engine(fleet.urls[service], name=service)
        old = f"SELECT count(*) = 0 FROM {service}.outbox WHERE created_at < :before"
        sent = partial(value, engine, old, before=value(engine, "SELECT now()"))
        eventually(sent, seconds=60, what=f"{service} has sent everything")
        engine.dispose()


def unhandled(orders: Engine, recorder: Recorder) -> list[Any]:
    missing = """SELECT command FROM unnest(CAST(:ids AS uuid[])) AS command
                 WHERE NOT EXISTS (SELECT FROM orders.inbox WHERE message_id = command)"""
    return rows(orders, missing, ids=list(recorder.commands))


def accounts_of(traders: Sequence[Trader]) -> list[str]:
    return sorted({trader.account.id for trader in traders})


def audit(fleet: Fleet, orders: Engine, traders: Sequence[Trader]) -> dict[str, Any]:
    """Everything that should hold and does not, with what shows it; empty when all is well."""
    accounts = accounts_of(traders)
    found = rows(orders, f"SELECT * FROM orders.orders o WHERE {_HERE}", accounts=accounts)
    known = {str(row.id): row for row in found}
    checks = {
        **{name: rows(orders, statement, accounts=accounts) for name, statement in CHECKS.items()},
        **_placed(known, traders),
        **_canceled(known, traders, fleet.recorder),
        **_replaced(known, traders, fleet.recorder),
        **_closed(known, traders),
        "every command is handled": unhandled(orders, fleet.recorder),
        "an account's events have no gap and no double": fleet.recorder.gaps(),
        "a slot has one run": rows(
            orders,
            "SELECT job, scheduled_for FROM jobs.job_runs WHERE trigger = 'schedule' GROUP BY 1, 2 HAVING count(*) > 1",
        ),
    }
    for service in WORKERS:
        engine = make_engine(fleet.urls[service], name=service)
        checks[f"{service} has no dead letters"] = rows(engine, f"SELECT * FROM {service}.dead_letters")
        engine.dispose()
    return {**broken_invariants(orders), **{name: wrong for name, wrong in checks.items() if wrong}}


def traded(orders: Engine, traders: Sequence[Trader]) -> Counter[str]:
    """Count orders by how they ended, filled orders by kind and leg, orders in parts, and shorts."""
    found = rows(orders, f"SELECT * FROM orders.orders o WHERE {_HERE}", accounts=accounts_of(traders))
    counts = Counter(" ".join(filter(None, (row.status, row.reject_reason, row.cancel_reason))) for row in found)
    for row in found:
        kinds = (row.type, row.order_class, row.time_in_force, row.leg, "in parts" if row.fills > 1 else None)
        counts.update(filter(None, kinds) if row.fills else ())
    shorts = f"SELECT count(*) FROM orders.round_trips o WHERE {_HERE} AND side = 'short'"
    return counts + Counter({"short": value(orders, shorts, accounts=accounts_of(traders))})


def _placed(known: dict[str, Any], traders: Sequence[Trader]) -> dict[str, Any]:
    """A rejected order leaves its client order id to the next try: a trader without an answer may ask again."""
    placed = defaultdict(list)
    for row in known.values():
        placed[row.client_order_id].append(row)
    answered = {number: order_id for trader in traders for number, order_id in trader.answered.items()}
    return {
        "an answered order is there": [
            number
            for number, order_id in answered.items()
            if (order_id not in known if order_id else all(row.status != "rejected" for row in placed[number]))
        ],
        "an answered order is there once": [
            number for number in answered if sum(row.status != "rejected" for row in placed[number]) > 1
        ],
    }


def _canceled(known: dict[str, Any], traders: Sequence[Trader], recorder: Recorder) -> dict[str, Any]:
    answers_of = {
        order_id: recorder.answered("cancel", order_id) for trader in traders for order_id in trader.asked_to_cancel
    }
    confirmed = {order_id for trader in traders for order_id in trader.canceled}
    return {
        "a cancel that was confirmed is done, or it was told that the order had ended": {
            order_id: (known[order_id].status, answers_of[order_id])
            for order_id in confirmed & known.keys()
            if known[order_id].status in OPEN
            or (known[order_id].status != "canceled" and "CancelRejected.v1" not in dict(answers_of[order_id]))
        },
        "a cancel is answered once": {
            order_id: answers for order_id, answers in answers_of.items() if len(answers) > 1
        },
        "a confirmed cancel is answered": [order_id for order_id in confirmed if not answers_of[order_id]],
    }


def _replaced(known: dict[str, Any], traders: Sequence[Trader], recorder: Recorder) -> dict[str, Any]:
    answers_of = {
        order_id: recorder.answered("replace", order_id) for trader in traders for order_id in trader.asked_to_replace
    }
    confirmed = {old: replace for trader in traders for old, replace in trader.replaced.items()}
    pairs = [(known[old], known.get(new), qty) for old, (new, qty) in confirmed.items() if new and old in known]
    return {
        "a replace is answered once": {
            old: answers
            for old, answers in answers_of.items()
            if len(answers) > 1 or (old in confirmed and not answers)
        },
        "an order is replaced when it was told so, by the one that was told": {
            old: (known[old].status, str(known[old].replaced_by), answers)
            for old, answers in answers_of.items()
            if old in known
            and {new for name, new in answers if name == "OrderReplaced.v1"}
            != ({str(known[old].replaced_by)} if known[old].status == "replaced" else set())
        },
        "a replace that was confirmed is done, and only what was left goes on": [
            (old, new)
            for old, new, qty in pairs
            if new is None or new.replaces != old.id or (old.leg is None and new.qty + old.filled_qty != Decimal(qty))
        ],
    }


def _closed(known: dict[str, Any], traders: Sequence[Trader]) -> dict[str, Any]:
    filled: Counter[str] = Counter()
    for row in known.values():
        filled[str(row.order_group)] += row.filled_qty
    exits = {order_group: qty for trader in traders for order_group, qty in trader.exits.items()}
    return {"an oco order closes no more than it is to": [each for each, qty in exits.items() if filled[each] > qty]}


def unfinished(orders: Engine, interrupted: Collection[str]) -> dict[str, Any]:
    """Runs whose worker was killed and that did not begin again and succeed, when they had the time to."""
    still = (
        "SELECT id, state, outcome, attempt, reason FROM jobs.job_runs WHERE id = ANY(CAST(:ids AS uuid[])) AND NOT "
    )
    ended = "(attempt > 1 AND outcome = 'succeeded')"
    with suppress(AssertionError):
        eventually(lambda: not rows(orders, still + ended, ids=list(interrupted)), seconds=60)
    wrong = [tuple(row) for row in rows(orders, still + ended, ids=list(interrupted))]
    return {"a run whose worker died began again": wrong} if wrong else {}


def stuck(orders: Engine) -> dict[str, Any]:
    """Runs that were under way and do not end, and jobs whose schedule stands still, when they had the time to."""
    before = value(orders, "SELECT now()")
    under_way = [row.id for row in rows(orders, "SELECT id FROM jobs.job_runs WHERE active IS NOT NULL")]
    left = partial(rows, orders, _STILL_UNDER_WAY, ids=under_way)
    standing = partial(rows, orders, _STANDING, before=before)
    with suppress(AssertionError):
        eventually(lambda: not left() and not standing(), seconds=60)
    found = {"a run that was under way ends": left(), "schedules go on": standing()}
    return {name: [tuple(row) for row in wrong] for name, wrong in found.items() if wrong}


_HERE = "o.account_id = ANY(CAST(:accounts AS uuid[]))"
_IS_OPEN = "status IN ('accepted', 'partially_filled', 'held')"
#: A replica whose clock was ahead accepted orders at a later time. No price from before that time may fill them.
_ACCEPTED_AHEAD = f"""
SELECT COALESCE(GREATEST(extract(epoch FROM max(active_at) - now()), 0), 0) FROM orders.orders o
WHERE {_HERE} AND {_IS_OPEN}
"""
_STILL_UNDER_WAY = """
SELECT id, job, state, attempt, queued_at, not_before, reason FROM jobs.job_runs
WHERE id = ANY(CAST(:ids AS uuid[])) AND active IS NOT NULL
"""
#: A job of a few seconds is decided again at once, and none has its next slot further ahead than its interval.
_STANDING = """
SELECT name, considered_until, next_slot, due_at FROM jobs.jobs, LATERAL (
  SELECT CASE WHEN settings ->> 'schedule' ~ '^[0-9]+[smh]$' THEN CAST(settings ->> 'schedule' AS interval) END AS every
) AS given
WHERE CAST(settings ->> 'enabled' AS boolean) AND every IS NOT NULL
  AND (considered_until > now() + interval '10 seconds' OR next_slot > now() + every + interval '10 seconds'
       OR every <= interval '10 seconds' AND considered_until < :before)
"""
FILLED = "what needs only a price, or its auction, does not rest"
CHECKS = {
    "of two exits one is filled": f"""
        SELECT order_group FROM orders.orders o WHERE {_HERE} AND leg IS NOT NULL GROUP BY account_id, order_group
        HAVING count(*) FILTER (WHERE status = 'filled') > 1""",
    "exits fill no more than their entry": f"""
        SELECT order_group FROM orders.orders o WHERE {_HERE} AND order_class IN ('bracket', 'oto')
        GROUP BY account_id, order_group HAVING COALESCE(sum(filled_qty) FILTER (WHERE leg IS NOT NULL), 0)
                                           > COALESCE(sum(filled_qty) FILTER (WHERE leg IS NULL), 0)""",
    "the other exit ends with the one that has ended": f"""
        SELECT o.id, o.status, e.id AS ended, e.status AS how FROM orders.orders o
        JOIN orders.orders e ON e.account_id = o.account_id AND e.order_group = o.order_group
        WHERE {_HERE} AND o.leg IS NOT NULL AND o.{_IS_OPEN}
          AND e.leg IS NOT NULL AND e.status IN ('filled', 'canceled', 'expired', 'rejected')""",
    "an exit is held while its entry is open, and no longer": f"""
        SELECT o.id, o.status FROM orders.orders o WHERE {_HERE} AND o.leg IS NOT NULL AND o.{_IS_OPEN}
          AND o.order_class <> 'oco'
          AND (o.status = 'held') <> EXISTS (SELECT FROM orders.orders e WHERE e.account_id = o.account_id
                                             AND e.order_group = o.order_group AND e.leg IS NULL AND e.{_IS_OPEN})""",
    "a replaced order has one successor, and no other has any": f"""
        SELECT o.id, o.status, o.replaced_by FROM orders.orders o WHERE {_HERE}
          AND (SELECT count(*) FROM orders.orders s WHERE s.account_id = o.account_id AND s.replaces = o.id)
              <> CASE o.status WHEN 'replaced' THEN 1 ELSE 0 END""",
    "a fok order is filled wholly or not at all": f"""
        SELECT id, qty, filled_qty FROM orders.orders o
        WHERE {_HERE} AND time_in_force = 'fok' AND filled_qty NOT IN (0, qty)""",
    FILLED: f"""
        SELECT id, symbol, side, type, time_in_force, status, limit_price, stop_price, qty, filled_qty
        FROM orders.orders o WHERE {_HERE} AND {FILLS_NOW}""",
}
