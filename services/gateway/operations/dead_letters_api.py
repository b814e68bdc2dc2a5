"""``/api/dead-letters``: messages that no retry could handle. Their service requeues or discards them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

from sqlalchemy import text
from starlette.concurrency import run_in_threadpool

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Word
from services.gateway.operations.monitoring_schemas import DeadLetterDetail, DeadLetterPage, DeadLettersAsked
from services.gateway.operations.requests import DeadLetterIds, DeadLetterQuery
from shared.bus.dead_letters import (
    NoSuchDeadLetter,
    discard_dead_letters,
    inspect_dead_letter,
    requeue_dead_letters,
)
from shared.contracts.base import RowNumber
from shared.contracts.routing import WORKERS
from shared.jobs.admin import control
from shared.storage.keyset import Keyset


async def get_dead_letters(gateway: Gateway, query: DeadLetterQuery) -> DeadLetterPage:
    """List the dead letters of all services, the newest first."""
    return await page_of(gateway, _DEAD_LETTERS.page, query, DeadLetterPage, ("died_at", "service", "id"))


async def get_dead_letter(gateway: Gateway, service: Word, dead_letter: RowNumber) -> DeadLetterDetail:
    """Get a dead letter with its message and the whole error.

    Raises NotFound where the service or the dead letter is unknown.
    """
    _check_service(service)
    try:
        found = await read(gateway, inspect_dead_letter, service, dead_letter)
    except NoSuchDeadLetter as error:
        raise NotFound(f"dead_letter: {error}", field="dead_letter") from None
    shown = {"service": service, "complete": found.complete, "body": found.body.decode(errors="replace")}
    return DeadLetterDetail.model_validate({**asdict(found), **shown})


async def post_requeue(gateway: Gateway, principal: Principal, service: Word, body: DeadLetterIds) -> DeadLettersAsked:
    """Requeue dead letters to the queues in which they died, each under its own message id."""
    return await run_in_threadpool(_ask, gateway, principal, service, body.dead_letters, "requeue")


async def post_discard(gateway: Gateway, principal: Principal, service: Word, body: DeadLetterIds) -> DeadLettersAsked:
    """Discard dead letters for good."""
    return await run_in_threadpool(_ask, gateway, principal, service, body.dead_letters, "discard")


def _ask(
    gateway: Gateway, principal: Principal, service: Word, ids: Sequence[int], what: Literal["requeue", "discard"]
) -> DeadLettersAsked:
    """Ask the service to do it, and record the action. If one dead letter is unfit, send nothing.

    Raises NotFound where the service or a dead letter is unknown, and Invalid where one is too incomplete to requeue.
    """
    _check_service(service)
    with gateway.context.unit_of_work() as uow:
        found = uow.connection.execute(text(_FOUND.format(service=service)), {"ids": list(ids)})
        complete = {row.id: row.complete for row in found}
        for each in ids:
            if each not in complete:
                raise NotFound(f"dead_letters: {service} has no dead letter {each}", field="dead_letters")
            if what == "requeue" and not complete[each]:
                reason = "was too large to keep whole, so it cannot be requeued; discard it"
                raise Invalid(f"dead_letters: {each} {reason}", field="dead_letters")
        send = requeue_dead_letters if what == "requeue" else discard_dead_letters
        command_id = send(uow, service, ids, who=principal.key_id)
        control.record_action(
            uow, principal.key_id, f"{what}_dead_letters", service, None, {"dead_letters": sorted(ids)}
        )
    return DeadLettersAsked(service=service, dead_letters=sorted(ids), command_id=command_id)


def _check_service(service: str) -> None:
    """Raises NotFound where no service of this name has dead letters."""
    if service not in WORKERS:
        raise NotFound(f"service: there is no {service[:100]!r}; use one of {', '.join(WORKERS)}", field="service")


_FOUND = "SELECT id, size = length(body) AS complete FROM {service}.dead_letters_v1 WHERE id = ANY(:ids)"
_ALL = " UNION ALL ".join(f"SELECT '{service}' AS service, * FROM {service}.dead_letters_v1" for service in WORKERS)
_DEAD_LETTERS = Keyset(
    f"""
    SELECT service, id, queue, message_id, actor, reason, died_at, size, size = length(body) AS complete,
           reverse(split_part(reverse(rtrim(error, E' \\n')), E'\\n', 1)) AS error
    FROM ({_ALL}) dead_letters
    """,
    ("died_at", "service", "id"),
    {"service": "service = :service", "queue": "queue = :queue", "reason": "reason = :reason"},
)
endpoints = (
    Endpoint("GET", "/api/dead-letters", get_dead_letters, OPERATE),
    Endpoint("GET", "/api/dead-letters/{service}/{dead_letter}", get_dead_letter, OPERATE),
    Endpoint("POST", "/api/dead-letters/{service}/requeue", post_requeue, OPERATE, 202),
    Endpoint("POST", "/api/dead-letters/{service}/discard", post_discard, OPERATE, 202),
)
