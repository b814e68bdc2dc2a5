"""SQL of the close before today, by each market's own day: what the change of a day counts from.

The account that a user sees and the values that valuation keeps count from the same close.
"""

#: Each market's date and midnight at ``:now``, and its last trading day before that: its date, midnight and close.
DAYS = """
days AS MATERIALIZED (
  SELECT m.code AS market, t.today, CAST(t.today AS timestamp) AT TIME ZONE m.timezone AS midnight, before.day,
         CAST(before.day AS timestamp) AT TIME ZONE m.timezone AS begin_at, before.close_at
  FROM marketdata.markets_v1 m
  CROSS JOIN LATERAL (SELECT CAST(CAST(:now AS timestamptz) AT TIME ZONE m.timezone AS date) AS today) t
  LEFT JOIN LATERAL (
    (SELECT d.day, d.close_at FROM marketdata.trading_days_v1 d
     WHERE NOT m.always_open AND d.market = m.code AND d.day < t.today AND d.day > t.today - 30
     ORDER BY d.day DESC LIMIT 1)
    UNION ALL
    SELECT t.today - 1, CAST(t.today AS timestamp) AT TIME ZONE m.timezone WHERE m.always_open
  ) before ON true
)
"""


def joined(row: str) -> str:
    """The joins of a row with ``symbol`` to the close of its day ``d``, which is official or else that of a bar.

    The close is ``COALESCE(official.price, traded.close)``, and its time ``COALESCE(official.held_at,
    traded.start_at)``.
    """
    return f"""
LEFT JOIN marketdata.official_prices_v1 official
  ON official.symbol = {row}.symbol AND official.day = d.day AND official.kind = 'close'
LEFT JOIN LATERAL (
  SELECT b.close, b.start_at FROM unnest(ARRAY['1m', 'replay', '1d']) AS kept (interval)
  CROSS JOIN LATERAL (
    SELECT close, start_at FROM marketdata.bars_v1 b
    WHERE b.symbol = {row}.symbol AND b.interval = kept.interval AND b.start_at >= d.begin_at
      AND b.start_at < d.close_at
    ORDER BY b.start_at DESC LIMIT 1
  ) b
  ORDER BY b.start_at DESC LIMIT 1
) traded ON official.price IS NULL
"""
