"""The invariants of the books: each is a statement that finds the rows that break it."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, text

#: The report of a broken invariant shows this many rows at most.
SHOWN = 20


def broken(connection: Connection) -> Iterator[tuple[str, Sequence[Any]]]:
    """Each invariant that does not hold, with rows that break it."""
    for name, statement in INVARIANTS.items():
        found = connection.execute(text(f"SELECT * FROM ({statement}) AS broken LIMIT {SHOWN}")).all()
        if found:
            yield name, found


_IS_OPEN = "o.is_open"
#: An entry holds the shares that it has opened so far, for its exits.
_IS_ENTRY = "o.leg IS NULL AND o.order_class IN ('bracket', 'oto')"
_BOOKS = """
SELECT account_id, generation, sum(cash) AS cash, sum(cost) AS cost, sum(fee) AS fee, sum(realized) AS realized,
       sum(dividend) AS dividend, sum(interest) AS interest, sum(capital) AS capital FROM orders.ledger GROUP BY 1, 2"""
INVARIANTS: dict[str, str] = {
    "cash is the sum of the ledger": f"""
        SELECT a.id, a.cash, l.cash AS total FROM orders.accounts a
        JOIN ({_BOOKS}) l ON l.account_id = a.id AND l.generation = a.generation
        WHERE a.cash <> l.cash""",
    "cash is deposits, dividends, interest, cash in lieu and fills, recomputed": """
        SELECT a.id, a.cash, d.paid, f.moved FROM orders.accounts a
        LEFT JOIN (SELECT account_id, generation,
                          sum(capital + dividend - interest + CASE kind WHEN 'split' THEN cash ELSE 0 END) AS paid
                   FROM orders.ledger GROUP BY 1, 2) d
          ON d.account_id = a.id AND d.generation = a.generation
        LEFT JOIN (SELECT account_id, generation,
                          sum(CASE side WHEN 'buy' THEN -amount ELSE amount END - fee) AS moved
                   FROM orders.fills GROUP BY 1, 2) f ON f.account_id = a.id AND f.generation = a.generation
        WHERE a.cash <> COALESCE(d.paid, 0) + COALESCE(f.moved, 0)""",
    "a position is the sum of its fills": """
        SELECT * FROM (
          SELECT account_id, symbol, sum(qty) AS qty FROM (
            SELECT account_id, generation, symbol, CASE side WHEN 'buy' THEN qty ELSE -qty END AS qty FROM orders.fills
            UNION ALL SELECT account_id, generation, symbol, qty FROM orders.ledger WHERE kind = 'split'
          ) moved JOIN orders.accounts a ON a.id = moved.account_id AND a.generation = moved.generation GROUP BY 1, 2
        ) f FULL JOIN orders.positions p USING (account_id, symbol)
        WHERE COALESCE(f.qty, 0) <> COALESCE(p.qty, 0)""",
    "a position is its open lots": """
        SELECT * FROM orders.positions p
        FULL JOIN (SELECT account_id, symbol, sum(qty) AS qty, sum(cost) AS cost FROM orders.lots GROUP BY 1, 2) l
        USING (account_id, symbol)
        WHERE COALESCE(l.qty, 0) <> COALESCE(p.qty, 0) OR COALESCE(l.cost, 0) <> COALESCE(p.cost, 0)""",
    "a position is the sum of its ledger entries": """
        SELECT * FROM orders.positions p
        FULL JOIN (SELECT l.account_id, l.symbol, sum(l.qty) AS qty, sum(l.cost) AS cost FROM orders.ledger l
                   JOIN orders.accounts a ON a.id = l.account_id AND a.generation = l.generation
                   WHERE l.symbol IS NOT NULL GROUP BY 1, 2) l USING (account_id, symbol)
        WHERE COALESCE(l.qty, 0) <> COALESCE(p.qty, 0) OR COALESCE(l.cost, 0) <> COALESCE(p.cost, 0)""",
    "realised P&L is that of the round trips": f"""
        SELECT l.account_id FROM ({_BOOKS}) l
        LEFT JOIN (SELECT account_id, generation, sum(realized_pl) AS realized FROM orders.round_trips GROUP BY 1, 2) t
        USING (account_id, generation) WHERE l.realized <> COALESCE(t.realized, 0)""",
    "an order's fees are those of its fills": """
        SELECT o.id FROM orders.orders o
        LEFT JOIN (SELECT account_id, order_id, sum(fee) AS fee, count(*) AS fills FROM orders.fills GROUP BY 1, 2) f
          ON f.account_id = o.account_id AND f.order_id = o.id
        WHERE o.fees <> COALESCE(f.fee, 0) OR o.fills <> COALESCE(f.fills, 0)""",
    "cash + cost of lots + fees - realised P&L - dividends = deposits": f"""
        SELECT a.id FROM orders.accounts a JOIN ({_BOOKS}) l ON l.account_id = a.id AND l.generation = a.generation
        WHERE a.cash + COALESCE((SELECT sum(cost) FROM orders.lots l WHERE l.account_id = a.id), 0)
              + COALESCE((SELECT sum(fee) FROM orders.fills f
                          WHERE f.account_id = a.id AND f.generation = a.generation), 0)
              - COALESCE((SELECT sum(realized_pl) FROM orders.round_trips t
                          WHERE t.account_id = a.id AND t.generation = a.generation), 0)
              + l.interest - l.dividend <> l.capital""",
    "an account reserves the sum of its open orders": f"""
        SELECT a.id, a.reserved FROM orders.accounts a
        WHERE a.reserved <> COALESCE((SELECT sum(o.reserved) FROM orders.orders o
                                      WHERE o.account_id = a.id AND {_IS_OPEN}), 0)""",
    "closing orders hold at most the position": f"""
        SELECT w.account_id, w.symbol, p.qty, w.of_long, w.of_short FROM (
          SELECT account_id, symbol,
                 sum(CASE WHEN (side = 'sell') <> ({_IS_ENTRY}) THEN held_for_orders ELSE 0 END) AS of_long,
                 sum(CASE WHEN (side = 'sell') <> ({_IS_ENTRY}) THEN 0 ELSE held_for_orders END) AS of_short
          FROM orders.orders o WHERE {_IS_OPEN} GROUP BY 1, 2
        ) w LEFT JOIN orders.positions p USING (account_id, symbol)
        WHERE w.of_long > GREATEST(COALESCE(p.qty, 0), 0) OR w.of_short > GREATEST(COALESCE(-p.qty, 0), 0)""",
    "nothing is reserved or held for an ended order": f"""
        SELECT id FROM orders.orders o WHERE (reserved <> 0 OR held_for_orders <> 0) AND NOT {_IS_OPEN}""",
    "an order's filled quantity is the sum of its fills, at most its quantity": """
        SELECT o.id FROM orders.orders o
        LEFT JOIN (SELECT account_id, order_id, sum(qty) AS qty FROM orders.fills GROUP BY 1, 2) f
          ON f.account_id = o.account_id AND f.order_id = o.id
        WHERE o.filled_qty <> COALESCE(f.qty, 0) OR o.filled_qty > o.qty
           OR o.notional IS NULL AND o.status <> 'replaced' AND (o.status = 'filled') <> (o.filled_qty = o.qty)""",
    "a fill lies on its quote or in its bar, which is newer than the order": """
        SELECT f.id FROM orders.fills f JOIN orders.orders o ON o.account_id = f.account_id AND o.id = f.order_id
        WHERE f.quoted_at <= o.accepted_at OR f.filled_at < f.quoted_at
           OR f.stage <> 'quote' AND (f.since < o.accepted_at OR f.price NOT BETWEEN f.low AND f.high)
           OR f.stage = 'quote' AND f.price - CASE f.side WHEN 'buy' THEN f.slippage ELSE -f.slippage END
              <> CASE f.side WHEN 'buy' THEN COALESCE(f.ask, f.price - f.slippage)
                             ELSE COALESCE(f.bid, f.price + f.slippage) END
              AND NOT (o.limit_price IS NOT NULL  -- one that rested fills at its limit
                       AND CASE f.side WHEN 'buy' THEN f.price > f.ask ELSE f.price < f.bid END)
           OR f.stage = 'quote' AND CASE f.side WHEN 'buy' THEN f.ask ELSE f.bid END IS NULL
              AND num_nonnulls(f.bid, f.ask) > 0
           OR f.stage = 'quote' AND f.bid > f.ask
           OR (o.adjusted_at IS NULL OR f.filled_at > o.adjusted_at)
              AND (o.side = 'buy' AND f.price > o.limit_price OR o.side = 'sell' AND f.price < o.limit_price)""",
    "an order for an auction fills in it alone, at its price, and no other order does": """
        SELECT f.id FROM orders.fills f JOIN orders.orders o ON o.account_id = f.account_id AND o.id = f.order_id
        WHERE (f.stage = 'auction') <> (o.time_in_force IN ('opg', 'cls'))
           OR f.stage = 'auction' AND (f.price <> f.last OR f.slippage <> 0 OR f.quoted_at <= o.active_at)""",
    "a fill is converted at the rate that it names, on its side of the pair's quote": """
        SELECT f.id FROM orders.fills f JOIN orders.accounts a ON a.id = f.account_id
        JOIN orders.orders o ON o.account_id = f.account_id AND o.id = f.order_id
        WHERE f.currency <> o.currency
           OR CASE WHEN f.currency = a.currency THEN f.rate <> 1 OR f.rate_quoted_at IS NOT NULL
                   ELSE f.rate_quoted_at IS NULL OR f.rate <> CASE f.side WHEN 'buy' THEN COALESCE(f.rate_ask, f.rate)
                                                                          ELSE COALESCE(f.rate_bid, f.rate) END END""",
    # fills of earlier versions were rounded to the nearest cent
    "a fill's amount is its value to the cent, rounded against the trader": """
        SELECT f.id FROM orders.fills f CROSS JOIN LATERAL (SELECT 100 * f.qty * f.price * f.rate AS cents) v
        WHERE 100 * f.amount <> CASE f.side WHEN 'buy' THEN ceil(v.cents) ELSE floor(v.cents) END
          AND 100 * f.amount <> round(v.cents)""",
    "nothing fills after its end": """
        SELECT f.id FROM orders.fills f JOIN orders.orders o ON o.account_id = f.account_id AND o.id = f.order_id
        WHERE o.status IN ('canceled', 'expired', 'rejected', 'replaced')
          AND (o.filled_qty = o.qty AND o.status <> 'replaced'
               OR f.filled_at > COALESCE(o.canceled_at, o.expired_at, o.replaced_at, o.updated_at))""",
    "a dividend is paid by the entry of the ledger that it has, once": """
        SELECT d.account_id, d.action_id FROM orders.dividends d
        LEFT JOIN orders.ledger l
          ON l.account_id = d.account_id AND l.kind = 'dividend' AND l.reference = d.action_id
        WHERE l.cash IS DISTINCT FROM d.cash OR l.generation IS DISTINCT FROM d.generation AND d.cash IS NOT NULL""",
    "every ledger entry of a fill has its fill, once": """
        SELECT reference FROM orders.ledger WHERE kind = 'fill' GROUP BY reference
        HAVING count(*) <> 1 OR NOT EXISTS (SELECT FROM orders.fills f WHERE f.id = ledger.reference)""",
    "two open exits of an order group have the same quantity left": f"""
        SELECT order_group FROM orders.orders o WHERE leg IS NOT NULL AND {_IS_OPEN} GROUP BY account_id, order_group
        HAVING count(*) > 2 OR min(qty - filled_qty) <> max(qty - filled_qty)""",
    "a fill's realised P&L is that of the round trips that it ended": """
        SELECT f.id FROM orders.fills f
        LEFT JOIN (SELECT account_id, exit_fill_id, sum(realized_pl) AS realized_pl
                   FROM orders.round_trips GROUP BY 1, 2) t
          ON t.account_id = f.account_id AND t.exit_fill_id = f.id
        WHERE f.realized_pl IS DISTINCT FROM t.realized_pl""",
    "an ended order with fills is one trade, with their sums; no other order is one": """
        SELECT COALESCE(t.account_id, f.account_id) AS account_id, COALESCE(t.order_id, f.order_id) AS order_id
        FROM orders.trades t FULL JOIN (
          SELECT f.account_id, f.order_id, sum(f.qty) AS qty, sum(f.fee) AS fees, min(f.filled_at) AS first_at,
                 sum(f.realized_pl) AS realized_pl
          FROM orders.fills f JOIN orders.orders o ON o.account_id = f.account_id AND o.id = f.order_id
          WHERE NOT o.is_open GROUP BY 1, 2
        ) f ON f.account_id = t.account_id AND f.order_id = t.order_id
        WHERE t.order_id IS NULL OR f.order_id IS NULL
           OR (t.qty, t.fees, t.first_fill_at) <> (f.qty, f.fees, f.first_at)
           OR t.realized_pl IS DISTINCT FROM f.realized_pl""",
}
