"""``config/jobs.toml``: what it says, and how a mistake in it is named."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from services.marketdata.service import service as marketdata
from services.orders.service import service as orders
from services.strategy.service import service as strategy
from services.valuation.service import service as valuation
from shared.jobs.config import InvalidJobsConfig, load_jobs_config
from shared.jobs.declaration import Counts, JobRun, Jobs
from shared.service import check_job_names, configure_jobs
from shared.settings import ServiceSettings
from shared.storage.migrate import ROOT

SERVICES = (marketdata, orders, valuation, strategy)
SPECIFIED = {
    "trading_bot": timedelta(hours=1),
    "process_orders": timedelta(seconds=5),
    "update_market_data": timedelta(minutes=1),
    "update_positions": timedelta(minutes=10),
}
MARKET_HOURS_ONLY = {"trading_bot", "process_orders"}

WriteConfig = Callable[[str], Path]


@pytest.fixture
def write_config(tmp_path: Path) -> WriteConfig:
    def write(text: str) -> Path:
        path = tmp_path / "jobs.toml"
        path.write_text(text)
        return path

    return write


def refusal_of(path: Path) -> str:
    with pytest.raises(InvalidJobsConfig) as refused:
        load_jobs_config(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def settings_with(path: Path) -> ServiceSettings:
    return ServiceSettings(jobs_config=path)


def test_the_file_carries_the_specification_s_intervals() -> None:
    """Every job is enabled, and two of them keep to market hours."""
    assert load_jobs_config(ROOT / "config" / "jobs.toml") == {
        name: {"enabled": True, "interval": interval, "market_hours_only": name in MARKET_HOURS_ONLY}
        for name, interval in SPECIFIED.items()
    }


def test_the_demo_differs_in_its_bot_alone() -> None:
    """It looks at the market every thirty seconds, so that there is something to see."""
    specified = load_jobs_config(ROOT / "config" / "jobs.toml")
    demo = load_jobs_config(ROOT / "config" / "jobs.demo.toml")
    assert demo == {**specified, "trading_bot": {**specified["trading_bot"], "interval": timedelta(seconds=30)}}


@pytest.mark.parametrize("name", ["jobs.toml", "jobs.demo.toml"])
def test_the_files_name_the_jobs_that_the_services_declare(name: str) -> None:
    """All of them, and no other."""
    path = ROOT / "config" / name
    check_job_names(SERVICES, settings_with(path))
    assert set(load_jobs_config(path)) == {job for service in SERVICES for job in service.jobs.declared}


def test_the_services_declare_what_the_specification_says() -> None:
    """Without any file the jobs run all the same, at the same intervals."""
    declared = {job.name: job for service in SERVICES for job in service.jobs.declared.values()}
    assert {name: job.interval for name, job in declared.items()} == SPECIFIED
    assert {name for name, job in declared.items() if job.market_hours_only} == MARKET_HOURS_ONLY
    assert all(job.enabled for job in declared.values())
    assert all(job.service == service.name for service in SERVICES for job in service.jobs.declared.values())


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ('[process_orders]\nintervall = "5s"', "process_orders.intervall", "Extra inputs are not permitted"),
        ('[process_orders]\ninterval = "5 seconds"', "process_orders.interval", "'5 seconds' is not an interval"),
        ('[process_orders]\ninterval = "0s"', "process_orders.interval", "'0s' is not an interval"),
        ('[process_orders]\ninterval = "400d"', "process_orders.interval", "'400d' is longer than 366 days"),
        ("[process_orders]\ninterval = 5", "process_orders.interval", "'5' is not an interval"),
        ("[process_orders]\ninterval = true", "process_orders.interval", "'True' is not an interval"),
        ('[process_orders]\nenabled = "yes"', "process_orders.enabled", "should be a valid boolean"),
        ("[process_orders]\nenabled = 1", "process_orders.enabled", "should be a valid boolean"),
        ('[process_orders]\nmarket_hours_only = "no"', "process_orders.market_hours_only", "valid boolean"),
        ('process_orders = "5s"', "process_orders", "should be a valid dictionary"),
    ],
)
def test_a_mistake_is_named_with_its_file_job_and_key(write_config: WriteConfig, text: str, key: str, why: str) -> None:
    """Whoever wrote it finds it from the message alone."""
    message = refusal_of(write_config(text))
    assert message.startswith(f"{key}: ")
    assert why in message


def test_a_mistake_in_one_job_is_not_hidden_by_the_others(write_config: WriteConfig) -> None:
    """The second table is looked at as well."""
    message = refusal_of(write_config('[trading_bot]\ninterval = "1h"\n[process_orders]\ninterval = "fast"'))
    assert message.startswith("process_orders.interval: ")


def test_what_is_not_toml_is_named_with_its_line(write_config: WriteConfig) -> None:
    """An unquoted interval is the likeliest slip."""
    assert "line 2" in refusal_of(write_config("[process_orders]\ninterval = 5s\n"))


def test_a_job_that_is_given_twice_is_refused(write_config: WriteConfig) -> None:
    """Otherwise one of the two would silently win."""
    refusal_of(write_config("[trading_bot]\nenabled = true\n[trading_bot]\nenabled = false\n"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A mistyped PAPERPROFIT_JOBS_CONFIG does not silently mean the defaults."""
    assert "No such file" in refusal_of(tmp_path / "job.toml")


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    """An editor's old encoding is a mistake in the file like any other."""
    path = tmp_path / "jobs.toml"
    path.write_bytes("# gebühr\n".encode("latin-1"))
    refusal_of(path)


def test_an_empty_file_leaves_every_job_as_declared(write_config: WriteConfig) -> None:
    """What the file does not say, the declaration does."""
    path = write_config("")
    assert configure_jobs(orders, settings_with(path)) == orders.jobs.declared


def test_the_file_goes_over_the_declaration(write_config: WriteConfig) -> None:
    """Only what it gives is changed, and jobs of other services are left to those."""
    path = write_config('[process_orders]\ninterval = "7s"\n[trading_bot]\nenabled = false\n')
    jobs = configure_jobs(orders, settings_with(path))
    assert set(jobs) == {"process_orders"}
    assert jobs["process_orders"].interval == timedelta(seconds=7)
    assert (jobs["process_orders"].enabled, jobs["process_orders"].market_hours_only) == (True, True)
    assert configure_jobs(strategy, settings_with(path))["trading_bot"].enabled is False


def test_a_job_that_no_service_has_is_named(write_config: WriteConfig) -> None:
    """Where all services are at hand, a misspelt name is a mistake too."""
    path = write_config('[proces_orders]\ninterval = "5s"\n[trading_bot]\nenabled = true\n')
    with pytest.raises(InvalidJobsConfig, match=r"jobs\.toml: no service has a job named proces_orders$"):
        check_job_names(SERVICES, settings_with(path))


def test_a_declared_job_carries_its_service_and_its_function() -> None:
    """Declaring leaves the function as it is."""
    jobs = Jobs("orders", market="NYSE")

    @jobs.job("sweep", every="90s", description="Sweep.", market_hours_only=True)
    def sweep(run: JobRun) -> Counts:
        return {"swept": len(run.parameters)}

    job = jobs.declared["sweep"]
    assert (job.service, job.market, job.interval) == ("orders", "NYSE", timedelta(seconds=90))
    assert job.run is sweep
