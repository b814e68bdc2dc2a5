"""The channels of alerts: services that apprise can send to, one for each configured URL.

The URLs hold passwords and tokens. Rows and logs show a channel only by its number and kind. The logs of apprise and
its libraries are dropped, because they quote URLs.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import SecretStr

from services.gateway.alerts.notification import Message

if TYPE_CHECKING:
    from apprise import Apprise

#: The time limit of one message to one channel.
TIMEOUT_SECONDS = 10
_SEPARATOR = re.compile(r"\s+|,(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_STATUS = re.compile(r"\berror=(\d{3})\b")
_LIBRARIES = ("apprise", "urllib3", "requests_oauthlib", "oauthlib")


class UnusableChannel(ValueError):
    """apprise cannot send to a URL. The message names its place in the list and does not show it."""


@dataclass(frozen=True)
class Channel:
    """``label`` is the part that may be shown, such as ``1 Slack``."""

    label: str
    service: "Apprise" = field(repr=False)

    def send(self, message: Message) -> str | None:
        """Send a message. Return None if the channel took it, otherwise the reason, without secrets."""
        from apprise import AppriseAttachment, NotifyType
        from apprise.attachment.memory import AttachMemory

        named = {"name": "report.html", "mimetype": "text/html"}
        file = message.page and AttachMemory(message.page, **named)  # type: ignore[no-untyped-call]
        types = {
            "warning": NotifyType.WARNING,
            "critical": NotifyType.FAILURE,
            "resolved": NotifyType.SUCCESS,
            "report": NotifyType.INFO,
        }
        result = self.service.notify(
            message.body,
            message.title,
            notify_type=types[message.status],
            body_format="text",
            attach=file and AppriseAttachment(file),
            timeout=TIMEOUT_SECONDS,
        )
        if result:
            return None
        if result.status.name == "TIMEOUT":
            return f"no answer within {TIMEOUT_SECONDS} s"
        # Of apprise's own words only the HTTP status is shown: the others may quote the URL or the response.
        statuses = [found[1] for entry in result.logs() if (found := _STATUS.search(entry.message))]
        return f"it answered {statuses[-1]}" if statuses else "it could not be reached, or refused the message"


def split_urls(text: str) -> tuple[str, ...]:
    """Split a list of URLs at whitespace and commas. A comma inside a URL is part of it."""
    return tuple(url for part in _SEPARATOR.split(text) if (url := part.strip(",")))


def make_channels(urls: Sequence[SecretStr]) -> list[Channel]:
    """Make a channel for each URL. Raises UnusableChannel where apprise cannot send to one.

    apprise takes a second to load, so it is not loaded without URLs.
    """
    if not urls:
        return []
    from apprise import Apprise, AppriseAsset

    for name in _LIBRARIES:  # the lower the level, the more URLs they log; the notifier logs failures instead
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)  # below it apprise's results, too, would hold what it logged
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    channels = []
    for number, url in enumerate(urls, start=1):
        asset = AppriseAsset(app_id="PaperProfit", storage_mode="memory", service_timeout=TIMEOUT_SECONDS)
        service = Apprise.instantiate(url.get_secret_value(), asset=asset)
        if service is None:
            raise UnusableChannel(
                f"apprise cannot send to URL {number} of {len(urls)}; its documentation lists the URLs that it supports"
            )
        channels.append(Channel(f"{number} {service.service_name}", Apprise(service, asset=asset)))
    return channels
