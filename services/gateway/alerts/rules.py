"""The alert rules: for each kind, the rows that make an alert stand now.

A rule is one statement over all jobs, queues or workers. Its columns are the arguments of the alert's function. Rules
have no memory: the standing alerts follow from the rows and the time. A job's thresholds are its settings. A retired or
removed job raises none.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, TextClause, text

from services.gateway.alerts import alert as words
from services.gateway.alerts import market_prices
from services.gateway.alerts.alert import Alert
from shared.bus.amqp.queue_stats import QueueStats
from shared.contracts.routing import QUEUES, SERVICES, WORKERS, dead_queue
from shared.observability import progress

#: A worker without a heartbeat for this long is gone.
GONE_AFTER = timedelta(seconds=15)
#: A process that was started as its replacement may have worked beside it for this long.
OVERLAP = timedelta(minutes=1)
#: After this time without a heartbeat, any process that was started since has replaced it, and later any that works.
REPLACED_AFTER = timedelta(minutes=10)
GIVEN_UP_AFTER = timedelta(days=1)
#: A clock that differs from PostgreSQL's by more than this, either way, is off.
CLOCK_OFF = timedelta(seconds=2)
#: A dead letter, and a missed slot, raise an alert while they are younger than this.
DEAD_LETTER_IS_NEW = timedelta(minutes=15)
MISSED_IS_NEW = timedelta(minutes=5)
#: This number of wrong keys raises an alert, until none has come for this long.
GUESSES = 30
GUESS_IS_NEW = timedelta(minutes=5)

#: A headline raises an alert for this long after it came, and one evaluation raises at most so many.
NEWS_IS_NEW = timedelta(hours=1)
MOST_NEWS = 10

#: The kinds that follow from rows. They can be judged whenever the database answers.
FROM_ROWS = (
    "job_failing",
    "run_too_long",
    "slot_late",
    "slot_missed",
    "breaker_open",
    "dead_letters",
    "heartbeat_gone",
    "clock_off",
    "keys_guessed",
)
FROM_QUEUES = ("queue_old",)
FROM_NEWS = ("bad_news",)
FROM_PROGRESS = ("prices_old", "market_prices_old", "values_old", "outbox_stuck")


def from_rows(connection: Connection, now: datetime, since: datetime) -> list[Alert]:
    """Return the alerts that follow from rows. Slots and heartbeats that were due before ``since`` raise none."""
    values = {
        "now": now,
        "since": since,
        "gone_after": GONE_AFTER,
        "clock_off": CLOCK_OFF,
        "replaced_after": REPLACED_AFTER,
        "overlap": OVERLAP,
        "given_up_after": GIVEN_UP_AFTER,
        "missed": now - MISSED_IS_NEW,
        "guessed": now - GUESS_IS_NEW,
        "guesses": GUESSES,
    }
    found = [alert(**row) for sql, alert in _RULES for row in connection.execute(sql, values).mappings()]
    return [*found, *_dead_letters(connection, now)]


def _dead_letters(connection: Connection, now: datetime) -> list[Alert]:
    """Return an alert for each service with new dead letters. A service whose view does not exist yet is left out."""
    ready = connection.execute(_READY, {"services": list(SERVICES)}).scalars().all()
    if not ready:
        return []
    counts = text(" UNION ALL ".join(_DEAD_LETTERS.format(service=service) for service in ready))
    rows = connection.execute(counts, {"since": now - DEAD_LETTER_IS_NEW})
    return [words.dead_letters(**row, within=DEAD_LETTER_IS_NEW) for row in rows.mappings()]


def from_queues(connection: Connection, figures: Iterable[QueueStats], most: timedelta) -> list[Alert]:
    """Return the alerts of queues whose oldest message is older than ``most``. A paused queue raises none."""
    paused = set(connection.execute(_PAUSED).scalars())
    return [
        words.queue_old(queue=each.queue, age=age, most=most, ready=each.ready, consumers=each.consumers)
        for each in figures
        if each.queue in _CONSUMED - paused and (age := timedelta(seconds=each.oldest_age or 0)) > most
    ]


def from_progress(connection: Connection, now: datetime, since: datetime, price_age: float) -> list[Alert]:
    """Return the alerts of parts that do not keep up. ``since`` is our own start, before which nothing is late.

    A part whose views do not exist yet is left out.
    """
    ready = connection.execute(_PROGRESS_IS_READY).one()
    measured = progress.prices(connection, now, since, price_age) if ready.prices else []
    measured += progress.values(connection, now, since) if ready.prices and ready.positions else []
    alerts = {"prices": words.prices_old, "values": words.values_old}
    late = [
        alerts[each.part](age=timedelta(seconds=each.behind), most=timedelta(seconds=each.most))
        for each in measured
        if each.is_late
    ]
    most = timedelta(seconds=progress.OUTBOX_SECONDS)
    stuck = connection.execute(_STUCK, {"lately": now - progress.MEASURED_LATELY, "most": most}).mappings()
    markets = [
        words.market_prices_old(**row)
        for each in measured
        if each.part == "prices" and not each.is_late  # else one alert is about all of them
        for row in market_prices.old(connection, now, since, timedelta(seconds=each.most))
    ]
    return [*late, *markets, *(words.outbox_stuck(**row, most=most) for row in stuck)]


def from_news(connection: Connection, now: datetime, score: float) -> list[Alert]:
    """Return the alerts of new headlines about held symbols with at most that score.

    Each headline raises one alert, also if the symbol is sold and bought again meanwhile. There are none before the
    views exist.
    """
    if not connection.execute(_NEWS_IS_READY).scalar_one():
        return []
    rows = connection.execute(_BAD_NEWS, {"since": now - NEWS_IS_NEW, "score": score, "most": MOST_NEWS})
    return [words.bad_news(**row) for row in rows.mappings()]


#: Neither the queues of single gateway processes, nor those in which messages wait for a retry.
_CONSUMED = frozenset({*QUEUES, *map(dead_queue, WORKERS)})

#: Skipped and canceled runs do not count. BETWEEN and the order by job leave the planner only the index that begins
#: with the job. With an equality it may read the runs of all jobs by time, until it has found enough of a rare one.
_FAILING = text("""
SELECT j.name AS job, j.service, latest.failures, latest.failed_at, latest.error
FROM jobs.jobs j
CROSS JOIN LATERAL (SELECT COALESCE(CAST(j.settings ->> 'alert_failures' AS integer), 3) AS most) AS threshold
CROSS JOIN LATERAL (
  SELECT count(*) AS failures, max(finished_at) AS failed_at, bool_and(outcome <> 'succeeded') AS all_failed,
         (array_agg(right(COALESCE(error, reason), 2000) ORDER BY queued_at DESC, id DESC))[1] AS error
  FROM (
    SELECT r.outcome, r.finished_at, r.error, r.reason, r.queued_at, r.id FROM jobs.job_runs r
    WHERE r.job BETWEEN j.name AND j.name AND r.part IS NULL AND r.outcome IN ('succeeded', 'failed', 'lost')
    ORDER BY r.job, r.queued_at DESC, r.id DESC LIMIT threshold.most
  ) AS newest
) AS latest
WHERE latest.failures = threshold.most AND latest.all_failed AND j.retired_at IS NULL
""")
_TOO_LONG = text("""
SELECT r.job, r.service, CAST(r.id AS text) AS run_id, r.worker, r.started_at, threshold.most
FROM jobs.job_runs r
JOIN jobs.jobs j ON j.name = r.job
CROSS JOIN LATERAL (SELECT COALESCE(CAST(j.settings ->> 'alert_runtime' AS interval), '5m') AS most) AS threshold
WHERE r.active AND r.state IN ('running', 'joining') AND r.part IS NULL AND r.started_at < :now - threshold.most
  AND j.retired_at IS NULL
