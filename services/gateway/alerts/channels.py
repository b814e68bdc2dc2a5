"""Where administrators are told: services that apprise reaches, one for each configured URL.

The URLs hold passwords and tokens. A target is known by its number and kind only, and what apprise and its libraries
log of a URL is not let through.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import SecretStr

from services.gateway.alerts.notice import Mood, Text

if TYPE_CHECKING:
    from apprise import Apprise, NotifyType

#: One message to one target may take so long.
TIMEOUT_SECONDS = 10
_SEPARATOR = re.compile(r"\s+|,(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_STATUS = re.compile(r"\berror=(\d{3})\b")


class UnusableTarget(ValueError):
    """apprise cannot send to what was given; the message tells which one it is and does not show it."""


@dataclass(frozen=True)
class Target:
    """``label`` is what may be shown of it: ``1 Slack``."""

    label: str
    service: "Apprise" = field(repr=False)

    def take(self, message: Text) -> str | None:
        """Send it the message; None when it has taken it, else why not, in words that hold no secret."""
        result = self.service.notify(
            message.body, message.title, notify_type=_types()[message.mood], body_format="text", timeout=TIMEOUT_SECONDS
        )
        return None if result else _reason([entry.message for entry in result.logs()], result.status.name)


def split_targets(text: str) -> tuple[str, ...]:
    """The URLs of a list that is separated by blanks, line ends or commas; a comma inside a URL is part of it."""
    return tuple(url for part in _SEPARATOR.split(text) if (url := part.strip(",")))


def make_targets(urls: Sequence[SecretStr]) -> list[Target]:
    """Raises UnusableTarget. apprise takes a second to load, so who has no target does not load it."""
    if not urls:
        return []
    _keep_quiet()
    return [_target(number, url.get_secret_value(), len(urls)) for number, url in enumerate(urls, start=1)]


def _target(number: int, url: str, count: int) -> Target:
    from apprise import Apprise, AppriseAsset

    asset = AppriseAsset(app_id="PaperProfit", storage_mode="memory", service_timeout=TIMEOUT_SECONDS)
    service = Apprise.instantiate(url, asset=asset)
    if service is None:
        raise UnusableTarget(
            f"apprise cannot send to the URL at place {number} of {count}; its documentation lists what it takes"
        )
    return Target(f"{number} {service.service_name}", Apprise(service, asset=asset))


def _types() -> "dict[Mood, NotifyType]":
    from apprise import NotifyType

    return {"warning": NotifyType.WARNING, "critical": NotifyType.FAILURE, "resolved": NotifyType.SUCCESS}


def _keep_quiet() -> None:
    """They name URLs, the more the lower the level. What is to be said of a failure, the notifier says."""
    for name in ("apprise", "urllib3", "requests_oauthlib", "oauthlib"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)  # below which apprise's results, too, would hold what it logged
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


def _reason(logged: Iterable[str], status: str) -> str:
    """Of apprise's own words only the status of HTTP: the rest may quote the URL or the answer."""
    if status == "TIMEOUT":
        return f"no answer within {TIMEOUT_SECONDS} s"
    refused = [found[1] for line in logged if (found := _STATUS.search(line))]
    return f"it answered {refused[-1]}" if refused else "it could not be reached, or refused the message"
