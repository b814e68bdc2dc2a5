"""Running PostgreSQL's programs when we are root: PostgreSQL refuses to, so they run as nobody.

They keep one capability, to search folders (CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE where a container has only
that). A database thus also works below a folder that only root can enter, and no folder has to be loosened.
"""

import os
import pwd
import shutil
import sys
from pathlib import Path

USER = "nobody"
#: Bits of the capabilities in /proc/self/status, the weaker first.
_CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}
#: The server is told to shut down when the process that started it dies, however it dies.
_DEATH_SIGNAL = "INT"


class CannotDropPrivileges(RuntimeError):
    """Root cannot start PostgreSQL here. The message says what to install or to do instead."""


def is_root() -> bool:
    return os.geteuid() == 0


def prefix() -> list[str]:
    """The command that starts a PostgreSQL program: ``setpriv``, which a user can do without, but not root.

    Raises CannotDropPrivileges.
    """
    setpriv = shutil.which("setpriv")
    death = ["--pdeathsig", _DEATH_SIGNAL]
    if not is_root():
        return [setpriv, *death] if setpriv and sys.platform == "linux" else []
    if setpriv is None:
        raise CannotDropPrivileges(
            "PostgreSQL does not run as root and setpriv is missing: install util-linux, or run as another user"
        )
    status = Path("/proc/self/status").read_text()
    bounding = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:")), 16)
    capability = next((name for name, bit in _CAPABILITIES.items() if bounding >> bit & 1), None)
    if capability is None:
        raise CannotDropPrivileges(
            "PostgreSQL does not run as root, and this container lets root do little: run as a user"
        )
    return [
        setpriv,
        f"--reuid={USER}",
        f"--regid={pwd.getpwnam(USER).pw_gid}",
        "--clear-groups",
        f"--inh-caps=-all,+{capability}",
        f"--ambient-caps=-all,+{capability}",
        # initdb asks access(2) about its programs, which otherwise disregards the capabilities of a non-root user.
        "--securebits=+no_setuid_fixup",
        *death,
    ]


def give_to_user(path: Path) -> None:
    """Hand a file or folder that we made to the user that PostgreSQL runs as."""
    if is_root():
        entry = pwd.getpwnam(USER)
        os.chown(path, entry.pw_uid, entry.pw_gid)
