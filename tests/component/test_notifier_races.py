"""Replicas that evaluate, send and die at the same time: each alert is sent once, and there is no deadlock."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

from services.gateway.alerts.evaluator import Evaluator
from services.gateway.alerts.notifier import CLAIMED_FOR, Notifier
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_rows import (
    add_job,
    add_outcomes,
    evaluate_until_resolved,
    execute,
    held_before,
    make_evaluator,
    notifications,
    open_alert,
)
from tests.component.watching import context_of
from tests.component.webhook import Webhook, notifier_to, webhook
from tests.conftest import FakeClock
from tests.support import eventually, value

NOTIFIERS = 4


def test_of_several_notifiers_one_sends_each(urls: dict[str, str], clock: FakeClock, hook: Webhook) -> None:
    """With four replicas at once every alert arrives exactly once."""
    with ExitStack() as stack:
        contexts = [stack.enter_context(context_of("gateway", urls, clock)) for _ in range(NOTIFIERS)]
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


def test_an_evaluation_and_a_delivery_do_not_deadlock(
    gateway: ServiceContext, urls: dict[str, str], clock: FakeClock, hook: Webhook
) -> None:
    """The evaluator has locked both rows and resolves the first, while the notifier records the delivery of both."""
    notifier = notifier_to(gateway, hook)
    with context_of("gateway", urls, clock) as other, ThreadPoolExecutor(2) as pool:
        evaluator = make_evaluator(other, clock)
        _add_breakers(gateway, 2)
        execute(gateway, "UPDATE jobs.breakers SET state = 'open'")
        evaluator.evaluate()
        notifications = notifier.claim()
        execute(gateway, "UPDATE jobs.breakers SET state = 'closed' WHERE name = 'provider 1'")
        clock.move(seconds=11)
        with held_before(other.engine, "resolved_at = ") as (reached, go_on):
            evaluated = pool.submit(evaluator.evaluate)
            assert reached.wait(20)
            recorded = pool.submit(notifier.record, notifications, [])
            eventually(lambda: value(gateway.engine, _WAITING), what="the notifier waiting for a row")
            go_on.set()
        assert evaluated.result(20)
        recorded.result(20)


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_replicas_of_both_send_each_alert_once(urls: dict[str, str], clock: FakeClock, hook: Webhook) -> None:
    """Two evaluators and two notifiers work at a time while forty alerts open and are resolved, again and again."""
    with ExitStack() as stack:
        contexts = [stack.enter_context(context_of("gateway", urls, clock)) for _ in range(2)]
        _add_breakers(contexts[0], 40)
        work = [
            job
            for context in contexts
            for job in (make_evaluator(context, clock).evaluate, notifier_to(context, hook).send)
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


def _times(hook: Webhook, status: str) -> int:
    """Count the notifications of this status, single ones and those in digests."""
    text = "\n".join(f"{body['title']}\n{body['message']}" for body in hook.taken)
    return text.count(f"PaperProfit {status}: ") + text.count(f"] {status}: ")


def _add_breakers(context: ServiceContext, count: int) -> None:
    execute(
        context,
        "INSERT INTO jobs.breakers (name, state, since, updated_at)"
        " SELECT 'provider ' || n, 'closed', now(), now() FROM generate_series(1, :count) AS n",
        count=count,
    )


def test_the_claims_of_a_killed_replica_are_sent_a_minute_later(
    gateway: ServiceContext, clock: FakeClock, hook: Webhook
) -> None:
    """Until then only the other replica may send them."""
    open_alert(gateway)
    assert len(notifier_to(gateway, hook).claim()) == 1
    notifier = notifier_to(gateway, hook)
    clock.now += CLAIMED_FOR - timedelta(seconds=1)
    assert notifier.send() == 0
    clock.move(seconds=1)
    assert notifier.send() == 1
    assert len(hook.taken) == 1


def test_no_transaction_is_open_while_it_sends(gateway: ServiceContext, urls: dict[str, str], clock: FakeClock) -> None:
    """An evaluation can resolve the row meanwhile. Then the resolution is sent next."""
    with webhook() as hook, context_of("gateway", urls, clock) as other:
        add_job(gateway, "revalue")
        evaluator = make_evaluator(other, clock)
        add_outcomes(gateway, clock, "revalue", ["failed"] * 3)
        evaluator.evaluate()
        add_outcomes(gateway, clock, "revalue", ["succeeded"] * 3)
        notifier = _interrupted(gateway, hook, evaluator, clock)
        notifier.send()
        notifier.send()
        assert hook.titles == [
            "PaperProfit critical: job failing: revalue",
            "PaperProfit resolved: job failing: revalue",
        ]


def _interrupted(context: ServiceContext, hook: Webhook, evaluator: Evaluator, clock: FakeClock) -> Notifier:
    """One during whose first sending the alert is resolved."""
    take = hook.take

    def resolve_then_take(body: bytes) -> int:
        if not hook.asked:
            evaluate_until_resolved(evaluator, clock)
        return take(body)

    hook.take = resolve_then_take  # type: ignore[method-assign]
    return notifier_to(context, hook)