""")
#: Runs in a paused queue are not late: an operator stopped them.
#: If a job has a waiting run and is due again, the alert is about the run, because it was due first.
_LATE = text("""
SELECT DISTINCT ON (late.job) late.job, j.service, late.due_at, threshold.most, late.waiting
FROM (
  SELECT name AS job, due_at, NULL AS waiting FROM jobs.jobs
  WHERE COALESCE(CAST(settings ->> 'enabled' AS boolean), true)
  UNION ALL
  SELECT job, scheduled_for, CAST(id AS text) FROM jobs.job_runs
  WHERE active AND state = 'queued' AND trigger = 'schedule' AND part IS NULL AND started_at IS NULL
  UNION ALL
  SELECT job, scheduled_for, CAST(id AS text) FROM jobs.job_runs
  WHERE NOT active AND trigger = 'schedule' AND part IS NULL AND started_at IS NULL
    AND (not_before IS NULL OR not_before <= :now)
) AS late
JOIN jobs.jobs j ON j.name = late.job
CROSS JOIN LATERAL (SELECT COALESCE(CAST(j.settings ->> 'alert_late' AS interval), '1m') AS most) AS threshold
WHERE late.due_at < :now - threshold.most AND late.due_at >= :since AND j.retired_at IS NULL
  AND (late.waiting IS NULL OR NOT EXISTS (
    SELECT FROM jobs.queue_controls c WHERE c.queue = j.service || '.jobs' AND c.paused))
