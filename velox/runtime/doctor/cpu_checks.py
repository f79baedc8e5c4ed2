"""Checks of the CPUs: how many there are, and what takes them away.

The thresholds and remedies follow the profiles latency-performance, network-latency and
cpu-partitioning of tuned, and the kernel's ``admin-guide/kernel-per-CPU-kthreads``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

import numpy as np

from velox.runtime.doctor.finding import Evidence, Finding, Severity
from velox.runtime.doctor.host import STEAL, Host
from velox.runtime.hardware import CPU_FOLDER, cgroup_limits, format_cpus
from velox.runtime.hiccups import Hiccups
from velox.runtime.report_text import duration

__all__ = ["CPU_CHECKS", "delay_floor", "named"]

WORKQUEUES = "sys/devices/virtual/workqueue/cpumask"
# Exit latencies up to this are hidden by the pipeline's own hand-over between threads.
SHORT_EXIT_US = 10
HOUSEKEEPING: dict[str, tuple[Callable[[int], bool], str]] = {
    "proc/sys/vm/stat_interval": (lambda value: value >= 10, "vm.stat_interval=10"),
    "proc/sys/kernel/nmi_watchdog": (lambda value: value == 0, "kernel.nmi_watchdog=0"),
    "proc/sys/kernel/timer_migration": (lambda value: value == 0, "kernel.timer_migration=0"),
}


def named(cpus: Collection[int]) -> str:
    """Name CPUs: ``CPU 1`` or ``CPUs 0-3``."""
    return f"CPU{'' if len(cpus) == 1 else 's'} {format_cpus(cpus)}"


def usable_cpus(host: Host) -> Finding:
    """Whether each thread of the plan has a CPU, and Python has one besides."""
    runners = len(host.plan.runners)
    threads = f"{runners} pinned thread" + ("" if runners == 1 else "s")
    evidence = (
        Evidence("usable CPUs", str(host.usable)),
        Evidence("plan", str(host.plan)),
    )
    if host.plan.oversubscribed or host.usable < runners:
        return Finding(
            "usable-cpus",
            Severity.HIGH,
            f"{runners} threads share {host.usable} usable CPU(s). Latencies grow by milliseconds.",
            evidence,
            "use --placement shared, or give the process more CPUs",
        )
    if host.usable < runners + 1:
        return Finding(
            "usable-cpus",
            Severity.HIGH,
            f"No usable CPU is left beside {threads}. Python interrupts the pipeline.",
            evidence,
            f"give the process {runners + 1} CPUs, or choose a placement with fewer threads",
        )
    return Finding(
        "usable-cpus",
        Severity.FINE,
        f"{host.usable} usable CPUs for {threads} and Python.",
        evidence,
    )


def cpu_quota(host: Host) -> Finding:
    """Whether a cgroup stops the process after its share of each period."""
    limits = list(cgroup_limits(host.root))
    if not limits:
        return Finding(
            "cpu-quota",
            Severity.UNKNOWN,
            "The system does not show this process's cgroups.",
            (host.evidence("proc/self/cgroup"),),
        )
    set_here = [each for each in limits if each.quota is not None]
    if not set_here:
        folders = ", ".join(
            "/" + str(each.folder.relative_to(host.root)).removeprefix(".") for each in limits[:1]
        )
        return Finding(
            "cpu-quota",
            Severity.FINE,
            "No cgroup limits the CPU time.",
            (Evidence(folders, "no limit"),),
        )
    tightest = min(set_here, key=lambda each: each.quota or 0.0)
    return Finding(
        "cpu-quota",
        Severity.HIGH,
        f"A cgroup grants {tightest.quota:g} CPUs' worth of time. Threads that spin use it up, and "
        "all threads then stop for the rest of the period.",
        (Evidence("/" + str(tightest.folder.relative_to(host.root)), f"{tightest.quota:g} CPUs"),),
        "remove the quota and give the process whole CPUs (cpuset, AllowedCPUs=, --cpuset-cpus)",
    )


def stolen_time(host: Host) -> Finding:
    """Whether a hypervisor ran other guests on these CPUs."""
    shares = {}
    for cpu, later in host.after.ticks.items():
        earlier = host.before.ticks.get(cpu)
        if earlier is not None and (passed := sum(later) - sum(earlier)) > 0:
            shares[cpu] = (later[STEAL] - earlier[STEAL]) / passed
    if not shares:
        return Finding(
            "stolen-time",
            Severity.UNKNOWN,
            "The kernel's CPU times cannot be read, or did not move while they were watched.",
            (Evidence("/proc/stat", "no times of single CPUs"),),
        )
    cpu, worst = max(shares.items(), key=lambda each: each[1])
    evidence = (
        Evidence("/proc/stat", f"steal {worst:.2%} of {host.measured_s:.1f} s on CPU {cpu}"),
    )
    if worst <= 0.001:
        return Finding("stolen-time", Severity.FINE, "No hypervisor took CPU time.", evidence)
    return Finding(
        "stolen-time",
        Severity.HIGH if worst > 0.01 else Severity.MEDIUM,
        f"A hypervisor ran other guests for {worst:.2%} of the time.",
        evidence,
        "use a dedicated host or an instance with dedicated CPUs",
    )


def cpu_pressure(host: Host) -> Finding:
    """Whether other work waits for the CPUs."""
    path = "proc/pressure/cpu"
    text = host.read(path)
    found = re.search(r"^some .*?avg10=(\d+\.\d+)", text or "", re.M)
    if found is None:
        return Finding(
            "cpu-pressure",
            Severity.UNKNOWN,
            "The kernel does not say whether threads wait for a CPU.",
            (host.evidence(path),),
            "boot with psi=1",
        )
    share = float(found[1])
    if share <= 1:
        return Finding(
            "cpu-pressure", Severity.FINE, "No other work waits for a CPU.", (host.evidence(path),)
        )
    return Finding(
        "cpu-pressure",
        Severity.HIGH if share > 10 else Severity.MEDIUM,
        f"In the last 10 s, threads waited for a CPU for {share:g} % of the time.",
        (host.evidence(path),),
        "stop the other work, or move it to other CPUs (taskset, cpuset, isolcpus)",
    )


def delay_floor(hiccups: Hiccups, percentile: float) -> float:
    """Return the delay that the host alone puts on a record, in ns.

    Parameters
    ----------
    hiccups : Hiccups
        The gaps of one CPU.
    percentile : float
        Of the records, 0 to 100. Records are due at random times.

    Returns
    -------
    float
        The shortest delay that at least this share of the records stays within: the least d with
        sum(max(0, gap - d)) <= (1 - percentile / 100) * elapsed, since a record that is due within
        a gap waits for the gap's rest.
    """
    budget_ns = (1 - percentile / 100) * hiccups.elapsed_s * 1e9
    counts = hiccups.gaps.counts().astype(np.float64)
    lengths = hiccups.gaps.edges()[: len(counts)].astype(np.float64)
    held = counts > 0
    counts, lengths = counts[held], lengths[held]
    if counts @ lengths <= budget_ns:
        return 0.0
    # From the longest gap down: the first k gaps exceed d by (their sum) - k * d.
    number, total = np.cumsum(counts[::-1]), np.cumsum((counts * lengths)[::-1])
    delays = (total - budget_ns) / number
    return float(delays.max())


def hiccups(host: Host) -> Finding:
    """Which latencies the host alone makes impossible."""
    if not host.hiccups:
        return Finding("hiccups", Severity.UNKNOWN, "The host's hiccups were not measured.")
    evidence = tuple(
        Evidence(
            "hiccups of " + ("a thread" if each.cpu is None else f"CPU {each.cpu}"),
            f"{each.gaps_per_s:,.0f} gaps/s over {each.threshold_ns} ns, {each.taken_share:.2%} of "
            f"{each.elapsed_s:.2f} s",
        )
        for each in host.hiccups
    )
    worst = max(host.hiccups, key=lambda each: delay_floor(each, 99))
    p99, p999 = delay_floor(worst, 99), delay_floor(worst, 99.9)
    severity = Severity.FINE
    if p999 > 1_000:
        severity = Severity.MEDIUM
    if p99 > 1_000:
        severity = Severity.HIGH
    return Finding(
        "hiccups",
        severity,
        f"The host alone delays a record by {duration(round(p99))} at p99 and by "
        f"{duration(round(p999))} at p99.9. No pipeline can be quicker here.",
        evidence,
        "" if severity == Severity.FINE else "mend the other findings, then measure again",
    )


def shared_cores(host: Host) -> Finding:
    """Whether a pinned thread shares its core with another CPU that is in use."""
    siblings = {cpu: host.siblings(cpu) for cpu in host.cpus}
    path = f"{CPU_FOLDER}/cpu{host.cpus[0]}/topology/thread_siblings_list"
    known = {cpu: each for cpu, each in siblings.items() if each is not None}
    if len(known) < len(siblings):
        return Finding(
            "shared-cores",
            Severity.UNKNOWN,
            "The system does not say which CPUs share a core.",
            (host.evidence(path),),
        )
    online = host.cpu_set(f"{CPU_FOLDER}/online")
    for cpu, core in known.items():
        both = core & set(host.cpus)
        if len(both) > 1:
            return Finding(
                "shared-cores",
                Severity.HIGH,
                f"CPUs {format_cpus(both)} are one core, and two pinned threads share it.",
                (host.evidence(f"{CPU_FOLDER}/cpu{cpu}/topology/thread_siblings_list"),),
                "name CPUs of different cores with --cpus, or boot with nosmt",
            )
    for cpu, core in known.items():
        others = core - {cpu} if online is None else (core - {cpu}) & online
        if others:
            return Finding(
                "shared-cores",
                Severity.MEDIUM,
                f"CPU {cpu} shares its core with {named(others)}. What runs there slows "
                "the pinned thread.",
                (host.evidence(f"{CPU_FOLDER}/cpu{cpu}/topology/thread_siblings_list"),),
                "echo off > /sys/devices/system/cpu/smt/control, or keep the sibling idle",
            )
    guest = " hypervisor" in (host.read("proc/cpuinfo") or "")
    if guest:
        return Finding(
            "shared-cores",
            Severity.UNKNOWN,
            "No CPU shares its core, as far as this guest can see. Its host may hide it.",
            (host.evidence(path), Evidence("/proc/cpuinfo", "flags: hypervisor")),
        )
    return Finding(
        "shared-cores", Severity.FINE, "No pinned thread shares its core.", (host.evidence(path),)
    )


def isolation(host: Host) -> Finding:
    """Whether the scheduler and the timer leave the pinned threads' CPUs alone."""
    path = f"{CPU_FOLDER}/isolated"
    isolated = host.cpu_set(path)
    evidence = (
        host.evidence(path),
        host.evidence(f"{CPU_FOLDER}/nohz_full"),
        Evidence("/proc/cmdline", f"rcu_nocbs={host.boot_option('rcu_nocbs') or 'absent'}"),
    )
    names = format_cpus(host.cpus)
    if isolated is None:
        return Finding(
            "isolation",
            Severity.UNKNOWN,
            "The system does not say which CPUs are isolated.",
            evidence,
        )
    without_ticks = host.cpu_set(f"{CPU_FOLDER}/nohz_full") or frozenset()
    if set(host.cpus) <= isolated and set(host.cpus) <= without_ticks:
        return Finding(
            "isolation", Severity.FINE, f"Nothing else runs on {named(host.cpus)}.", evidence
        )
    missing = "may run other threads and the kernel's timers"
    if set(host.cpus) <= isolated:
        missing = "still takes the timer's ticks"
    return Finding(
        "isolation",
        Severity.MEDIUM,
        f"The plan's {named(host.cpus)} {missing}.",
        evidence,
        f"boot with isolcpus=managed_irq,domain,{names} nohz_full={names} rcu_nocbs={names}",
    )


