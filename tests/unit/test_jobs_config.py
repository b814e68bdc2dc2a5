"""``config/jobs.toml``: its settings, and the errors that name a mistake in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.marketdata.service import service as marketdata
from services.orders.service import service as orders
from services.strategy.service import service as strategy
from services.valuation.service import service as valuation
from shared.bus.actors import Actors
from shared.jobs.checks import check_chains
from shared.jobs.config import InvalidJobsConfig, load_jobs_config
from shared.jobs.declaration import Jobs
from shared.jobs.run_context import Counts, RunContext
from shared.jobs.schedule.calendar import Phase
from shared.jobs.settings import InvalidSetting, JobSettings, check_settings
from shared.service import Service, check_job_names, configure_jobs
from shared.settings import ServiceSettings
from shared.storage.migrate import ROOT

SERVICES = (marketdata, orders, valuation, strategy)
SPECIFIED = {"trading_bot": "1h", "process_orders": "5s", "update_market_data": "1m", "update_positions": "10m"}
MARKET_HOURS_ONLY = {"trading_bot", "process_orders"}
PRIORITIES = {
    "trading_bot": "low",
    "process_orders": "critical",
    "update_market_data": "high",
    "update_positions": "medium",
}

PHASES = [phase.value for phase in Phase]
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
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:").strip()


def settings_with(path: Path) -> ServiceSettings:
    return ServiceSettings(jobs_config=path)


def test_the_file_carries_the_specification_s_intervals() -> None:
    """Every job is enabled, and some run in market hours only."""
    given = load_jobs_config(ROOT / "config" / "jobs.toml")
    assert {name: given[name] for name in SPECIFIED} == {
        name: {"enabled": True, "schedule": interval, "market_hours_only": name in MARKET_HOURS_ONLY}
        for name, interval in SPECIFIED.items()
    }


def test_the_demo_differs_in_its_bot_alone() -> None:
    """The demo's bot runs every thirty seconds."""
    specified = load_jobs_config(ROOT / "config" / "jobs.toml")
    demo = load_jobs_config(ROOT / "config" / "jobs.demo.toml")
    assert demo == {**specified, "trading_bot": {**specified["trading_bot"], "schedule": "30s"}}


@pytest.mark.parametrize("name", ["jobs.toml", "jobs.demo.toml"])
def test_the_files_name_the_jobs_that_the_services_declare(name: str) -> None:
    """The files name all declared jobs and no others."""
    path = ROOT / "config" / name
    check_job_names(SERVICES, settings_with(path))
    assert set(load_jobs_config(path)) == {job for service in SERVICES for job in service.jobs.declared}