ORDER BY late.job, late.due_at
""")
#: The row of a job's last skip may be old and still grow, so it is read beside the rows of the last minutes.
_MISSED = text("""
SELECT DISTINCT ON (job) job, service, COALESCE(last_slot, scheduled_for) AS last_slot, slots, finished_at AS noticed_at
FROM (
  SELECT r.job, r.service, r.last_slot, r.scheduled_for, r.slots, r.finished_at, r.outcome, r.reason
  FROM jobs.job_runs r WHERE r.queued_at > :missed
  UNION ALL
  SELECT latest.* FROM jobs.jobs j CROSS JOIN LATERAL (
    SELECT r.job, r.service, r.last_slot, r.scheduled_for, r.slots, r.finished_at, r.outcome, r.reason
    FROM jobs.job_runs r WHERE r.job BETWEEN j.name AND j.name AND r.part IS NULL AND r.state = 'finished'
    ORDER BY r.job, r.queued_at DESC, r.id DESC LIMIT 1
  ) AS latest
) AS skip
WHERE outcome = 'skipped' AND reason LIKE 'missed%' AND finished_at > :missed
  AND EXISTS (SELECT FROM jobs.jobs j WHERE j.name = skip.job AND j.retired_at IS NULL)
ORDER BY job, finished_at DESC
""")
_BREAKERS = text("""
SELECT name, state, since, failures, next_attempt_at, last_error FROM jobs.breakers WHERE state <> 'closed'
""")
#: Heartbeats are times of PostgreSQL's clock, so it tells how old they are. ``since`` is a time of ours.
#: A start makes up for one loss: for the latest before it that no other start makes up for. So the loss of a process is
#: made up for once as many were started since as were lost since. A replacement may overlap with the old process, but
#: two that were started together are twins.
_SILENT = text("""
WITH working AS (
  SELECT service, kind, count(*) AS number, max(started_at) AS newest FROM jobs.workers
  WHERE stopped_at IS NULL AND heartbeat_at >= now() - CAST(:gone_after AS interval) GROUP BY service, kind
), lost AS (
  SELECT id, service, kind, host, pid, heartbeat_at,
         LEAST(heartbeat_at, GREATEST(heartbeat_at - :overlap, started_at + :overlap)) AS replaceable_at
  FROM jobs.workers
  WHERE stopped_at IS NULL AND heartbeat_at < now() - CAST(:gone_after AS interval)
    AND heartbeat_at >= now() - (CAST(:now AS timestamptz) - CAST(:since AS timestamptz))
)
SELECT w.id AS worker, w.service, w.kind, w.host, w.pid, w.heartbeat_at, COALESCE(working.number, 0) AS alive
FROM lost w LEFT JOIN working ON working.service = w.service AND working.kind = w.kind
WHERE NOT (w.heartbeat_at < now() - CAST(:replaced_after AS interval)
           AND COALESCE(working.newest > w.replaceable_at, false))
  AND NOT (w.heartbeat_at < now() - CAST(:given_up_after AS interval) AND COALESCE(working.number, 0) > 0)
  AND NOT EXISTS (
    SELECT FROM jobs.workers s
    WHERE w.heartbeat_at >= now() - CAST(:replaced_after AS interval) AND s.service = w.service AND s.kind = w.kind
      AND s.started_at > w.replaceable_at AND s.id <> w.id
      AND (SELECT count(*) FROM jobs.workers b
           WHERE b.service = w.service AND b.kind = w.kind AND b.id <> w.id
             AND b.started_at > w.replaceable_at AND b.started_at <= s.started_at)
       >= (SELECT count(*) FROM lost l
           WHERE l.service = w.service AND l.kind = w.kind
             AND (l.heartbeat_at, l.id) >= (w.heartbeat_at, w.id) AND l.replaceable_at < s.started_at))
