"""The libraries of the network providers are large, and a worker imports them only with the first request."""

import subprocess
import sys

LARGE = ("yfinance", "alpaca", "pandas", "requests", "curl_cffi")


def test_a_worker_without_a_network_provider_imports_no_library_of_one() -> None:
    code = f"import sys, services.marketdata.service; print(*sorted({set(LARGE)!r} & set(sys.modules)))"
    code += "; from services.marketdata.providers import alpaca, alphavantage, yahoo"
    code += "; yahoo.Yahoo(), alpaca.Alpaca(), alphavantage.AlphaVantage()"
    code += f"; print(*sorted({set(LARGE)!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == []


def test_the_service_imports_the_libraries_of_its_providers_ahead_of_the_first_request() -> None:
    """A search would wait for them otherwise. A library that is missing is logged, and the others are imported."""
    code = "import sys; from services.marketdata.providers import yahoo; from services.marketdata.warm_up import WarmUp"
    code += "; broken = yahoo.Yahoo(); broken.modules = ('no_such_library',); broken.traits = yahoo.Traits("
    code += "name='broken', parts=frozenset(), asset_classes=frozenset())"
    code += "; warm_up = WarmUp([broken, yahoo.Yahoo()]); warm_up.stopping.set(); warm_up.run()"
    code += f"; print(*sorted({set(LARGE)!r} & set(sys.modules)), file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert run.stderr.split() == ["curl_cffi", "pandas", "requests", "yfinance"]
    assert "no_such_library" in run.stdout
