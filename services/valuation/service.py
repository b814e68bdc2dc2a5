"""Assembly of the valuation service."""

from services.valuation.actors import actors
from services.valuation.jobs import jobs
from shared.service import Service

service = Service("valuation", actors, jobs)
