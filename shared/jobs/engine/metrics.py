"""What runs come to, for Prometheus."""

from prometheus_client import Counter, Histogram

from shared.jobs.engine.run_store import Begun

RUNS = Counter("paperprofit_job_runs", "Runs that ended", ["job", "outcome"])
SECONDS = Histogram(
    "paperprofit_job_seconds",
    "From a run's beginning to its end",
    ["job"],
    buckets=(0.01, 0.05, 0.2, 1, 5, 20, 60, 300),
)
LATENESS = Histogram(
    "paperprofit_job_lateness_seconds",
    "From the slot of a scheduled run to its first beginning",
    ["job"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300),
)


def observe(run: Begun, outcome: str, seconds: float) -> None:
    """Count the run that ended after so many seconds."""
    RUNS.labels(run.job, outcome).inc()
    SECONDS.labels(run.job).observe(seconds)
    if run.slot is not None and run.trigger == "schedule" and run.attempt == 1:
        LATENESS.labels(run.job).observe(max(0.0, (run.begun_at - run.slot).total_seconds()))