def test_the_services_declare_the_specification_s_intervals() -> None:
    """Without a file the jobs run at the same intervals."""
    declared = {job.name: job for service in SERVICES for job in service.jobs.declared.values()}
    settings = {name: JobSettings.model_validate(job.settings) for name, job in declared.items()}
    assert {name: settings[name].schedule for name in SPECIFIED} == SPECIFIED
    assert {name for name in SPECIFIED if settings[name].market_hours_only} == MARKET_HOURS_ONLY
    assert {name: settings[name].priority for name in SPECIFIED} == PRIORITIES
    assert all(each.enabled for each in settings.values())
    assert all(job.service == service.name for service in SERVICES for job in service.jobs.declared.values())


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ('[process_orders]\nintervall = "5s"', "2: process_orders.intervall", "is not a setting; these are: interval,"),
        ('[process_orders]\ninterval = "5 parsecs"', "2: process_orders.interval", "'5 parsecs' is not an interval"),
        (
            '[process_orders]\nenabled = true\n\ninterval = "0s"',
            "4: process_orders.interval",
            "'0s' is not an interval",
        ),
        ('[process_orders]\ninterval = "400d"', "2: process_orders.interval", "'400d' is longer than 366 days"),
        ("[process_orders]\ninterval = 5", "2: process_orders.interval", "'5' is not an interval"),
        ("[process_orders]\ninterval = true", "2: process_orders.interval", "'True' is not an interval"),
        ('[process_orders]\nenabled = "maybe"', "2: process_orders.enabled", "should be a valid boolean"),
        ("[process_orders]\nenabled = 1", "2: process_orders.enabled", "should be a valid boolean"),
        ('[process_orders]\nmarket_hours_only = "no"', "2: process_orders.market_hours_only", "valid boolean"),
        ('[process_orders]\nschedule = "61 * * * *"', "2: process_orders.schedule", "is not a cron expression"),
        ('[process_orders]\nschedule = "0 0 31 2 *"', "2: process_orders.schedule", "is not a cron expression"),
        ('[process_orders]\nschedule = "5s"\ninterval = "5s"', "3: process_orders.interval", "is another name"),
        ('[process_orders]\nmarket = "NYSE"', "2: process_orders.market", "'NYSE' is not a market; the known ones are"),
        ('[process_orders]\ntime_zone = "Mars"', "2: process_orders.time_zone", "'Mars' is not a time zone"),
        ("[process_orders]\nretries = -1", "2: process_orders.retries", "greater than or equal to 0"),
        ('[process_orders]\nmisfire = "often"', "2: process_orders.misfire", "'skip', 'run_once' or 'run_all'"),
        ('[process_orders.phases]\nlunch = "5s"', "2: process_orders.phases.lunch", "'pre_market', 'regular'"),
        ('[process_orders.phases]\n\nclosed = "soon"', "3: process_orders.phases.closed", "'soon' is not an interval"),
        ('process_orders = "5s"', "1: process_orders", "write a table, [process_orders]"),
    ],
)
def test_a_mistake_is_named_with_its_line_job_and_key(
    write_config: WriteConfig, text: str, place: str, why: str
) -> None:
    """The message alone tells where the mistake is."""
    message = refusal_of(write_config(text))
    assert message.startswith(f"{place}: ")
    assert why in message


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"schedule": "1m", "phases": dict.fromkeys(PHASES, "off")}, "phases"),
        ({"schedule": "at close", "market": "XNYS", "market_hours_only": True}, "schedule"),
        ({"schedule": "off", "market": "24/7", "phases": {"weekend": "1h"}}, "schedule"),
        ({"schedule": "0 3 * * 6", "market": "XLON", "market_hours_only": True}, "schedule"),
    ],
)
def test_a_schedule_that_never_comes_is_rejected(given: dict[str, Any], field: str) -> None:
    """Each part is valid, but together they have no slot in a year."""
    with pytest.raises(InvalidSetting) as refused:
        check_settings(given)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "given",
    [
        {"schedule": "10m before close", "market": "XNYS", "market_hours_only": True},
        {"schedule": "off", "market": "XNYS", "phases": {"holiday": "1h"}},
        {"schedule": "0 3 * * 0", "market": "XTKS"},
        {"schedule": "5m after close", "market": "DEMO"},
        {"schedule": "0 12 29 2 *"},
        {"schedule": "off", "after": "update_market_data"},
    ],
)
def test_a_schedule_that_comes_seldom_is_fine(given: dict[str, Any]) -> None:
    """A schedule that is off is valid too."""
    assert check_settings(given) == given


@pytest.mark.parametrize("market", ["XNYS", "XTKS"])
@pytest.mark.parametrize("schedule", ["0 12 29 2 *", "0 10 1 8 *", "0 10 24 12 *", "* 10 * * 1#5", "1s", "at close"])
def test_a_rare_day_comes_in_market_hours(schedule: str, market: str) -> None:
    """The first of August 2026 is a Saturday, and the next February with 29 days is that of 2028."""
    given = {"schedule": schedule, "market": market, "phases": dict.fromkeys(("weekend", "holiday"), "off")}
    assert check_settings(given) == given


@pytest.mark.parametrize(
    "schedule",
    [
        *("0 3 * * *", "* 3 29 2 *", "* * * * 6", "0 12 * * 0", "1d", "366d", "5m before open", "at close"),
        *("0 10 25 12 *", "0 10 1 1 *", "0 10 4 7 *", "0 10 19 6 *"),
    ],
)
def test_a_time_outside_of_market_hours_never_comes(schedule: str) -> None:
    with pytest.raises(InvalidSetting, match="schedule: never comes"):
        check_settings({"schedule": schedule, "market": "XNYS", "market_hours_only": True})


