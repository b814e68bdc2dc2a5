"""``python -m services.marketdata`` runs the service. Dramatiq calls ``worker`` and ``scheduler`` in its processes."""

from functools import partial

from services.marketdata.service import service
from shared import worker as process

worker = partial(process.worker, service)
scheduler = partial(process.scheduler, service)

if __name__ == "__main__":
    process.main(service)
