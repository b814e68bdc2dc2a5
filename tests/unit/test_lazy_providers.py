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
