"""An alert: what an administrator has to know of for as long as it stands. Here each kind gets its severity and words.

There is at most one of a kind about a subject at a time. Facts are JSON: what the message says, for programs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

Severity = Literal["warning", "critical"]

_LONGEST_DETAIL = 200


@dataclass(frozen=True)
class Alert:
    """``message`` is one sentence that says what is wrong and what to do."""

    kind: str
    subject: str
    severity: Severity
    message: str
    facts: Mapping[str, Any]


def job_failing(*, job: str, service: str, failures: int, failed_at: datetime, error: str | None) -> Alert:
    """``error`` is the traceback or reason of the latest of ``failures`` runs."""
    detail = last_line(error)
    message = f"The last {failures} runs of job {job} ({service}) failed, the latest with: {detail}"
    facts = {"service": service, "failures": failures, "failed_at": moment(failed_at), "error": detail}
    return Alert(
        "job_failing", job, "critical", f"{message}; mend the cause, then trigger the job to see it pass.", facts
    )


def run_too_long(
    *, job: str, service: str, run_id: str, worker: str | None, started_at: datetime, most: timedelta
) -> Alert:
    message = f"Run {run_id} of job {job} has run since {clock_time(started_at)}, longer than {span(most)}"
    facts = {
        "service": service,
        "run_id": run_id,
        "worker": worker,
        "started_at": moment(started_at),
        "limit_seconds": seconds(most),
    }
    advice = f"look at its worker {worker or '(none)'} and its log, and cancel the run if it hangs"
    return Alert("run_too_long", job, "warning", f"{message}; {advice}.", facts)


def slot_late(*, job: str, service: str, due_at: datetime, most: timedelta, waiting: str | None) -> Alert:
    """``waiting`` is the run that has not begun; None where no scheduler has made one."""
    facts = {"service": service, "due_at": moment(due_at), "limit_seconds": seconds(most), "run_id": waiting}
    late = f"Job {job} was due at {clock_time(due_at)} and is more than {span(most)} late"
    advice = (
        f"no scheduler of {service} has looked at it, so see that a replica of {service} runs"
        if waiting is None
        else f"its run waits for a worker, so see what the workers of {service} do, or start another replica"
    )
    return Alert("slot_late", job, "critical", f"{late}: {advice}.", facts)


def slot_missed(*, job: str, service: str, last_slot: datetime, slots: int, noticed_at: datetime) -> Alert:
    facts = {"service": service, "slots": slots, "last_slot": moment(last_slot), "noticed_at": moment(noticed_at)}
    missed = f"Job {job} missed {counted(slots, 'slot')}, the last at {clock_time(last_slot)}"
    advice = f"no scheduler of {service} was there in time; see why, and run the job for that time if it matters"
    return Alert("slot_missed", job, "warning", f"{missed}: {advice}.", facts)


def breaker_open(
    *, name: str, state: str, since: datetime, failures: int, next_attempt_at: datetime | None, last_error: str | None
) -> Alert:
    detail = last_line(last_error)
    facts = {
        "state": state,
        "since": moment(since),
        "failures": failures,
        "next_attempt_at": None if next_attempt_at is None else moment(next_attempt_at),
        "error": detail,
    }
    message = f"{name} is not called since its breaker opened ({detail})"
    advice = f"see whether {name} is down or refuses us; the breaker tries it again and closes by itself"
    return Alert("breaker_open", name, "warning", f"{message}; {advice}.", facts)


def dead_letters(*, service: str, fresh: int, latest_at: datetime, queue: str, reason: str, within: timedelta) -> Alert:
    """``fresh`` messages died within that time, most of them in ``queue`` for ``reason``."""
    facts = {"fresh": fresh, "latest_at": moment(latest_at), "queue": queue, "reason": reason}
    message = f"{counted(fresh, 'message')} of {service} became a dead letter in the last {span(within)}"
    advice = f"mostly in {queue} for {last_line(reason)}; mend the cause, then send them again or discard them"
    return Alert("dead_letters", service, "critical", f"{message}, {advice}.", facts)


def queue_old(*, queue: str, age: timedelta, most: timedelta, ready: int, consumers: int) -> Alert:
    facts = {"oldest_seconds": seconds(age), "limit_seconds": seconds(most), "ready": ready, "consumers": consumers}
    message = f"The oldest of {counted(ready, 'message')} in queue {queue} waits for more than {span(most)}"
    advice = (
        "its consumers do not keep up, so look at their logs or start another replica"
        if consumers
        else f"nothing consumes it, so see that {queue.partition('.')[0]} runs"
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
    """``alive`` is how many of the same service and kind still beat."""
    facts = {
        "service": service,
        "kind": kind,
        "host": host,
        "pid": pid,
        "heartbeat_at": moment(heartbeat_at),
        "alive": alive,
    }
    message = f"A {kind} of {service} (process {pid} on {host}) has not been heard of since {clock_time(heartbeat_at)}"
    advice = (
        f"{alive} of them still work, so see that it is started anew"
        if alive
        else f"none is left, so start {service} again"
    )
    return Alert("heartbeat_gone", worker, "warning" if alive else "critical", f"{message}: {advice}.", facts)


def last_line(text: str | None) -> str:
    """What a traceback ends with, shortened."""
    lines = (text or "").strip().splitlines() or ["no error was kept"]
    return lines[-1][:_LONGEST_DETAIL]


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def span(length: timedelta) -> str:
    """In the largest unit that leaves no rest: ``5 minutes``, ``90 seconds``."""
    whole = seconds(length)
    size, context = next((size, context) for size, context in _UNITS if whole % size == 0)
    return counted(whole // size, context)


def seconds(length: timedelta) -> int:
    return length // timedelta(seconds=1)


def moment(at: datetime) -> str:
    return at.isoformat()


def clock_time(at: datetime) -> str:
    """For people, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
