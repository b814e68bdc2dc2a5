"""The page at ``/`` in a real Chromium, over the whole system on the in-process bus."""

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import Page, Route, expect
from prometheus_client import REGISTRY

from embedded.http import listen, serving
from tests.conftest import database, running_system
from tests.e2e.foreign_page import ATTACK, ATTACKED, foreign_page
from tests.e2e.page_visitor import FAR_LIMIT, Site, Visitor, open_visitor
from tests.servers.chromium import running_chromium
from tests.support import eventually

#: The page shows numbers with a true minus sign.
MINUS = "\N{MINUS SIGN}"
MANY = {f"S{number:03}": "100" for number in range(100)}
#: Counts the changes of the prices table: how often, and of which rows.
WATCH_PRICES = """() => {
  window.changes = { times: 0, rows: new Set() };
  new MutationObserver((records) => {
    window.changes.times += 1;
    for (const record of records) {
      const row = (record.target.closest ? record.target : record.target.parentElement).closest("[data-key]");
      if (row) window.changes.rows.add(row.dataset.key);
    }
  }).observe(document.querySelector("#prices tbody"),
             { subtree: true, childList: true, characterData: true, attributes: true });
}"""


#: The points of each line.
_POINTS = "lines => lines.map(line => line.getAttribute('points'))"


@pytest.fixture(scope="module")
def site(postgres: str, template: dict[str, str]) -> Iterator[Site]:
    """One running system and one browser for all tests of this file."""
    expect.set_options(timeout=15_000)
    with (
        database(postgres, template) as urls,
        running_system(urls) as system,
        listen("0") as listening,
        serving(system.app(), listening),
        running_chromium() as browser,
    ):
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        eventually(lambda: httpx.get(f"{url}/healthz").status_code in {200, 503})
        site = Site(system, url, browser)
        site.push({"AAPL": "100"})
        yield site


