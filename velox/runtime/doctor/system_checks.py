"""Checks of memory, limits and scheduling."""

from __future__ import annotations

import re

from velox.runtime.doctor.cpu_checks import named
from velox.runtime.doctor.finding import Evidence, Finding, Severity
from velox.runtime.doctor.host import Host
from velox.runtime.hardware import CPU_FOLDER, format_cpus
from velox.runtime.huge_pages import ENABLED

__all__ = ["SYSTEM_CHECKS"]

SHARED_MEMORY = "dev/shm"
LEAST_SHARED_MEMORY = 256 << 20
LEAST_LOCKED_MEMORY = 64 << 20
RT_RUNTIME = "proc/sys/kernel/sched_rt_runtime_us"
# The field `policy` of /proc/self/stat (proc_pid_stat(5)), counted from behind the name.
POLICY_FIELD = 38
REAL_TIME_POLICIES = {1: "SCHED_FIFO", 2: "SCHED_RR"}


def huge_pages(host: Host) -> Finding:
    """Whether the kernel gives huge pages to a program that asks for them."""
    text = host.read(ENABLED)
    chosen = re.search(r"\[(\w+)\]", text or "")
    evidence = (host.evidence(ENABLED),)
    if chosen is None:
        return Finding(
            "huge-pages",
            Severity.UNKNOWN,
            "The system does not say whether it gives huge pages.",
            evidence,
        )
    if chosen[1] == "never":
        return Finding(
            "huge-pages",
            Severity.INFO,
            "The kernel gives no huge pages, so large books miss the TLB more often.",
            evidence,
            f"echo madvise > /{ENABLED}",
        )
    return Finding(
        "huge-pages", Severity.FINE, "A program that asks for huge pages gets them.", evidence
    )


def numa(host: Host) -> Finding:
    """Whether the pinned threads and their memory lie on one node."""
    online_path, balancing_path = (
        "sys/devices/system/node/online",
        "proc/sys/kernel/numa_balancing",
    )
    nodes = host.cpu_set(online_path)
    if not nodes:
        return Finding(
            "numa",
            Severity.UNKNOWN,
            "The system does not show its NUMA nodes.",
            (host.evidence(online_path),),
        )
    evidence = (host.evidence(online_path), host.evidence(balancing_path))
    if len(nodes) == 1:
        return Finding("numa", Severity.FINE, "There is one NUMA node.", evidence[:1])
    used = {
        node
        for node in nodes
        if (host.cpu_set(f"sys/devices/system/node/node{node}/cpulist") or frozenset())
        & set(host.cpus)
    }
    if len(used) > 1:
        return Finding(
            "numa",
            Severity.MEDIUM,
            f"The pinned threads lie on NUMA nodes {format_cpus(used)}. A cache line that crosses "
            "nodes takes several times as long.",
            evidence,
            "name CPUs of one node with --cpus, or run under numactl --cpunodebind",
        )
    if host.integer(balancing_path) != 0:
        return Finding(
            "numa",
            Severity.MEDIUM,
            "The kernel moves memory between NUMA nodes, and unmaps it to find out who uses it.",
            evidence,
            "sysctl -w kernel.numa_balancing=0",
        )
    return Finding("numa", Severity.FINE, "The pinned threads lie on one NUMA node.", evidence)


def locked_memory(host: Host) -> Finding:
    """Whether rings and books can be kept in memory."""
    limit = host.limit("Max locked memory")
    if limit is None:
        return Finding(
            "locked-memory",
            Severity.UNKNOWN,
            "The system does not show this process's limits.",
            (host.evidence("proc/self/limits"),),
        )
    evidence = (Evidence("/proc/self/limits", limit.text),)
    if limit.soft is not None and limit.soft < LEAST_LOCKED_MEMORY:
        return Finding(
            "locked-memory",
            Severity.LOW,
            f"The process may lock {limit.soft // 1024:,} KiB of memory.",
            evidence,
            "LimitMEMLOCK=infinity in the unit, ulimit -l unlimited, --ulimit memlock=-1",
        )
    return Finding("locked-memory", Severity.FINE, "Memory can be locked.", evidence)


def real_time(host: Host) -> Finding:
    """Whether a real-time thread is stopped for a part of each second."""
    text = host.read("proc/self/stat")
    try:
        policy = None if text is None else int(text.rpartition(")")[2].split()[POLICY_FIELD])
    except (ValueError, IndexError):
        policy = None
    runtime = host.integer(RT_RUNTIME)
    evidence = (host.evidence(RT_RUNTIME), Evidence("scheduling policy", str(policy)))
    if policy is None or runtime is None:
        return Finding(
            "real-time",
            Severity.UNKNOWN,
            "The system does not say how it schedules this process.",
            evidence,
        )
    if policy in REAL_TIME_POLICIES and runtime != -1:
        return Finding(
            "real-time",
            Severity.HIGH,
            f"Under {REAL_TIME_POLICIES[policy]}, the kernel stops a thread that spins after "
            f"{runtime:,} us of each second.",
            evidence,
            "sysctl -w kernel.sched_rt_runtime_us=-1, or use the normal policy on isolated CPUs",
        )
    return Finding(
        "real-time", Severity.FINE, "No real-time limit applies to this process.", evidence
    )


def shared_memory(host: Host) -> Finding:
    """Whether shared memory has room for rings between processes."""
    size = host.file_system_bytes(host.root / SHARED_MEMORY)
    if size is None:
        return Finding(
            "shared-memory",
            Severity.UNKNOWN,
            "There is no /dev/shm.",
            (Evidence("/" + SHARED_MEMORY, "absent"),),
        )
    evidence = (Evidence("/" + SHARED_MEMORY, f"{size / 2**20:,.0f} MiB"),)
    if size < LEAST_SHARED_MEMORY:
        return Finding(
            "shared-memory",
            Severity.MEDIUM,
            "Shared memory is small. A ring that outgrows it ends its process with SIGBUS.",
            evidence,
            "mount -o remount,size=1G /dev/shm, or docker run --shm-size=1g",
        )
    return Finding("shared-memory", Severity.FINE, "Shared memory has room.", evidence)


def offline_cpus(host: Host) -> Finding:
    """Whether a CPU of the plan may disappear, or some are switched off."""
    path = f"{CPU_FOLDER}/offline"
    offline = host.cpu_set(path)
    if offline is None:
        return Finding(
            "offline-cpus",
            Severity.UNKNOWN,
            "The system does not say which CPUs are switched off.",
            (host.evidence(path),),
        )
    if offline:
        return Finding(
            "offline-cpus",
            Severity.INFO,
            f"Switched off: {named(offline)}.",
            (host.evidence(path),),
            f"echo 1 > /sys/devices/system/cpu/cpu{min(offline)}/online, if they are not SMT "
            "siblings that were switched off on purpose",
        )
    return Finding("offline-cpus", Severity.FINE, "No CPU is switched off.", (host.evidence(path),))


SYSTEM_CHECKS = (huge_pages, numa, locked_memory, real_time, shared_memory, offline_cpus)
