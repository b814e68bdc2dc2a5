"""Assembly of the valuation service."""

from collections.abc import Sequence

from services.valuation.actors import actors
from services.valuation.jobs import jobs
from services.valuation.live_values import LiveValues
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.service import Service


def components(context: ServiceContext) -> Sequence[Background]:
    """Publish the values that waited, beside the messages."""
    return (LiveValues(context),)


service = Service("valuation", actors, jobs, components=components)