@pytest.fixture
def visitor(site: Site, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A new account in a browser that is signed in. No page may have an error."""
    with site.browser.new_context() as context:
        visitor = open_visitor(site, context, **getattr(request, "param", {}))
        visitor.sign_in()
        with closing(visitor.api):
            yield visitor
            assert visitor.errors == []


def fill_ticket(page: Page, qty: str = "1") -> None:
    page.fill("#ticket-symbol", "AAPL")
    page.fill("#ticket-qty", qty)


def test_a_key_opens_the_board(site: Site) -> None:
    """A wrong key is refused beside the form, and the right one shows the account."""
    with site.browser.new_context() as context:
        visitor = open_visitor(site, context)
        page = visitor.tab(live=False)
        page.fill("#key-id", visitor.key["key_id"])
        page.fill("#secret-key", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#sign-in-note")).to_contain_text("wrong")
        page.fill("#secret-key", visitor.key["secret_key"])
        page.keyboard.press("Enter")
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator("#equity")).to_have_text("100,000.00")
        assert visitor.errors == []


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/stream-worker.js"])
def test_a_browser_asks_whether_a_file_has_changed(site: Site, path: str) -> None:
    """Scripts of two versions do not meet on a page, and an unchanged file is not sent again."""
    first = httpx.get(site.url + path)
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    if path != "/":
        assert httpx.get(site.url + path, headers={"If-None-Match": first.headers["etag"]}).status_code == 304


def test_every_open_order_is_shown_however_many_are_newer(visitor: Visitor) -> None:
    """The oldest of 52 open orders stays, as it comes and after a reload. Ended orders are the newest 50."""
    page = visitor.tab()
    rows = page.locator("#open-orders tbody tr")
    for _ in range(52):
        visitor.order(**FAR_LIMIT)
    expect(rows).to_have_count(52)
    page.reload()
    expect(rows).to_have_count(52)
    visitor.api.delete("/v2/orders")
    for order in visitor.api.get("/v2/orders", params={"limit": 500}).json():
        visitor.api.delete(f"/v2/orders/{order['id']}")
    expect(rows).to_have_count(0)
    expect(page.locator("#recent-orders tbody tr")).to_have_count(50)


def test_the_second_press_of_a_double_click_places_no_order(visitor: Visitor) -> None:
    """It comes after the answer to the first. A press after a pause, or of an edited ticket, is another order."""
    page = visitor.tab()
    page.clock.install()
    fill_ticket(page)
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    place, note = page.locator("#ticket-submit"), page.locator("#ticket-note")
    place.click()
    expect(note).to_contain_text("Placed")
    for passed in (150, 250, 300):
        page.clock.run_for(passed)
        place.click()
    assert len(visitor.orders()) == 1
    page.clock.run_for(2_000)
    place.click()
    eventually(lambda: len(visitor.orders()) == 2)
    expect(note).to_contain_text("Placed")
    fill_ticket(page, "2")
    place.click()
    eventually(lambda: len(visitor.orders()) == 3)


def test_a_press_while_the_answer_is_awaited_places_no_order(visitor: Visitor) -> None:
    """The button waits, and the order that is sent again after a lost answer is the same one."""
    sent: list[Any] = []
    held: list[Route] = []

    def hold(route: Route) -> None:
        body: Any = route.request.post_data_json
        sent.append((body["client_order_id"], route.request.headers.get("idempotency-key")))
        held.append(route)

    page = visitor.tab()
    page.route("**/v2/orders", hold)
    fill_ticket(page)
    place = page.locator("#ticket-submit")
    place.click()
    page.wait_for_function("document.getElementById('ticket-submit').ariaBusy === 'true'")
    place.click()
    eventually(lambda: page.title() and held)
    assert len(sent) == 1
    held.pop().abort()
    expect(page.locator("#ticket-note")).to_contain_text("cannot be placed twice")
    place.click()
    eventually(lambda: page.title() and held)
    held.pop().continue_()
    expect(page.locator("#ticket-note")).to_contain_text("Placed")
    first, second = sent
    assert first == second == (first[0], first[0])
    assert len(visitor.orders()) == 1


def test_seven_tabs_share_one_stream(site: Site, visitor: Visitor) -> None:
    """A browser has six connections to a server. All tabs are live, the last one trades, and any of them may close."""
    tabs = [visitor.tab() for _ in range(7)]
    eventually(lambda: tabs[0].title() and site.streams(visitor.account_id) == 1)
    fill_ticket(tabs[-1])
    tabs[-1].click("#ticket-submit")
    expect(tabs[-1].locator("#ticket-note")).to_contain_text("Placed")
    for tab in tabs:
        expect(tab.locator("#open-orders tbody tr")).to_have_count(1)
    for tab in tabs[:4]:
        tab.close()
    site.push({"AAPL": "123"})
    for tab in tabs[4:]:
        expect(tab.locator("#equity-change")).to_contain_text("since you opened this page")
        expect(tab.locator("#recent-orders tbody tr")).to_have_count(1)
    assert site.streams(visitor.account_id) == 1


def test_a_browser_without_shared_workers_streams_in_each_tab(site: Site, visitor: Visitor) -> None:
    """Chromium on Android has none."""
    visitor.context.add_init_script("delete window.SharedWorker")
    page = visitor.tab()
    site.push({"AAPL": "101"})
    expect(page.locator("#prices [data-key=AAPL] [data-part=last]")).to_have_text("101.00")


def test_a_request_without_an_answer_times_out(visitor: Visitor) -> None:
    """The user is told, and the order can be sent again."""
    page = visitor.tab()
    page.route("**/v2/orders", lambda _route: None)
    fill_ticket(page)
    page.clock.install()
    with page.expect_request("**/v2/orders"):
        page.click("#ticket-submit")
    page.clock.run_for(60_000)
    expect(page.locator("#ticket-note")).to_contain_text("No answer")
    expect(page.locator("#ticket-submit")).not_to_have_attribute("aria-busy", "true")


def test_signing_out_signs_out_every_tab(site: Site, visitor: Visitor) -> None:
    """The other tab says so and streams no longer. The next sign-in opens both."""
    page, other = visitor.tab(), visitor.tab()
    page.click("#sign-out")
    for tab in (page, other):
        expect(tab.locator("#sign-in")).to_be_visible()
    expect(other.locator("#sign-in-note")).to_contain_text("signed out in another tab")
    eventually(lambda: site.streams(visitor.account_id) == 0)
    page.fill("#key-id", visitor.key["key_id"])
    page.fill("#secret-key", visitor.key["secret_key"])
    page.keyboard.press("Enter")
    for tab in (page, other):
        expect(tab.locator("#connection")).to_have_text("live")


def test_a_stream_ends_with_its_session(site: Site, visitor: Visitor) -> None:
    """Also where nothing on the page closes it."""
    with httpx.Client(base_url=site.url) as browser:
        assert browser.post("/api/session", json=visitor.key).status_code == 200
        with browser.stream("GET", "/api/stream", timeout=15) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: prices"
            cookie = dict(browser.cookies)
            headers = {"Origin": site.url}
            assert httpx.delete(f"{site.url}/api/session", cookies=cookie, headers=headers).status_code == 204
            assert "event: signed_out" in list(lines)  # times out if the stream goes on


def refused_posts() -> dict[str, float]:
    """The POST requests that the gateway has answered with 403. Chromium hides these answers from the other page."""
    labels = {"method": "POST", "status": "403"}
    name = "paperprofit_http_requests_total"
    return {route: REGISTRY.get_sample_value(name, {**labels, "route": route}) or 0 for route in ATTACKED}


def test_a_page_of_another_origin_does_nothing_with_the_user_s_session(site: Site, visitor: Visitor) -> None:
    """It places no order, resets no account, starts no job and signs nobody in. The user's own page goes on."""
    page = visitor.tab()
    with site.browser.new_context() as context:
        attacker = open_visitor(site, context)
    before = refused_posts()
    other = visitor.context.new_page()
    with foreign_page() as url:
        other.goto(url)
        other.evaluate(ATTACK, {"url": site.url, "key": attacker.key})
    other.close()
    visitor.errors.clear()  # it logs each of them
    assert {route: posts - before[route] for route, posts in refused_posts().items()} == ATTACKED
    assert (visitor.orders(), attacker.orders()) == ([], [])
    assert (visitor.api.get("/v2/account").json()["cash"], site.streams(visitor.account_id)) == ("100000", 1)
    fill_ticket(page)
    page.click("#ticket-submit")
    expect(page.locator("#ticket-note")).to_contain_text("Placed")
    assert len(visitor.orders()) == 1
    page.reload()
    expect(page.locator("#connection")).to_have_text("live")
    attacker.api.close()


def test_the_change_since_the_page_was_opened_counts_from_its_first_value(visitor: Visitor) -> None:
    """Also after more updates than the curve has points."""
    page = visitor.context.new_page()
    page.goto(f"{visitor.site.url}/static/icon.svg")
    points, change = page.evaluate("""async () => {
      const { History } = await import("/static/sparkline.js");
      const history = new History();
      for (let second = 0; second <= 3600; second++) history.add(second * 1000, String(1000 + second));
      return [history.points, history.change];
    }""")
    assert change == 3600
    assert (points[0]["at"], points[-1]["at"]) == (0, 3_600_000)
    assert 50 < len(points) <= 240
    gaps = [after["at"] - before["at"] for before, after in pairwise(points)]
    assert max(gaps) <= 4 * min(gaps[:-1])


@pytest.mark.parametrize("visitor", [{"shorting": True, "multiplier": 2}], indirect=True)
def test_the_market_value_of_shorts_is_shown(visitor: Visitor) -> None:
    """A short position counts negative."""
    visitor.site.push({"AAPL": "100"})
    visitor.filled("100", side="sell", qty="10")
    page = visitor.tab()
    expect(page.locator("#market-value")).to_have_text(f"{MINUS}1,000.00")
    expect(page.locator("#short-value")).to_have_text(f"{MINUS}1,000.00")


def test_an_account_without_shorts_shows_no_short_value(visitor: Visitor) -> None:
    page = visitor.tab()
    expect(page.locator("#market-value")).to_have_text("0.00")
    expect(page.locator("#short-value")).to_be_hidden()


def test_a_notional_order_is_an_amount_of_money_that_fills_in_shares(visitor: Visitor) -> None:
    """It never shows shares over dollars."""
    visitor.order(notional="150.5")
    page = visitor.tab()
    row = page.locator("#open-orders tbody tr")
    expect(row.locator("[data-part=terms]")).to_contain_text("$150.50 of AAPL")
    expect(row.locator("[data-part=filled]")).to_have_text("0 shares")
    visitor.site.push({"AAPL": "100"})
    filled = page.locator("#recent-orders tbody tr [data-part=filled]")
    expect(filled).to_have_text(re.compile(r"^1\.50\d* shares$"))
    ended = page.locator("#recent-orders tbody tr [data-part=terms]")
    expect(ended).to_be_visible()
    expect(ended).to_contain_text("$150.50 of AAPL")


def test_run_now_shows_at_once_what_becomes_of_the_run(visitor: Visitor) -> None:
    """The text changes with the press, and again until the run has ended."""
    page = visitor.tab()
    job = page.locator("#jobs [data-key=update_positions]")
    expect(job).to_be_visible()
    texts = page.evaluate("""() => {
      const row = document.querySelector("#jobs [data-key=update_positions]");
      const note = row.querySelector("[data-part=note]");
      window.texts = [];
      new MutationObserver(() => window.texts.push(note.textContent)).observe(note, { childList: true });
      row.querySelector("[data-action=trigger]").click();
      return note.textContent;
    }""")
    assert texts == "Queueing…"
    expect(job.locator("[data-part=note]")).to_contain_text("Succeeded")
    assert page.evaluate("window.texts")[0] == "Queueing…"
    assert len(page.evaluate("window.texts")) >= 2


def test_a_double_click_on_run_now_starts_one_run(visitor: Visitor) -> None:
    """Also when the run has ended before the second press."""
    page = visitor.tab()
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/trigger") else None)
    job = page.locator("#jobs [data-key=update_positions]")
    run = job.get_by_role("button", name="Run now")
    run.click()
    expect(job.locator("[data-part=note]")).to_contain_text("Succeeded")
    page.evaluate("document.querySelector('#jobs [data-key=update_positions] [data-action=trigger]').click()")
    page.evaluate("fetch('/healthz')")
    assert len(asked) == 1


def test_a_switch_shows_at_once_that_it_was_turned(visitor: Visitor) -> None:
    """It does not wait for the next status of all jobs."""
    page = visitor.tab()
    switch = page.locator("#jobs [data-key=summarize_day]").get_by_role("switch")
    expect(switch).to_have_attribute("aria-checked", "true")
    page.route("**/toggle?enabled=false", lambda route: route.fulfill(json={}))
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")


def test_run_now_shows_why_a_run_failed_or_was_refused(visitor: Visitor) -> None:
    """The last line of the error, or the server's answer."""
    run_id = "00000000-0000-0000-0000-000000000001"
    states = [
        {"state": "queued", "outcome": None},
        {"state": "running", "outcome": None},
        {"state": "finished", "outcome": "failed", "error": "Traceback\n…\nValueError: no prices"},
    ]
    page = visitor.tab()
    page.route("**/trigger", lambda route: route.fulfill(status=202, json={"run_id": run_id}))
    page.route(f"**/api/runs/{run_id}", lambda route: route.fulfill(json=states.pop(0)))
    job = page.locator("#jobs [data-key=update_positions]")
    job.get_by_role("button", name="Run now").click()
    expect(job.locator("[data-part=note]")).to_have_text("Failed: ValueError: no prices")
    assert states == []
    page.route("**/trigger", lambda route: route.fulfill(status=404, json={"detail": "there is no job"}))
    other = page.locator("#jobs [data-key=summarize_day]")
    other.get_by_role("button", name="Run now").click()
    expect(other.locator("[data-part=note]")).to_have_text("there is no job")


@pytest.mark.parametrize(("provider", "text"), [("replay", "replay of recorded"), ("simulated", "random walk")])
def test_prices_that_are_not_the_market_s_are_announced(visitor: Visitor, provider: str, text: str) -> None:
    """A notice says it as long as any price is one."""
    page = visitor.tab()
    notice = page.locator("#price-notice")
    expect(notice).to_be_hidden()
    visitor.site.push({"AAPL": "100", "IBM": "100"}, provider)
    expect(notice).to_be_visible()
    expect(notice).to_contain_text(text)
    visitor.site.push({"AAPL": "100", "IBM": "100"})
    expect(notice).to_be_hidden()


def test_a_batch_of_prices_is_painted_once_and_runs_no_animation(visitor: Visitor) -> None:
    """Each frame of a background animation costs the main thread; a flash that is switched on and off costs two."""
    page = visitor.tab()
    visitor.site.push(MANY)
    rows = page.locator("#prices [data-key^=S]")
    expect(rows).to_have_count(100)
    expect(page.locator("[data-flash]")).to_have_count(0)
    page.evaluate(WATCH_PRICES)
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable")
    before = styles(metrics)
    visitor.site.push(dict.fromkeys(MANY, "101"))
    expect(rows.locator("[data-part=last]", has_text="101.00")).to_have_count(100)
    assert page.evaluate("document.getAnimations().length") == 0
    expect(page.locator("[data-flash]")).to_have_count(0)
    assert page.evaluate("[window.changes.times, window.changes.rows.size]") == [2, 100]
    assert styles(metrics) - before < 25
    page.evaluate("window.changes.rows.clear()")
    visitor.site.push({"S007": "102", "S008": "101"})
    expect(page.locator("#prices [data-key=S007] [data-part=last]")).to_have_text("102.00")
    assert page.evaluate("[...window.changes.rows].sort()") == ["S007", "S008"]


def styles(metrics: Any) -> int:
    """Return how often the styles of the page have been computed."""
    found = {each["name"]: each["value"] for each in metrics.send("Performance.getMetrics")["metrics"]}
    return int(found["RecalcStyleCount"])


def test_many_events_within_a_frame_are_painted_once(visitor: Visitor) -> None:
    """A hundred events are kept at once, and painted together in the next frame."""
    page = visitor.tab()
    counts = page.evaluate("""async () => {
      const { Prices } = await import("/static/prices.js");
      const rows = document.querySelector("#prices tbody");
      const before = rows.children.length;
      const prices = new Prices(() => {});
      let paints = 0;
      new MutationObserver(() => { paints += 1; }).observe(rows, { childList: true });
      for (let number = 0; number < 100; number++) {
        prices.update([{ symbol: `T${number}`, last: "1", quoted_at: "2026-01-01T00:00:00Z", sequence: 1 }]);
      }
      const kept = prices.of("T99").last;
      const during = rows.children.length - before;
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      return [kept, during, rows.children.length - before, paints];
    }""")
    assert counts == ["1", 0, 100, 1]


def test_the_page_fits_narrow_and_wide_windows(visitor: Visitor) -> None:
    """Nothing is wider than the window, with orders, a position and jobs in sight."""
    visitor.filled("100", qty="10")
    visitor.order(**FAR_LIMIT)
    visitor.order(notional="100")
    page = visitor.tab()
    expect(page.locator("#open-orders tbody tr")).to_have_count(2)
    expect(page.locator("#positions tbody tr")).to_have_count(1)
    for width in (320, 360, 768, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_order_is_placed_and_canceled_with_the_keyboard(visitor: Visitor) -> None:
    """Skip to the ticket, fill it in, and press Cancel of the order."""
    page = visitor.tab()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#ticket-qty")).to_be_focused()
    fill_ticket(page)
    page.select_option("#ticket-type", "limit")
    page.fill("#ticket-limit", "1")
    page.keyboard.press("Enter")
    cancel = page.get_by_role("button", name="Cancel: buy 1 AAPL, limit 1.00")
    cancel.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#open-orders tbody tr")).to_have_count(0)
    expect(page.locator("#recent-orders tbody tr")).to_contain_text("Canceled")


def test_the_report_of_an_account_is_drawn_and_prints(visitor: Visitor) -> None:
    """Under the gateway's policy its style applies, its charts have points, and paper has pages of it."""
    visitor.filled("100")
    visitor.filled("110", qty="4", side="sell")
    page = visitor.context.new_page()
    answer = page.goto(f"{visitor.site.url}/api/account/report?period=daily&format=html")
    assert answer is not None
    assert answer.status == 200
    expect(page.locator("h1")).to_contain_text("Daily report, ")
    assert page.locator("polyline").count() == 2
    assert min(line.count(",") for line in page.locator("polyline").evaluate_all(_POINTS)) >= 2
    assert page.locator("rect").count() >= 4  # a month, two parts of the allocation, a round trip
    assert page.evaluate("getComputedStyle(document.body).maxWidth") == "940px"
    paper = page.pdf(prefer_css_page_size=True)
    assert paper.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", paper)) >= 2
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).maxWidth") == "none"
