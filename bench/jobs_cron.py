"""cron: busybox's, since it reads a folder of its own. Debian's would also run the machine's jobs.

Its jobs are due each minute, the shortest that cron knows, and each run is a process: an interpreter without its site.
"""

import getpass
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from bench.jobs_tools import ROOT, Tool
from bench.report import NotMeasured


class Cron(Tool):
    name = "cron (busybox)"
    guarantees = "whole minutes only; a slot while it is down is gone; no retry, no record of runs"
    shortest = 60

    @classmethod
    def install(cls) -> None:
        busybox = shutil.which("busybox")
        listed = subprocess.run([busybox, "--list"], check=False, capture_output=True, text=True) if busybox else None
        if listed is None or "crond" not in listed.stdout.split():
            raise NotMeasured("cron needs busybox with crond (sudo apt-get install busybox-static)")

    def commands(self) -> Mapping[str, Sequence[str]]:
        tables = self.folder / "crontabs"
        tables.mkdir(exist_ok=True)
        lines = [f"* * * * * {shlex.join(self._note(job))}\n" for job in self.jobs]
        (tables / getpass.getuser()).write_text("".join(lines))
        return {"crond": ["busybox", "crond", "-f", "-l", "8", "-c", str(tables)]}

    def _note(self, job: str) -> Sequence[str]:
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from bench.jobs_notes import note; note({job!r})"
        return ["env", f"BENCH_NOTES={self.folder}", sys.executable, "-S", "-c", code]

    def variables(self, name: str) -> Mapping[str, str]:  # noqa: ARG002 - there is one only
        return {}

    def scheduler(self, turn: int) -> int:  # noqa: ARG002 - there is one only
        return self.pid("crond")
