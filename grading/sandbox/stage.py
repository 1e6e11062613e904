"""Showing the unprivileged user a folder that lies where only root can go, such as Python under /root.

Root's sandbox runs under another user, who must reach what is bound into it. A private mount namespace
binds those folders to a place that everybody can reach; it dies with the sandbox, and no mode is changed.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

# Owns no file and runs no service: between systemd's dynamic users and `nobody`, which NFS gives files to.
UNPRIVILEGED = 65_525
# Only root writes to /run, so nobody else can put a link here.
_STAGE = Path("/run/grading-stage")
_BECOME = 'exec "$@"'
_MOUNT = 'mount -a -T "$1"; shift'


def places(folders: Iterable[Path]) -> dict[Path, Path]:
    """Where each folder that the unprivileged user cannot reach will be bound to."""
    hidden = sorted({folder for folder in folders if not _reachable(folder)})
    return {folder: _STAGE / str(number) for number, folder in enumerate(hidden)}


def table(staged: dict[Path, Path]) -> bytes:
    """An fstab for `mount -a` that makes the stage and binds the folders to it."""
    _STAGE.mkdir(mode=0o755, exist_ok=True)
    lines = [f"stage {_STAGE} tmpfs mode=0755,size=1m 0 0"]
    lines += [f"{_quoted(folder)} {place} none rbind,X-mount.mkdir=0755 0 0" for folder, place in staged.items()]
    return os.fsencode("\n".join(lines) + "\n")


def script(groups: Iterable[Path], *, staged: bool) -> str:
    """For `sh`: enter control groups, volunteer for the kernel's OOM killer, fill the stage, become the command."""
    enter = [f"echo 0 >{shlex.quote(str(group / 'cgroup.procs'))}" for group in groups]
    return "; ".join(["set -e", *enter, "echo 1000 >/proc/self/oom_score_adj", *([_MOUNT] if staged else []), _BECOME])


def command(groups: Iterable[Path], table_fd: int | None) -> list[str]:
    """What root puts before a command so that it runs unprivileged, in its groups, on the stage if there is one."""
    dropped = ["setpriv", f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups", "--"]
    if table_fd is None:
        return ["sh", "-c", script(groups, staged=False), "sh", *dropped]
    # Read through the parent, so that the descriptor is not inherited by what runs inside.
    table_file = f"/proc/{os.getpid()}/fd/{table_fd}"
    return ["unshare", "--mount", "--", "sh", "-c", script(groups, staged=True), "sh", table_file, *dropped]


def readable(folder: Path) -> bool:
    """Whether everybody may list the folder itself; those that it lies in do not matter."""
    wanted = stat.S_IROTH | stat.S_IXOTH
    return folder.stat().st_mode & wanted == wanted


def _reachable(folder: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in folder.resolve().parents)


def _quoted(path: Path) -> str:
    """A path as fstab writes it: octal escapes for what separates its fields."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in str(path))