@pytest.mark.parametrize(
    ("market", "schedule"),
    [
        ("24/5", "0 3 * * *"),
        ("24/5", "0 20 * * 0"),
        ("24/5", "1d"),
        ("XLON", "0 8 * * 1-5"),
        ("XETR", "0 17 * * *"),
        ("XTKS", "0 9 * * *"),
        ("XTKS", "at open"),
        ("XASX", "0 10 29 2 *"),
        ("XSHG", "59 14 * * *"),
    ],
)
def test_each_market_has_its_own_hours(market: str, schedule: str) -> None:
    """New York is closed at all of these times."""
    given = {"schedule": schedule, "market": market, "market_hours_only": True}
    assert check_settings(given) == given


@pytest.mark.parametrize(
    ("market", "schedule"),
    [("XTKS", "0 12 * * *"), ("XLON", "0 17 * * *"), ("24/5", "0 12 * * 6"), ("XHKG", "30 12 * * *")],
)
def test_a_time_outside_of_a_market_s_own_hours_never_comes(market: str, schedule: str) -> None:
    """Tokyo and Hong Kong have a break at noon, and currencies rest on Saturdays."""
    with pytest.raises(InvalidSetting, match="schedule: never comes"):
        check_settings({"schedule": schedule, "market": market, "market_hours_only": True})


@pytest.mark.parametrize(
    ("market", "phase", "schedule"),
    [
        ("XTKS", "closed", "0 12 * * *"),  # the midday break
        ("XNYS", "holiday", "0 12 * * 1"),
        ("XNYS", "holiday", "0 12 * * 5"),
        ("XNYS", "holiday", "0 12 25 12 *"),
        ("XNYS", "after_hours", "30 13 24 12 *"),  # a half day
        ("24/5", "weekend", "0 12 * * 6"),
    ],
)
def test_a_schedule_of_one_phase_comes(market: str, phase: str, schedule: str) -> None:
    """Holidays are on all days of the week."""
    given = {"schedule": "off", "market": market, "phases": {phase: schedule}}
    assert check_settings(given) == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"misfire_window": "8d"}, "at most 7d"),
        ({"misfire": "run_all", "misfire_window": "30d", "schedule": "0 6 1 * *"}, "at most 7d"),
        ({"misfire": "run_all", "schedule": "1s"}, "1h has more than 1000 slots"),
        ({"misfire": "run_all", "misfire_window": "1d", "schedule": "* * * * *"}, "1d has more than 1000 slots"),
    ],
)
def test_a_misfire_window_that_cannot_be_kept_is_refused(given: dict[str, Any], message: str) -> None:
    """Older slots than a week do not all run, nor do more than can wait."""
    with pytest.raises(InvalidSetting, match=message) as refused:
        check_settings(given)
    assert refused.value.field == "misfire_window"


@pytest.mark.parametrize(
    "given",
    [
        {"misfire": "run_all", "misfire_window": "1000s", "schedule": "1s"},
        {"misfire": "run_all", "misfire_window": "7d", "schedule": "1h"},
        {"misfire": "run_all", "misfire_window": "7d", "schedule": "off", "after": "update_market_data"},
    ],
)
def test_a_misfire_window_that_can_be_kept_is_fine(given: dict[str, Any]) -> None:
    """The longest windows."""
    assert check_settings(given) == given


def test_settings_that_clash_with_the_declaration_are_named(write_config: WriteConfig) -> None:
    """The file's market hours contradict the declaration's time after the close."""
    jobs = Jobs("valuation", market="XNYS")
    jobs.job("summarize", schedule="5m after close", description="Sum up.")(lambda _: {})
    path = write_config("\n[summarize]\nmarket_hours_only = true\n")
    with pytest.raises(InvalidJobsConfig, match=r"jobs\.toml:2: summarize\.schedule: never comes"):
        configure_jobs(Service("valuation", Actors(), jobs), settings_with(path))


def test_a_cyclic_chain_is_rejected() -> None:
    """A cyclic chain would run forever."""
    with pytest.raises(InvalidSetting, match="after: is a cycle: a after b after c after a"):
        check_chains({"a": "b", "b": "c", "c": "a"}, "a")
    check_chains({"a": "b", "b": "c", "c": None}, "a")


