"""Replicas that evaluate, send and die at the same time: each alert is told once, and nobody waits in a circle."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

from services.gateway.alerts.evaluator import Alerts
from services.gateway.alerts.notifier import CLAIMED_FOR, Notifier
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_desk import (
    add_job,
    add_outcomes,
    evaluate_until_over,
    execute,
    held_before,
    notifications,
    open_alert,
    watching,
)
from tests.component.watching import unit_of
from tests.component.webhook import Webhook, notifier_to, webhook
from tests.conftest import FakeClock
from tests.support import eventually, value

NOTIFIERS = 4


def test_of_several_notifiers_one_sends_each(urls: dict[str, str], clock: FakeClock, hook: Webhook) -> None:
    """Four replicas at once: nothing arrives twice, and nothing is left."""
    with ExitStack() as stack:
        contexts = [stack.enter_context(unit_of("gateway", urls, clock)) for _ in range(NOTIFIERS)]
        notifiers = [notifier_to(context, hook) for context in contexts]
        pool = stack.enter_context(ThreadPoolExecutor(NOTIFIERS))
        gate = threading.Barrier(NOTIFIERS, timeout=20)

        def send(notifier: Notifier) -> int:
            gate.wait()
            return notifier.send()

        for number in range(5):
            open_alert(contexts[0], f"job_{number}")
            assert sum(pool.map(send, notifiers)) == 1
        assert sorted(hook.titles) == [f"PaperProfit critical: job failing: job_{number}" for number in range(5)]


def test_an_evaluation_and_a_delivery_do_not_wait_for_each_other_in_a_circle(
    gateway: ServiceContext, urls: dict[str, str], clock: FakeClock, hook: Webhook
) -> None:
    """One that is to resolve the first row, and has touched the second, beside one that notes what was sent of both."""
    notifier = notifier_to(gateway, hook)
    with unit_of("gateway", urls, clock) as other, ThreadPoolExecutor(2) as pool:
        alerts = watching(other, clock)
        _add_breakers(gateway, 2)
        execute(gateway, "UPDATE jobs.breakers SET state = 'open'")
        alerts.evaluate()
        notices = notifier._claim()
        execute(gateway, "UPDATE jobs.breakers SET state = 'closed' WHERE name = 'provider 1'")
        clock.move(seconds=11)
        with held_before(other.engine, "resolved_at = ") as (reached, go_on):
            evaluated = pool.submit(alerts.evaluate)
            assert reached.wait(20)
            noted = pool.submit(notifier._note, notices, [])
            eventually(lambda: value(gateway.engine, _WAITING), what="the notifier waiting for a row")
            go_on.set()
        assert evaluated.result(20)
        noted.result(20)


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_replicas_of_both_tell_each_alert_once(urls: dict[str, str], clock: FakeClock, hook: Webhook) -> None:
    """Forty alerts open and end, round after round, under two evaluators and two notifiers at a time."""
    with ExitStack() as stack:
        contexts = [stack.enter_context(unit_of("gateway", urls, clock)) for _ in range(2)]
        _add_breakers(contexts[0], 40)
        work = [
            job for context in contexts for job in (watching(context, clock).evaluate, notifier_to(context, hook).send)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(len(work)))
        for number in range(20):
            execute(contexts[0], "UPDATE jobs.breakers SET state = :state", state=("open", "closed")[number % 2])
            clock.move(seconds=11)
            for _ in range(4):
                list(pool.map(lambda job: job(), work))
        rounds = [(row.sent_at is None, row.recovery_sent_at is None) for row in notifications(contexts[0])]
        assert rounds == [(False, False)] * 400
        assert (_times(hook, "warning"), _times(hook, "resolved")) == (400, 400)


def _times(hook: Webhook, mood: str) -> int:
    """How often that was said, alone or in a digest."""
    said = "\n".join(f"{body['title']}\n{body['message']}" for body in hook.taken)
    return said.count(f"PaperProfit {mood}: ") + said.count(f"] {mood}: ")


def _add_breakers(context: ServiceContext, count: int) -> None:
    execute(
        context,
        "INSERT INTO jobs.breakers (name, state, since, updated_at)"
        " SELECT 'provider ' || n, 'closed', now(), now() FROM generate_series(1, :count) AS n",
        count=count,
    )


def test_what_a_killed_replica_had_claimed_is_sent_a_minute_later(
    gateway: ServiceContext, clock: FakeClock, hook: Webhook
) -> None:
    """Until then it is the other's to send."""
    open_alert(gateway)
    assert len(notifier_to(gateway, hook)._claim()) == 1
    notifier = notifier_to(gateway, hook)
    clock.now += CLAIMED_FOR - timedelta(seconds=1)
    assert notifier.send() == 0
    clock.move(seconds=1)
    assert notifier.send() == 1
    assert len(hook.taken) == 1


def test_no_transaction_is_open_while_it_sends(gateway: ServiceContext, urls: dict[str, str], clock: FakeClock) -> None:
    """An evaluation can touch and resolve the row meanwhile; then the end is told next."""
    with webhook() as hook, unit_of("gateway", urls, clock) as other:
        add_job(gateway, "revalue")
        alerts = watching(other, clock)
        add_outcomes(gateway, clock, "revalue", ["failed"] * 3)
        alerts.evaluate()
        add_outcomes(gateway, clock, "revalue", ["succeeded"])
        notifier = _interrupted(gateway, hook, alerts, clock)
        notifier.send()
        notifier.send()
        assert hook.titles == [
            "PaperProfit critical: job failing: revalue",
            "PaperProfit resolved: job failing: revalue",
        ]


def _interrupted(context: ServiceContext, hook: Webhook, alerts: Alerts, clock: FakeClock) -> Notifier:
    """One during whose first sending the alert is resolved."""
    take = hook.take

    def resolve_then_take(body: bytes) -> int:
        if not hook.asked:
            evaluate_until_over(alerts, clock)
        return take(body)

    hook.take = resolve_then_take  # type: ignore[method-assign]
    return notifier_to(context, hook)
