"""``python -m embedded key``: replaces an account's key in the home of ``make run``, whether that runs or not."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from embedded.home import HomeTaken, HomeUnusable, home_folder, take_home
from embedded.postgres_cluster import ClusterFailed, PostgresCluster
from services.gateway.replace_key import CannotReplaceKey, account_of, replace_and_show
from shared.bus.unit_of_work import ServiceContext
from shared.storage.engine import make_engine


def main(arguments: Sequence[str]) -> int:
    """Replace the key, print the new one, and return the exit status.

    The command uses the home's running server, or starts one for itself.
    """
    account_id = account_of(arguments, prog="python -m embedded key")
    home = home_folder()
    cluster = PostgresCluster(home / "postgres")
    if not cluster.data.exists():
        sys.exit(f"paperprofit: there is no account in {home} yet; make run opens one and shows its key")
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(take_home(home))
            except HomeTaken:
                url = cluster.running_url()
                if url is None:
                    raise HomeUnusable(f"PaperProfit starts or stops on {home}; try again in a moment") from None
            else:
                print("starting the database", flush=True)  # noqa: T201
                stack.callback(cluster.stop)
                url = cluster.start()
            context = ServiceContext("gateway", make_engine(url, name="key"))
            stack.callback(context.engine.dispose)
            replace_and_show(context, account_id)
    except (HomeUnusable, ClusterFailed, CannotReplaceKey) as error:
        print(f"paperprofit: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0