def test_a_mistake_in_one_job_is_not_hidden_by_the_others(write_config: WriteConfig) -> None:
    """The second table is checked too."""
    message = refusal_of(write_config('[trading_bot]\ninterval = "1h"\n[process_orders]\ninterval = "fast"'))
    assert message.startswith("4: process_orders.interval: ")


def test_a_toml_error_is_named_with_its_line(write_config: WriteConfig) -> None:
    """An unquoted interval is the likeliest mistake."""
    assert "line 2" in refusal_of(write_config("[process_orders]\ninterval = 5s\n"))


def test_a_job_that_is_given_twice_is_rejected(write_config: WriteConfig) -> None:
    """Otherwise one of the tables would silently win."""
    refusal_of(write_config("[trading_bot]\nenabled = true\n[trading_bot]\nenabled = false\n"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A mistyped PAPERPROFIT_JOBS_CONFIG must not silently mean the defaults."""
    assert "No such file" in refusal_of(tmp_path / "job.toml")


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    """A wrong encoding is reported like any other mistake."""
    path = tmp_path / "jobs.toml"
    path.write_bytes("# gebühr\n".encode("latin-1"))
    refusal_of(path)


def test_an_empty_file_leaves_every_job_as_declared(write_config: WriteConfig) -> None:
    """Settings that the file leaves out come from the declaration."""
    path = write_config("")
    assert configure_jobs(orders, settings_with(path)) == orders.jobs.declared


def test_the_file_overrides_the_declaration(write_config: WriteConfig) -> None:
    """Only the given settings change, and jobs of other services are ignored."""
    path = write_config('[process_orders]\ninterval = "7s"\n[trading_bot]\nenabled = false\n')
    jobs = configure_jobs(orders, settings_with(path))
    assert set(jobs) == set(orders.jobs.declared)
    assert jobs["process_orders"].settings == {**orders.jobs.declared["process_orders"].settings, "schedule": "7s"}
    assert configure_jobs(strategy, settings_with(path))["trading_bot"].settings["enabled"] is False


def test_a_job_that_no_service_declares_is_named(write_config: WriteConfig) -> None:
    """In the embedded run a misspelt name is a mistake too."""
    path = write_config('[proces_orders]\ninterval = "5s"\n[trading_bot]\nenabled = true\n')
    with pytest.raises(InvalidJobsConfig, match=r"jobs\.toml: no service has a job named proces_orders$"):
        check_job_names(SERVICES, settings_with(path))


def test_a_declared_job_carries_its_service_and_its_function() -> None:
    """Declaring does not change the function. Other settings have their defaults."""
    jobs = Jobs("orders", market="XNYS")

    @jobs.job("sweep", schedule="90s", description="Sweep.", market_hours_only=True)
    def sweep(run: RunContext) -> Counts:
        return {"swept": len(run.parameters)}

    job = jobs.declared["sweep"]
    assert (job.service, job.settings) == ("orders", {"market": "XNYS", "schedule": "90s", "market_hours_only": True})
    assert job.run is sweep
    assert JobSettings.model_validate(job.settings).retries == 3


@pytest.mark.parametrize("retries", ["9" * 5_000, "1e400", "[" * 2_000])
def test_a_number_or_a_depth_without_end_is_a_mistake_in_the_file(write_config: WriteConfig, retries: str) -> None:
    """The parser of TOML raises other errors for them than for bad syntax."""
    assert len(refusal_of(write_config(f"[update_market_data]\nretries = {retries}\n"))) < 1_000


@pytest.mark.parametrize("schedule", ["30\u20289 * * 1-5", "٣٠ 9 * * 1-5", "5m\u00a0after open"])
def test_a_schedule_is_ascii(schedule: str) -> None:
    """Python reads other digits and blanks too, and cron would be stored with them."""
    with pytest.raises(InvalidSetting, match=r"^schedule: "):
        check_settings({"schedule": schedule})


@pytest.mark.parametrize("name", ["schedule", "time_limit", "market", "time_zone", "after", "interval"])
def test_a_text_without_end_is_a_mistake_with_a_short_message(name: str) -> None:
    """It comes over HTTP too, and is repeated in the answer."""
    with pytest.raises(InvalidSetting) as refused:
        check_settings({name: "1" * 50_000})
    assert (refused.value.field, len(str(refused.value)) < 1_000) == (name, True)
