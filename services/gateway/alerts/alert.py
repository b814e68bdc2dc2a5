"""An alert: a problem that an administrator must know of while it stands. Each kind has its severity and text here.

At most one alert of a kind about a subject is open at a time. ``facts`` holds the message's details as JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

Severity = Literal["warning", "critical"]

_LONGEST_DETAIL = 200


@dataclass(frozen=True)
class Alert:
    """``message`` is one sentence that states the problem and the remedy."""

    kind: str
    subject: str
    severity: Severity
    message: str
    facts: Mapping[str, Any]


def job_failing(*, job: str, service: str, failures: int, failed_at: datetime, error: str | None) -> Alert:
    """The last ``failures`` runs of a job failed. ``error`` is the traceback or reason of the latest."""
    detail = last_line(error)
    message = f"The last {failures} runs of job {job} ({service}) failed, the latest with: {detail}"
    facts = {"service": service, "failures": failures, "failed_at": moment(failed_at), "error": detail}
    return Alert("job_failing", job, "critical", f"{message}; fix the cause, then trigger the job to check it.", facts)


def run_too_long(
    *, job: str, service: str, run_id: str, worker: str | None, started_at: datetime, most: timedelta
) -> Alert:
    """A run has been active for longer than its job allows."""
    message = f"Run {run_id} of job {job} has been active since {clock_time(started_at)}, longer than {span(most)}"
    facts = {
        "service": service,
        "run_id": run_id,
        "worker": worker,
        "started_at": moment(started_at),
        "limit_seconds": seconds(most),
    }
    advice = f"check its log and its worker {worker or '(none)'}, and cancel the run if it hangs"
    return Alert("run_too_long", job, "warning", f"{message}; {advice}.", facts)


def slot_late(*, job: str, service: str, due_at: datetime, most: timedelta, waiting: str | None) -> Alert:
    """A slot is overdue. ``waiting`` is the id of the run that has not started, None if no scheduler made one."""
    facts = {"service": service, "due_at": moment(due_at), "limit_seconds": seconds(most), "run_id": waiting}
    late = f"Job {job} was due at {clock_time(due_at)} and is more than {span(most)} late"
    advice = (
        f"no scheduler of {service} has checked it, so make sure that a replica of {service} is running"
        if waiting is None
        else f"its run waits for a worker, so check the workers of {service}, or start another replica"
    )
    return Alert("slot_late", job, "critical", f"{late}: {advice}.", facts)


def slot_missed(*, job: str, service: str, last_slot: datetime, slots: int, noticed_at: datetime) -> Alert:
    """Slots were skipped because no scheduler claimed them in time."""
    facts = {"service": service, "slots": slots, "last_slot": moment(last_slot), "noticed_at": moment(noticed_at)}
    missed = f"Job {job} missed {counted(slots, 'slot')}, the last at {clock_time(last_slot)}"
    advice = f"no scheduler of {service} was running in time; find out why, and backfill the slots if they matter"
    return Alert("slot_missed", job, "warning", f"{missed}: {advice}.", facts)


def breaker_open(
    *, name: str, state: str, since: datetime, failures: int, next_attempt_at: datetime | None, last_error: str | None
) -> Alert:
    """The circuit breaker of a dependency is not closed."""
    detail = last_line(last_error)
    facts = {
        "state": state,
        "since": moment(since),
        "failures": failures,
        "next_attempt_at": None if next_attempt_at is None else moment(next_attempt_at),
        "error": detail,
    }
    message = f"Calls to {name} are blocked because its circuit breaker is open ({detail})"
    advice = f"check whether {name} is down or rejects our calls; the breaker retries it and closes by itself"
    return Alert("breaker_open", name, "warning", f"{message}; {advice}.", facts)


def dead_letters(*, service: str, fresh: int, latest_at: datetime, queue: str, reason: str, within: timedelta) -> Alert:
    """A service has ``fresh`` new dead letters, most of them in ``queue`` for ``reason``."""
    facts = {"fresh": fresh, "latest_at": moment(latest_at), "queue": queue, "reason": reason}
    became = "became a dead letter" if fresh == 1 else "became dead letters"
    message = f"{counted(fresh, 'message')} of {service} {became} in the last {span(within)}"
    advice = f"mostly in {queue} for {last_line(reason)}; fix the cause, then requeue or discard them"
    return Alert("dead_letters", service, "critical", f"{message}, {advice}.", facts)


def queue_old(*, queue: str, age: timedelta, most: timedelta, ready: int, consumers: int) -> Alert:
    """The oldest message of a queue has waited for longer than ``most``."""
    facts = {"oldest_seconds": seconds(age), "limit_seconds": seconds(most), "ready": ready, "consumers": consumers}
    message = f"The oldest of {counted(ready, 'message')} in queue {queue} has waited for more than {span(most)}"
    advice = (
        "its consumers do not keep up, so check their logs, or start another replica"
        if consumers
        else f"nothing consumes it, so make sure that {queue.partition('.')[0]} is running"
    )
    return Alert("queue_old", queue, "warning", f"{message}: {advice}.", facts)


def heartbeat_gone(
    *,
    worker: str,
    service: str,
    kind: str,
    host: str,
    pid: int,
    heartbeat_at: datetime,
    alive: int,
) -> Alert:
    """A process stopped sending heartbeats. ``alive`` counts processes of the same service and kind that still do."""
    facts = {
        "service": service,
        "kind": kind,
        "host": host,
        "pid": pid,
        "heartbeat_at": moment(heartbeat_at),
        "alive": alive,
    }
    message = f"A {kind} of {service} (process {pid} on {host}) has sent no heartbeat since {clock_time(heartbeat_at)}"
    advice = (
        f"{alive} of them still work, so make sure that it is restarted"
        if alive
        else f"none is left, so restart {service}"
    )
    return Alert("heartbeat_gone", worker, "warning" if alive else "critical", f"{message}: {advice}.", facts)


def clock_off(*, worker: str, service: str, kind: str, host: str, ahead: timedelta) -> Alert:
    """The clock of a live process is ``ahead`` of PostgreSQL's, or behind it if negative."""
    off = round(abs(ahead).total_seconds(), 1)
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    facts = {"service": service, "kind": kind, "host": host, "ahead_seconds": round(ahead.total_seconds(), 1)}
    message = f"The clock of {host}, which runs a {kind} of {service}, is {off} seconds {direction} PostgreSQL's"
    return Alert("clock_off", worker, "warning", f"{message}; synchronize both hosts by NTP.", facts)


