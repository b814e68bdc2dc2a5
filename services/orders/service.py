"""The service orders: its actors, jobs and settings."""

from services.orders import settings
from services.orders.actors import actors
from services.orders.jobs import jobs
from shared.service import Service

service = Service("orders", actors, jobs, check_settings=settings.current)
