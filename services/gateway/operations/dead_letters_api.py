"""``/api/dead-letters``: messages that no try could handle. Their owner is asked to send them again, or forget them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from starlette.concurrency import run_in_threadpool

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.operations.monitoring_schemas import LetterDetail, LetterPage, LettersTaken
from services.gateway.operations.requests import LetterQuery, Letters, Number
from shared.bus import dead_letters
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.routing import WORKERS
from shared.jobs.admin import control
from shared.storage.keyset import Keyset, Record


async def get_letters(gateway: Gateway, query: LetterQuery) -> LetterPage:
    """Dead letters of all services, the newest first."""
    return await page_of(gateway, _listed, query, LetterPage, ("died_at", "service", "id"))


def _listed(
    connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
) -> list[Record]:
    return _LETTERS.page(connection, filters, after=after, limit=limit)


async def get_letter(gateway: Gateway, service: str, letter: Number) -> LetterDetail:
    """One dead letter, with its message and the full error."""
    try:
        found = await read(gateway, dead_letters.inspect_dead_letter, _known(service), letter)
    except dead_letters.NoSuchDeadLetter as error:
        raise NotFound(f"letter: {error}", field="letter") from None
    body = found.body.decode(errors="replace")
    return LetterDetail.model_validate({**asdict(found), "service": service, "complete": found.complete, "body": body})


async def post_requeue(gateway: Gateway, principal: Principal, service: str, body: Letters) -> LettersTaken:
    """Send dead letters again to the queues in which they died, each under its own message id."""
    return await run_in_threadpool(
        _ask, gateway, dead_letters.requeue_dead_letters, "requeue", _known(service), body.letters, principal.key_id
    )


async def post_discard(gateway: Gateway, principal: Principal, service: str, body: Letters) -> LettersTaken:
    """Forget dead letters for good."""
    return await run_in_threadpool(
        _ask, gateway, dead_letters.discard_dead_letters, "discard", _known(service), body.letters, principal.key_id
    )


def _ask(
    gateway: Gateway, ask: Callable[..., UUID], what: str, service: str, letters: Sequence[int], who: str
) -> LettersTaken:
    """Ask the owner, and note who did; all of them or none."""
    with gateway.context.unit_of_work() as uow:
        _check(uow, service, letters, whole=what == "requeue")
        command_id = ask(uow, service, letters, who=who)
        control.record_action(uow, who, f"{what}_dead_letters", service, None, {"letters": sorted(letters)})
    return LettersTaken(service=service, letters=sorted(letters), command_id=command_id)


def _check(uow: UnitOfWork, service: str, letters: Iterable[int], *, whole: bool) -> None:
    found = uow.connection.execute(text(_FOUND.format(service=service)), {"ids": list(letters)})
    complete = {row.id: row.complete for row in found}
    for letter in letters:
        if letter not in complete:
            raise NotFound(f"letters: {service} has no dead letter {letter}", field="letters")
        if whole and not complete[letter]:
            raise Invalid(f"letters: {letter} was kept only in part, so it cannot be sent again", field="letters")


def _known(service: str) -> str:
    if service not in WORKERS:
        raise NotFound(f"service: there is no {service[:100]!r}; they are {', '.join(WORKERS)}", field="service")
    return service


_FOUND = "SELECT id, size = length(body) AS complete FROM {service}.dead_letters_v1 WHERE id = ANY(:ids)"
_ALL = " UNION ALL ".join(f"SELECT '{service}' AS service, * FROM {service}.dead_letters_v1" for service in WORKERS)
_LETTERS = Keyset(
    f"""
    SELECT service, id, queue, message_id, actor, reason, died_at, size, size = length(body) AS complete,
           reverse(split_part(reverse(rtrim(error, E' \\n')), E'\\n', 1)) AS error
    FROM ({_ALL}) letters
    """,
    ("died_at", "service", "id"),
    {"service": "service = :service", "queue": "queue = :queue", "reason": "reason = :reason"},
)
endpoints = (
    Endpoint("GET", "/api/dead-letters", get_letters, OPERATE),
    Endpoint("GET", "/api/dead-letters/{service}/{letter}", get_letter, OPERATE),
    Endpoint("POST", "/api/dead-letters/{service}/requeue", post_requeue, OPERATE, 202),
    Endpoint("POST", "/api/dead-letters/{service}/discard", post_discard, OPERATE, 202),
)
