"""The system calls that no submission needs, as a BPF program for `bwrap --seccomp`."""

from __future__ import annotations

import errno
import functools
import socket
import tempfile

from trtverify.fixtures.words.messages import _

# Each of these has been a way out of a namespace, or reaches what no namespace hides (keyrings, the
# kernel log), or holds memory that the watchdog cannot see (memfd, System V segments).
_REFUSED = (
    # looking into other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp"),
    # mounts and namespaces
    *(
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "move_mount",
        "open_tree",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "mount_setattr",
    ),
    *("unshare", "setns"),
    # keyrings
    *("keyctl", "add_key", "request_key"),
    # asynchronous rings and programs inside the kernel: large, young attack surface
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "perf_event_open", "userfaultfd"),
    # handles that ignore paths
    *("open_by_handle_at", "name_to_handle_at", "fanotify_init"),
    # memory that belongs to no process
    *("memfd_create", "memfd_secret", "shmget", "shmat", "shmctl", "msgget", "semget", "mq_open"),
    # the machine itself
    *(
        "syslog",
        "reboot",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "swapon",
        "swapoff",
        "acct",
    ),
    *(
        "quotactl",
        "quotactl_fd",
        "settimeofday",
        "clock_settime",
        "clock_adjtime",
        "adjtimex",
        "sethostname",
        "setdomainname",
    ),
    # being served first, or last: processes at the lowest priority take minutes to end
    *("setpriority", "sched_setscheduler", "sched_setparam", "sched_setattr", "ioprio_set"),
    *("iopl", "ioperm", "modify_ldt", "lookup_dcookie", "nfsservctl", "vhangup", "uselib"),
)
_NAMESPACE_FLAGS = (
    0x00000080,  # CLONE_NEWTIME
    0x00020000,  # CLONE_NEWNS
    0x02000000,  # CLONE_NEWCGROUP
    0x04000000,  # CLONE_NEWUTS
    0x08000000,  # CLONE_NEWIPC
    0x10000000,  # CLONE_NEWUSER
    0x20000000,  # CLONE_NEWPID
    0x40000000,  # CLONE_NEWNET
)
# ONNX Runtime pins its threads and complains where it may not; it is told that it did.
_PRETENDED = ("sched_setaffinity",)
_TERMINAL_INJECTION = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_FAMILIES = {int(family) for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)}


@functools.cache
def program(*, sessions: bool = True) -> bytes:
    """The filter, compiled for this machine's architecture; calls of any other architecture kill.

    Args:
        sessions: a program may begin a session. Outside a control group the kernel gives each session a
            processor's share of its own, so that sixty of them leave a neighbour one part in sixty.

    Raises:
        RuntimeError: libseccomp or its binding is missing.
    """
    try:
        import pyseccomp as seccomp
    except (ImportError, RuntimeError) as problem:  # it raises RuntimeError where libseccomp.so.2 is missing
        raise RuntimeError(
            _("grading needs libseccomp: `apt-get install libseccomp2` and `pip install pyseccomp` ({problem})").format(
                problem=problem
            )
        ) from problem

    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    refuse = seccomp.ERRNO(errno.EPERM)
    for name in _REFUSED:
        if (
            seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0
        ):  # ARM has no iopl, an old libseccomp no memfd_secret
            rules.add_rule(refuse, name)
    if not sessions:
        rules.add_rule(refuse, "setsid")
    for name in _PRETENDED:
        rules.add_rule(seccomp.ERRNO(0), name)
    for flag in _NAMESPACE_FLAGS:
        rules.add_rule(refuse, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    # Its flags lie behind a pointer that a filter cannot read; libc falls back to clone on ENOSYS.
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    for request in _TERMINAL_INJECTION:
        rules.add_rule(refuse, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    # Any family but these three is refused, whatever the kernel's next one will be (vsock is 40).
    unsupported = seccomp.ERRNO(errno.EAFNOSUPPORT)
    for family in set(range(max(_FAMILIES))) - _FAMILIES:
        rules.add_rule(unsupported, "socket", seccomp.Arg(0, seccomp.EQ, family))
    rules.add_rule(unsupported, "socket", seccomp.Arg(0, seccomp.GT, max(_FAMILIES)))
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
