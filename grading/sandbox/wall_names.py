"""What the walls of the sandbox are called in the reader's language."""

from __future__ import annotations

from trtverify.fixtures.words.messages import _


def wall_name(name: str) -> str:
    """A wall of `selftest.walls`."""
    return {
        "network": _("network"),
        "host loopback": _("host loopback"),
        "abstract socket": _("abstract socket"),
        "socket families": _("socket families"),
        "host files": _("host files"),
        "read only system": _("read only system"),
        "devices": _("devices"),
        "environment": _("environment"),
        "descriptors": _("descriptors"),
        "processes": _("processes"),
        "privileges": _("privileges"),
        "terminal": _("terminal"),
        "tracing": _("tracing"),
        "nested namespaces": _("nested namespaces"),
        "mounts": _("mounts"),
        "keyrings": _("keyrings"),
        "kernel interfaces": _("kernel interfaces"),
        "hidden memory": _("hidden memory"),
        "priorities": _("priorities"),
        "mappings": _("mappings"),
        "control groups": _("control groups"),
        "unprivileged user": _("unprivileged user"),
        "wall clock": _("wall clock"),
        "CPU time": _("CPU time"),
        "process count": _("process count"),
        "memory": _("memory"),
        "memory of many": _("memory of many"),
        "address space": _("address space"),
        "disk": _("disk"),
        "shared memory": _("shared memory"),
        "file size": _("file size"),
        "inodes": _("inodes"),
        "open files": _("open files"),
        "output": _("output"),
        "dies with its parent": _("dies with its parent"),
    }[name]
