"""The alarm that wakes the scheduler: its handler runs on the thread that it interrupts."""

import subprocess
import sys

from shared.storage.migrate import ROOT

#: 300 wake-ups under 10,000 alarms a second, on the main thread of a process of its own.
STORM = """
import os, signal
from periodiq import Scheduler
from shared.jobs.engine.tick import run_scheduler

left = 300

def schedule(scheduler):
    global left
    left -= 1
    if left == 0:
        os._exit(0)
    signal.signal(signal.SIGALRM, scheduler.signal_handler)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)

Scheduler.schedule = schedule
run_scheduler([])
"""


#: An alarm that another thread got after the process was stopped wakes nobody.
LOST = """
import os, periodiq
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.engine import tick

left = 3

def validate(now):
    global left
    left -= 1
    if left == 0:
        os._exit(0)

periodiq.alarm = lambda seconds: None
tick.LONGEST_PAUSE_SECONDS = 0.05
ticking = tick.Tick(ServiceContext("orders", None), None)
ticking.validate = validate
tick.run_scheduler([ticking])
"""


def run(script: str) -> None:
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=60, capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()[-2000:]


def test_an_alarm_may_interrupt_the_scheduler_anywhere() -> None:
    """Also while it takes the last alarm from the queue: it neither waits for itself nor fails."""
    run(STORM)


def test_the_scheduler_goes_on_without_its_alarm() -> None:
    """It waits for an alarm for a limited time only."""
    run(LOST)
