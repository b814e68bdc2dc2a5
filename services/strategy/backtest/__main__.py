"""``python -m services.strategy.backtest``, which ``paperprofit`` runs: commands that need no server."""

import sys

from services.strategy.backtest.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