def governor(host: Host) -> Finding:
    """Whether the CPUs keep their full frequency."""
    paths = [f"{CPU_FOLDER}/cpu{cpu}/cpufreq/scaling_governor" for cpu in host.cpus]
    found = {path: host.read(path) for path in paths}
    if None in found.values():
        return Finding(
            "governor",
            Severity.UNKNOWN,
            "The system does not say how its CPUs choose their frequency. In a virtual machine "
            "the host decides.",
            (host.evidence(paths[0]),),
        )
    slow = [path for path, text in found.items() if text != "performance"]
    if slow:
        return Finding(
            "governor",
            Severity.HIGH,
            f"The governor '{found[slow[0]]}' lowers the frequency of a CPU that is not busy.",
            tuple(host.evidence(path) for path in slow),
            "cpupower frequency-set --governor performance",
        )
    return Finding(
        "governor",
        Severity.FINE,
        "The CPUs keep their full frequency.",
        (host.evidence(paths[0]),),
    )


def sleep_states(host: Host) -> Finding:
    """Whether an idle CPU sleeps so deeply that it wakes late."""
    driver_path, hold_path = "sys/devices/system/cpu/cpuidle/current_driver", "dev/cpu_dma_latency"
    driver = host.read(driver_path)
    if driver is None:
        return Finding(
            "sleep-states",
            Severity.UNKNOWN,
            "The system does not say how deeply an idle CPU sleeps.",
            (host.evidence(driver_path),),
        )
    evidence = [host.evidence(driver_path)]
    held = _held_latency_us(host, hold_path)
    if held is not None:
        evidence.append(Evidence("/" + hold_path, f"{held} us"))
    depth = max(_exit_latencies(host), default=0)
    if held is not None:
        depth = min(depth, held)
    evidence.append(Evidence("deepest state in use", f"{depth} us to wake"))
    if driver in ("none", "haltpoll") or depth <= SHORT_EXIT_US:
        return Finding("sleep-states", Severity.FINE, "An idle CPU wakes quickly.", tuple(evidence))
    return Finding(
        "sleep-states",
        Severity.MEDIUM,
        f"An idle CPU may need {depth} us to wake. Threads that wait with 'backoff' pay for it.",
        tuple(evidence),
        "boot with intel_idle.max_cstate=1, or hold /dev/cpu_dma_latency open at 0",
    )


