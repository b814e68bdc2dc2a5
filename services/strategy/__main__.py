"""``python -m services.strategy`` runs the service. dramatiq calls ``worker`` and ``scheduler`` in its processes."""

from functools import partial

from services.strategy.service import service
from shared import worker as process

worker = partial(process.worker, service)
scheduler = partial(process.scheduler, service)

if __name__ == "__main__":
    process.main(service)
