"""Import the large libraries of the configured providers at the start, so that the first request does not wait."""

from collections.abc import Iterable
from importlib import import_module

import structlog

from services.marketdata.providers.provider import Provider
from shared.background import Background

log = structlog.get_logger(__name__)


class WarmUp(Background):
    """Imports the modules of the providers, then waits for the end of the process."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        super().__init__("warm-up")
        self._modules = {each.traits.name: each.modules for each in providers if each.modules}

    def run(self) -> None:
        for name, modules in self._modules.items():
            self._import(name, modules)
        self.stopping.wait()

    def _import(self, name: str, modules: Iterable[str]) -> None:
        """Import the modules. A missing library is logged, and each request that needs it fails with its name."""
        try:
            for module in modules:
                import_module(module)
        except ImportError as error:
            log.warning("a library of a provider cannot be imported: install it", provider=name, error=str(error))
        else:
            log.info("libraries of the provider imported", provider=name)
