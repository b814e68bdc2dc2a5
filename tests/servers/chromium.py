"""The Chromium that the tests of the page drive: named by the environment, or installed.

    PAPERPROFIT_TEST_CHROMIUM   the path of a Chromium or a Chrome

No browser is downloaded. A missing one is a failure that says what to install, never a skipped test.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.servers.choice import ServerMissing


def chromium() -> str:
    """Return the path of the browser. Raises ServerMissing."""
    found = os.environ.get("PAPERPROFIT_TEST_CHROMIUM") or shutil.which("chromium")
    if found is None:
        raise ServerMissing("the tests of the page need Chromium: run tests/ensure-chromium, or install chromium")
    return found


@contextmanager
def running_chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        try:
            yield browser
        finally:
            browser.close()
