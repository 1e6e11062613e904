"""Run inside a sandbox by `selftest`: tries to break each wall, and prints a JSON line for each.

Stands alone: argv[1] is a JSON object with what the parent planted outside (`Bait` in selftest.py).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_X86 = platform.machine() == "x86_64"
# Numbers, since libc wraps few of these; the generic table of 64-bit ARM is the second.
_CALLS = {
    "ptrace": (101, 117),
    "unshare": (272, 97),
    "setns": (308, 268),
    "clone": (56, 220),
    "clone3": (435, 435),
    "mount": (165, 40),
    "open_tree": (428, 428),
    "pivot_root": (155, 41),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "process_vm_readv": (310, 270),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "open_by_handle_at": (304, 265),
    "syslog": (103, 116),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
}
_NEWUSER = 0x10000000
Check = Callable[[dict[str, Any]], str]  # says what broke; "" if the wall held


def _refused(call: str, *arguments: int | bytes, wanted: int = errno.EPERM) -> str:
    number = _CALLS[call][0 if _X86 else 1]
    ctypes.set_errno(0)
    result = _libc.syscall(ctypes.c_long(number), *map(_word, arguments))
    if result == 0 and call.startswith("clone"):
        os._exit(0)  # the child of a clone that should not have been
    found = ctypes.get_errno()
    if result == -1 and found == wanted:
        return ""
    return f"{call} gave {result}, {errno.errorcode.get(found, found)}; expected {errno.errorcode[wanted]}"


def _word(argument: int | bytes) -> Any:
    return ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_long(argument)


def _connects(family: int, kind: int, address: Any) -> str:
    with socket.socket(family, kind) as sock:
        sock.settimeout(0.5)
        try:
            sock.connect(address)
            if kind == socket.SOCK_DGRAM:
                sock.send(b"\0")
        except OSError:
            return ""
    return f"reached {address}"


def network(_: dict[str, Any]) -> str:
    reached = _connects(socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 80))
    reached = reached or _connects(socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53))
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    others = [name for name in (line.split(":")[0].strip() for line in lines) if name != "lo"]
    return reached or (f"interfaces {others}" if others else "")


def host_loopback(bait: dict[str, Any]) -> str:
    return _connects(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", bait["port"]))


def abstract_socket(bait: dict[str, Any]) -> str:
    return _connects(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + bait["abstract"])


def socket_families(_: dict[str, Any]) -> str:
    for family in (16, 17, 40, 38, 1 << 16):  # netlink, packet, vsock, alg, one yet to come
        try:
            socket.socket(family, socket.SOCK_STREAM).close()
        except OSError as refusal:
            if refusal.errno == errno.EAFNOSUPPORT:
                continue
            return f"family {family} gave {refusal}"
        return f"a socket of family {family}"
    return ""


def host_files(bait: dict[str, Any]) -> str:
    seen = [path for path in (*bait["files"], "/etc/shadow", "/root", "/home", "/var", "/run") if Path(path).exists()]
    # The Python that runs this may live in someone's home; its own folders are shown, and nothing beside them.
    shown = [path for path in seen if not any(Path(root).is_relative_to(path) for root in bait["shown"])]
    return f"sees {shown}" if shown else ""


def read_only_system(bait: dict[str, Any]) -> str:
    for place in ("/", "/usr", "/etc", "/dev", "/proc/sys/kernel", *bait["shown"]):
        try:
            Path(place, "written-by-selftest").write_text("x")
        except OSError:
            continue
        return f"wrote in {place}"
    return ""


def devices(_: dict[str, Any]) -> str:
    usual = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "core"}
    strange = {node.name for node in Path("/dev").iterdir()} - usual - {"fd", "stdin", "stdout", "stderr"}
    if strange:
        return f"sees {sorted(strange)}"
    try:
        os.mknod("/sandbox/work/null", 0o600 | 0o020000, os.makedev(1, 3))
    except OSError:
        return ""
    return "made a device node"


def environment(bait: dict[str, Any]) -> str:
    strange = sorted(set(os.environ) - {"PATH", "HOME", "USER", "TMPDIR", "LANG", "PWD", "OLDPWD", "LC_CTYPE"})
    leaked = bait["variable"] in str(os.environ) or bait["variable"].encode() in Path("/proc/1/environ").read_bytes()
    return f"sees {strange}" if strange else "the parent's variable" if leaked else ""


def descriptors(_: dict[str, Any]) -> str:
    # The listing's own descriptor is closed again when the names are looked at.
    names = [link for link in sorted(Path("/proc/self/fd").iterdir()) if link.exists() or link.is_symlink()]
    extra = {link.name: str(link.readlink()) for link in names if int(link.name) > 2}
    return f"holds {extra}" if extra else ""


def processes(bait: dict[str, Any]) -> str:
    seen = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    if len(seen) > 4:
        return f"sees {len(seen)} processes"
    if bait["pid"] > 4:  # smaller pids exist inside too
        try:
            os.kill(bait["pid"], 0)
        except ProcessLookupError:
            return ""
        return "can signal the parent"
    return ""


def privileges(_: dict[str, Any]) -> str:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    wanted = {"CapEff": "0" * 16, "CapPrm": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    wrong = {name: status[name].strip() for name, value in wanted.items() if status[name].strip() != value}
    return f"has {wrong}" if wrong else ""


def terminal(_: dict[str, Any]) -> str:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return _refused_ioctl(0x5412)
    return "has a controlling terminal"


def _refused_ioctl(request: int) -> str:
    ctypes.set_errno(0)
    _libc.ioctl(0, ctypes.c_ulong(request), ctypes.c_char_p(b"x"))
    return "" if ctypes.get_errno() == errno.EPERM else "TIOCSTI is not refused"


def tracing(_: dict[str, Any]) -> str:
    return _refused("ptrace", 16, 1, 0, 0) or _refused("process_vm_readv", 1, 0, 0, 0, 0, 0)


def nested_namespaces(_: dict[str, Any]) -> str:
    return (
        _refused("clone", _NEWUSER | 17, 0, 0, 0, 0)
        or _refused("clone3", 0, 0, wanted=errno.ENOSYS)
        or _refused("unshare", _NEWUSER)
        or _refused("setns", 0, 0)
    )


def mounts(_: dict[str, Any]) -> str:
    mount = _refused("mount", b"none", b"/sandbox/work", b"tmpfs", 0, 0)
    return mount or _refused("open_tree", -100, b"/", 1) or _refused("pivot_root", b"/sandbox/work", b"/sandbox/work")


def keyrings(_: dict[str, Any]) -> str:
    return _refused("keyctl", 0, -3, 0) or _refused("add_key", b"user", b"x", b"y", 1, -3)


def kernel_interfaces(_: dict[str, Any]) -> str:
    refused = (_refused(name, 0, 0, 0) for name in ("io_uring_setup", "bpf", "perf_event_open", "userfaultfd"))
    return next(filter(None, refused), "") or _refused("open_by_handle_at", 0, 0, 0) or _refused("syslog", 3, 0, 0)


def hidden_memory(_: dict[str, Any]) -> str:
    return _refused("memfd_create", b"x", 0) or _refused("shmget", 0, 4096, 0o1600)


def priorities(_: dict[str, Any]) -> str:
    refused = _refused("setpriority", 0, 0, 19) or _refused("sched_setscheduler", 0, 0, b"\0" * 8)
    refused = refused or _refused("sched_setattr", 0, b"\0" * 48, 0) or _refused("ioprio_set", 1, 0, 3 << 13)
    if refused:
        return refused
    for file in ("autogroup", "oom_score_adj"):
        try:
            Path("/proc/self", file).write_text("19")
        except OSError:
            continue
        return f"wrote /proc/self/{file}"
    return ""


CHECKS: tuple[Check, ...] = (
    *(network, host_loopback, abstract_socket, socket_families),
    *(host_files, read_only_system, devices, environment, descriptors, processes, privileges, terminal),
    *(tracing, nested_namespaces, mounts, keyrings, kernel_interfaces, hidden_memory, priorities),
)


def main() -> None:
    bait = json.loads(sys.argv[1])
    for check in CHECKS:
        broke = check(bait)
        print(json.dumps({"wall": check.__name__.replace("_", " "), "broke": broke}), flush=True)
    Path("/sandbox/work/owner").touch()


if __name__ == "__main__":
    main()