def _held_latency_us(host: Host, path: str) -> int | None:
    """The limit that some program holds: the device gives it as four bytes."""
    try:
        value = (host.root / path).read_bytes()[:4]
    except OSError:
        return None
    return int.from_bytes(value, "little", signed=True) if len(value) == 4 else None


def _exit_latencies(host: Host) -> Iterator[int]:
    """The times to wake from each state that is not disabled, of the pinned threads' CPUs."""
    for cpu in host.cpus:
        for state in range(16):
            folder = f"{CPU_FOLDER}/cpu{cpu}/cpuidle/state{state}"
            latency = host.integer(f"{folder}/latency")
            if latency is not None and host.integer(f"{folder}/disable") != 1:
                yield latency


def clock(host: Host) -> Finding:
    """Whether time is read from the CPU's own counter."""
    path = "sys/devices/system/clocksource/clocksource0/current_clocksource"
    source = host.read(path)
    flags = re.search(r"^flags\s*:(.*)$", host.read("proc/cpuinfo") or "", re.M)
    evidence = [host.evidence(path)]
    if source is None:
        return Finding(
            "clock",
            Severity.UNKNOWN,
            "The system does not say which clock its kernel uses.",
            tuple(evidence),
        )
    good = source == "arch_sys_counter"
    if source == "tsc":
        words = flags[1].split() if flags else []
        lacking = [flag for flag in ("constant_tsc", "nonstop_tsc") if flag not in words]
        evidence.append(
            Evidence("/proc/cpuinfo", f"lacks {', '.join(lacking)}" if lacking else "invariant TSC")
        )
        good = not lacking
    if good:
        return Finding(
            "clock", Severity.FINE, "Time comes from the CPU's own counter.", tuple(evidence)
        )
    return Finding(
        "clock",
        Severity.HIGH,
        f"The kernel uses the clock '{source}'. Reading it may take a microsecond.",
        tuple(evidence),
        "boot with clocksource=tsc tsc=reliable, on a host whose TSC is invariant",
    )