""")
#: PostgreSQL's clock tells which processes live: ours may be the one that is off.
_CLOCK_OFF = text("""
SELECT id AS worker, service, kind, host, clock_ahead AS ahead FROM jobs.workers
WHERE stopped_at IS NULL AND heartbeat_at > now() - CAST(:gone_after AS interval)
  AND (clock_ahead > :clock_off OR clock_ahead < -CAST(:clock_off AS interval))
""")
_PROGRESS_IS_READY = text("""
SELECT COALESCE(has_table_privilege(to_regclass('marketdata.instruments_v1'), 'SELECT'), false)
         AND COALESCE(has_table_privilege(to_regclass('marketdata.sessions_v1'), 'SELECT'), false) AS prices,
       COALESCE(has_table_privilege(to_regclass('orders.positions_v1'), 'SELECT'), false) AS positions
""")
_NEWS_IS_READY = text("""
SELECT COALESCE(has_table_privilege(to_regclass('marketdata.news_v1'), 'SELECT'), false)
         AND COALESCE(has_table_privilege(to_regclass('orders.positions_v1'), 'SELECT'), false)
""")
_BAD_NEWS = text("""
SELECT n.id AS news_id, n.title, n.source, n.score, n.scored_by, n.published_at, held.symbols
FROM marketdata.news_v1 n
CROSS JOIN LATERAL (
  SELECT array_agg(s.symbol ORDER BY s.symbol) AS symbols FROM marketdata.news_symbols_v1 s
  WHERE s.news_id = n.id AND EXISTS (SELECT FROM orders.positions_v1 p WHERE p.symbol = s.symbol)
) held
WHERE n.received_at > :since AND n.published_at > CAST(:since AS timestamptz) - interval '1 day' AND n.score <= :score
  AND held.symbols IS NOT NULL
  AND NOT EXISTS (
    SELECT FROM jobs.notifications told
    WHERE told.kind = 'bad_news' AND told.subject = CAST(n.id AS text) AND told.resolved_at IS NOT NULL
      AND told.opened_at > :since)
ORDER BY n.received_at, n.id LIMIT :most
""")
_STUCK = text("""
SELECT service, measured_at - reached_at AS age FROM jobs.progress
WHERE part = 'outbox' AND measured_at > :lately AND measured_at - reached_at > :most ORDER BY service
""")
#: A key id raises one of its own only if no address alone explains it. The worst stand for the rest.
_GUESSED = text("""
WITH recent AS (SELECT key_id, address, tries, first_at, last_at FROM gateway.wrong_keys WHERE last_at > :guessed)
(SELECT 'address' AS what, address AS name, CAST(sum(tries) AS bigint) AS tries, count(*) AS others,
        min(first_at) AS first_at, max(last_at) AS last_at
 FROM recent GROUP BY address HAVING sum(tries) >= :guesses ORDER BY sum(tries) DESC LIMIT 10)
UNION ALL
(SELECT 'key', key_id, CAST(sum(tries) AS bigint), count(*), min(first_at), max(last_at)
 FROM recent GROUP BY key_id HAVING sum(tries) >= :guesses AND max(tries) < :guesses ORDER BY sum(tries) DESC LIMIT 10)
""")
_PAUSED = text("SELECT queue FROM jobs.queue_controls WHERE paused")
_READY = text("""
SELECT service FROM unnest(CAST(:services AS text[])) AS service
WHERE has_table_privilege(to_regclass(service || '.dead_letters_v1'), 'SELECT')
""")
_DEAD_LETTERS = """
SELECT '{service}' AS service, count(*) AS fresh, max(died_at) AS latest_at,
       mode() WITHIN GROUP (ORDER BY queue) AS queue, mode() WITHIN GROUP (ORDER BY reason) AS reason
FROM {service}.dead_letters_v1 WHERE died_at > :since HAVING count(*) > 0
"""

_RULES: Sequence[tuple[TextClause, Callable[..., Alert]]] = (
    (_FAILING, words.job_failing),
    (_TOO_LONG, words.run_too_long),
    (_LATE, words.slot_late),
    (_MISSED, words.slot_missed),
    (_BREAKERS, words.breaker_open),
    (_SILENT, words.heartbeat_gone),
    (_CLOCK_OFF, words.clock_off),
    (_GUESSED, words.keys_guessed),
)