def keys_guessed(*, what: str, name: str, tries: int, others: int, first_at: datetime, last_at: datetime) -> Alert:
    """An address, or a key id, has many wrong keys. ``others`` counts the key ids tried, or the addresses."""
    subject = f"{what} {name}"
    facts: dict[str, Any] = {"tries": tries, "first_at": moment(first_at), "last_at": moment(last_at)}
    if what == "address":
        message = f"{tries} requests from {subject} since {clock_time(first_at)} had a wrong key"
        facts["key_ids"] = others
        advice = (
            f"they tried {counted(others, 'key id')}, so correct the client if it is yours, or else block the address"
        )
    else:
        message = f"{tries} requests from {counted(others, 'address')} since {clock_time(first_at)} tried {subject}"
        facts["addresses"] = others
        advice = "its secret was wrong each time, so correct the client if it is yours, or else replace the key"
    return Alert("keys_guessed", subject, "warning", f"{message}; {advice}.", facts)


def prices_old(*, age: timedelta, most: timedelta) -> Alert:
    """The newest price is older than ``most`` while a market is open."""
    facts = {"age_seconds": seconds(age), "limit_seconds": seconds(most)}
    message = f"No new prices have come for {seconds(age)} seconds, longer than {span(most)}, while a market is open"
    advice = "check the job update_market_data, the log of marketdata and its provider"
    return Alert("prices_old", "prices", "critical", f"{message}; {advice}.", facts)


def market_prices_old(*, market: str, age: timedelta, most: timedelta, providers: str | None) -> Alert:
    """The newest price of a market in its session is older than ``most``, while other markets have newer ones."""
    facts = {"age_seconds": seconds(age), "limit_seconds": seconds(most), "providers": providers}
    message = (
        f"No new prices of {market} have come for {seconds(age)} seconds, longer than {span(most)}, in its session"
    )
    advice = f"check {providers or 'its provider'} and the log of marketdata, and name another provider after it"
    return Alert("market_prices_old", market, "warning", f"{message}; {advice}.", facts)


def values_old(*, age: timedelta, most: timedelta) -> Alert:
    """Prices of held symbols are not in the values of their holders for longer than ``most``."""
    facts = {"age_seconds": seconds(age), "limit_seconds": seconds(most)}
    message = f"The values of accounts lack the prices of the last {seconds(age)} seconds, more than {span(most)}"
    advice = "check the log of valuation and the queue valuation.prices"
    return Alert("values_old", "values", "critical", f"{message}; {advice}.", facts)


def outbox_stuck(*, service: str, age: timedelta, most: timedelta) -> Alert:
    """The oldest message in a service's outbox is older than ``most``."""
    facts = {"service": service, "age_seconds": seconds(age), "limit_seconds": seconds(most)}
    message = f"The oldest message in the outbox of {service} has waited for {seconds(age)} seconds to be sent"
    advice = f"more than {span(most)}; check RabbitMQ, and the log of {service}"
    return Alert("outbox_stuck", service, "critical", f"{message}, {advice}.", facts)


def bad_news(
    *,
    news_id: UUID,
    title: str,
    source: str,
    symbols: Sequence[str],
    score: float,
    scored_by: str,
    published_at: datetime,
) -> Alert:
    """A headline about held symbols is very negative."""
    facts = {
        "symbols": list(symbols),
        "score": score,
        "scored_by": scored_by,
        "source": source,
        "published_at": moment(published_at),
    }
    held = ", ".join(symbols)
    message = f"Negative news of {held}, which accounts hold (score {score:.2f}, {source}): {title[:_LONGEST_DETAIL]}"
    return Alert("bad_news", str(news_id), "warning", f"{message}. Read it at /api/news?symbol={symbols[0]}.", facts)


def last_line(text: str | None) -> str:
    """Return the last line of a traceback, shortened."""
    lines = (text or "").strip().splitlines() or ["no error was recorded"]
    return lines[-1][:_LONGEST_DETAIL]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 slot`` or ``2 slots``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def span(length: timedelta) -> str:
    """Return a duration in the largest unit that divides it, such as ``5 minutes`` or ``90 seconds``."""
    whole = seconds(length)
    size, unit = next((size, unit) for size, unit in _UNITS if whole % size == 0)
    return counted(whole // size, unit)


def seconds(length: timedelta) -> int:
    """Return a duration in whole seconds."""
    return length // timedelta(seconds=1)


def moment(at: datetime) -> str:
    return at.isoformat()


def clock_time(at: datetime) -> str:
    """Return a time for people, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
