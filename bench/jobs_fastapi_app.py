"""A FastAPI application that runs its jobs as background tasks. Only its own environment imports it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI  # type: ignore[import-not-found]

from bench.jobs_notes import jobs_of_environment, note


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    loops = [asyncio.create_task(_repeat(job, seconds)) for job, seconds in jobs_of_environment().items()]
    yield
    for loop in loops:
        loop.cancel()


async def _repeat(job: str, seconds: int) -> None:
    """Run the job at each of its slots from now on."""
    while True:
        slot = (time.time() // seconds + 1) * seconds
        await asyncio.sleep(slot - time.time())
        tasks = BackgroundTasks()
        tasks.add_task(note, job, slot)
        await tasks()


app = FastAPI(lifespan=lifespan)