def interrupts(host: Host) -> Finding:
    """Whether devices interrupt the pinned threads' CPUs."""
    rates = {
        cpu: (host.after.interrupts[cpu] - host.before.interrupts[cpu]) / host.measured_s
        for cpu in host.cpus
        if cpu in host.after.interrupts and cpu in host.before.interrupts and host.measured_s > 0
    }
    if not rates:
        return Finding(
            "interrupts",
            Severity.UNKNOWN,
            "The system does not count the interrupts of these CPUs.",
            (host.evidence("proc/interrupts"),),
        )
    cpu, rate = max(rates.items(), key=lambda each: each[1])
    evidence = (Evidence("/proc/interrupts", f"{rate:,.0f}/s of devices on CPU {cpu}"),)
    if rate <= 10:
        return Finding(
            "interrupts", Severity.FINE, "Devices leave the pinned threads' CPUs alone.", evidence
        )
    return Finding(
        "interrupts",
        Severity.MEDIUM,
        f"Devices interrupt CPU {cpu} {rate:,.0f} times a second.",
        evidence,
        f"write other CPUs to /proc/irq/*/smp_affinity_list; IRQBALANCE_BANNED_CPULIST={cpu}",
    )


def housekeeping(host: Host) -> Finding:
    """Whether the kernel's own work is kept off the pinned threads' CPUs."""
    evidence, wrong, unknown = [], [], []
    for path, (good, setting) in HOUSEKEEPING.items():
        value = host.integer(path)
        evidence.append(host.evidence(path))
        if value is None:
            unknown.append(path)
        elif not good(value):
            wrong.append(f"sysctl -w {setting}")
    mask = host.read(WORKQUEUES)
    evidence.append(host.evidence(WORKQUEUES))
    if mask is None or not re.fullmatch(r"[0-9a-f,]+", mask):
        unknown.append(WORKQUEUES)
    elif any(int(mask.replace(",", ""), 16) >> cpu & 1 for cpu in host.cpus):
        wrong.append(f"write a mask without {named(host.cpus)} to /{WORKQUEUES}")
    if wrong:
        return Finding(
            "housekeeping",
            Severity.LOW,
            "The kernel does work of its own on the pinned threads' CPUs.",
            tuple(evidence),
            "; ".join(wrong),
        )
    if unknown:
        return Finding(
            "housekeeping",
            Severity.UNKNOWN,
            "The system does not say where the kernel does its own work.",
            tuple(evidence),
        )
    return Finding(
        "housekeeping",
        Severity.FINE,
        "The kernel keeps its own work off these CPUs.",
        tuple(evidence),
    )


CPU_CHECKS = (
    usable_cpus,
    cpu_quota,
    stolen_time,
    cpu_pressure,
    hiccups,
    shared_cores,
    isolation,
    governor,
    sleep_states,
    clock,
    interrupts,
    housekeeping,
)
