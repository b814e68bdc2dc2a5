"""``/api/account/alert-channels``: the webhooks of the key's account, which get its own alerts and halts."""

from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field
from sqlalchemy import Connection, text
from starlette.concurrency import run_in_threadpool

from services.gateway.alerts import webhooks
from services.gateway.http.auth import FUND, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Answer, Query
from shared.contracts.written import Printable
from shared.jobs.admin import control
from shared.storage.keyset import Record, records

MOST_CHANNELS = 5


class NewChannel(Query):
    """A webhook: an https address of the internet. Its path may hold a token, and is not shown again."""

    url: Annotated[Printable, Field(min_length=1, max_length=1000)]


class NewChannels(Query):
    channels: Annotated[tuple[NewChannel, ...], Field(max_length=MOST_CHANNELS)]


class ChannelItem(Answer):
    """A webhook, and the reason of its last failure, if its last message was refused."""

    id: UUID
    host: str
    created_at: datetime
    last_sent_at: datetime | None
    error: str | None


class Channels(Answer):
    channels: list[ChannelItem]


async def get_alert_channels(gateway: Gateway, principal: Principal) -> Channels:
    """List the webhooks of the key's account, by their hosts."""
    return Channels(channels=[_shown(row) for row in await read(gateway, _stored, principal.account_id)])


async def put_alert_channels(gateway: Gateway, principal: Principal, body: NewChannels) -> Channels:
    """Replace the webhooks of the key's account. Each alert and halt from now on is posted to them as JSON.

    Raises Invalid for an address that is not https, or that is not of the internet.
    """
    urls = list(dict.fromkeys(each.url for each in body.channels))
    for number, url in enumerate(urls):
        try:
            await run_in_threadpool(webhooks.check, url)
        except webhooks.UnusableUrl as error:
            field = f"channels.{number}.url"
            raise Invalid(f"{field}: {error}", field=field) from None
    await run_in_threadpool(_replace, gateway, principal, urls)
    return await get_alert_channels(gateway, principal)


def _replace(gateway: Gateway, principal: Principal, urls: list[str]) -> None:
    """Keep the webhooks that are named again, with what was sent to them. The record has the hosts only."""
    given = {"account": principal.account_id, "urls": urls, "ids": [uuid4() for _ in urls]}
    with gateway.context.unit_of_work() as uow:
        uow.connection.execute(_REMOVE, given)
        uow.connection.execute(_ADD, {**given, "now": uow.now})
        hosts = [webhooks.parts_of(url)[0] for url in urls]
        control.record_action(uow, principal.key_id, "set_alert_channels", str(principal.account_id), None, hosts)


def _stored(connection: Connection, account_id: UUID) -> list[Record]:
    return records(connection, _CHANNELS, account_id=account_id)


def _shown(row: Record) -> ChannelItem:
    return ChannelItem(host=webhooks.parts_of(row.pop("url"))[0], **row)


_REMOVE = text("DELETE FROM gateway.alert_channels WHERE account_id = :account AND url <> ALL(CAST(:urls AS text[]))")
_ADD = text("""
INSERT INTO gateway.alert_channels (id, account_id, url, created_at)
SELECT n.id, :account, n.url, :now FROM unnest(CAST(:ids AS uuid[]), CAST(:urls AS text[])) AS n (id, url)
ON CONFLICT (account_id, url) DO NOTHING
""")
_CHANNELS = text("""
SELECT c.id, c.url, c.created_at, sent.at AS last_sent_at, failed.error
FROM gateway.alert_channels c
CROSS JOIN LATERAL (SELECT max(d.sent_at) AS at FROM gateway.alert_deliveries d WHERE d.channel_id = c.id) sent
LEFT JOIN LATERAL (
  SELECT d.error FROM gateway.alert_deliveries d
  WHERE d.channel_id = c.id AND d.error IS NOT NULL AND d.at > COALESCE(sent.at, '-infinity')
  ORDER BY d.at DESC LIMIT 1
) failed ON true
WHERE c.account_id = :account_id ORDER BY c.created_at, c.id
""")
endpoints = (
    Endpoint("GET", "/api/account/alert-channels", get_alert_channels, READ),
    Endpoint("PUT", "/api/account/alert-channels", put_alert_channels, FUND),
)
