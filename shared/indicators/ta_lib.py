"""TA-Lib's functions on numpy arrays, without pandas.

The library imports pandas where it is installed, to take its Series as well. Pandas would stay in the memory of
each worker with 80 MB, and nobody here has a Series. The functions are those below its wrappers for such types.
"""

import sys
from importlib import import_module
from inspect import unwrap
from types import SimpleNamespace
from typing import Any

_NAMES = ("ADX", "ATR", "CMO", "EMA", "MA", "MACD", "MAX", "MIN", "MINUS_DI", "OBV", "PLUS_DI", "RSI", "STDDEV")


def _load() -> SimpleNamespace:
    modules: dict[str, Any] = sys.modules  # a module that is None there cannot be imported
    hidden = [name for name in ("pandas", "polars") if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        library = import_module("talib")
    finally:
        for name in hidden:
            del modules[name]
    return SimpleNamespace(**{name: unwrap(getattr(library, name)) for name in _NAMES})


talib = _load()
