"""Finished reports that accounts asked for: each is announced to the channels once.

Its row in ``jobs.notifications`` is written as one that is over and whose end was not sent yet, so that the notifier
sends one message and no alert stands meanwhile. The caller holds the evaluator's lock, so of several replicas one
announces.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from services.gateway.alerts.notification import MOST_SINGLE, REPORT, Notification
from shared.reports.page import report_page

#: A report is announced within this time after it was made. Older ones were made before there was a gateway.
IS_NEW = timedelta(days=1)
MOST = 200


def announce(connection: Connection, now: datetime) -> int:
    """Write a notification for each new report that was asked for, and return their number.

    There are none before the view exists.
    """
    if not connection.execute(_IS_READY).scalar_one():
        return 0
    given = {"kind": REPORT, "since": now - IS_NEW, "most": MOST}
    rows = [
        {
            "subject": f"{row.account_id} {row.period} {row.day} {row.generation}",
            "message": f"{row.summary} Read it at /api/accounts/{row.account_id}/report?period={row.period}"
            f"&from={row.day}, or with the account's key at /api/account/report.",
            "facts": {"account_id": str(row.account_id), "period": row.period, "day": f"{row.day}"},
        }
        for row in connection.execute(_NEW, given)
    ]
    if rows:
        connection.execute(_ADD, {"kind": REPORT, "now": now, "reports": json.dumps(rows)})
    return len(rows)


def pages(connection: Connection, notifications: Sequence[Notification]) -> dict[int, str]:
    """Return the page of each report among the notifications, by the notification's id. A digest has none."""
    subjects = {each.subject: each.id for each in notifications if each.kind == REPORT}
    if not subjects or len(notifications) > MOST_SINGLE:
        return {}
    rows = connection.execute(_CONTENTS, {"subjects": list(subjects)})
    return {subjects[row.subject]: report_page(row.content) for row in rows}


_IS_READY = text("SELECT COALESCE(has_table_privilege(to_regclass('valuation.reports_v1'), 'SELECT'), false)")
_NEW = text("""
SELECT r.account_id, r.generation, r.period, r.day, r.summary FROM valuation.reports_v1 r
WHERE r.wanted AND r.made_at > :since AND NOT EXISTS (
  SELECT FROM jobs.notifications told
  WHERE told.kind = :kind AND told.opened_at > :since
    AND told.subject = concat_ws(' ', r.account_id, r.period, r.day, r.generation))
ORDER BY r.made_at, r.account_id LIMIT :most
""")
_CONTENTS = text("""
SELECT s.subject, r.content FROM unnest(CAST(:subjects AS text[])) AS s (subject)
CROSS JOIN LATERAL (SELECT string_to_array(s.subject, ' ') AS words) w
JOIN valuation.reports_v1 r ON r.account_id = CAST(w.words[1] AS uuid) AND r.generation = CAST(w.words[4] AS integer)
  AND r.period = w.words[2] AND r.day = CAST(w.words[3] AS date)
""")
#: ``sent_at`` is set because there is no message for the begin.
_ADD = text("""
INSERT INTO jobs.notifications
  (kind, subject, severity, message, facts, opened_at, seen_at, resolved_at, sent_at)
SELECT :kind, subject, 'warning', message, facts, :now, :now, :now, :now
FROM jsonb_to_recordset(CAST(:reports AS jsonb)) AS report (subject text, message text, facts jsonb)
""")
