"""The doctor's checks, on hosts that this machine is not: trees of /proc and /sys, and counters."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.config import PipelineConfig
from velox.core.histogram import LatencyHistogram
from velox.runtime.doctor import CHECKS, Finding, Severity, delay_floor, examine
from velox.runtime.hardware import UsableCpus
from velox.runtime.hiccups import Hiccups

CPU = "sys/devices/system/cpu"
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max locked memory         {locked}            {locked}            bytes
Max realtime priority     0                    0
"""
STAT = "1234 (velox) S " + " ".join(["0"] * 37) + " {policy} 0 0"
V2 = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"
X86_FLAGS = "flags\t\t: fpu tsc constant_tsc nonstop_tsc{more}\n"


def tuned_metal() -> dict[str, str]:
    """Eight cores without SMT; CPUs 4 to 7 are isolated, as cpu-partitioning does it."""
    host = {
        "proc/cpuinfo": X86_FLAGS.format(more=""),
        "proc/cmdline": "isolcpus=managed_irq,domain,4-7 nohz_full=4-7 rcu_nocbs=4-7",
        "proc/pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=12",
        "proc/self/cgroup": "0::/user.slice",
        "proc/self/mountinfo": V2,
        "proc/self/limits": LIMITS.format(locked="unlimited"),
        "proc/self/stat": STAT.format(policy=0),
        "proc/sys/kernel/nmi_watchdog": "0",
        "proc/sys/kernel/numa_balancing": "0",
        "proc/sys/kernel/sched_rt_runtime_us": "950000",
        "proc/sys/kernel/timer_migration": "0",
        "proc/sys/vm/stat_interval": "10",
        f"{CPU}/online": "0-7",
        f"{CPU}/offline": "",
        f"{CPU}/isolated": "4-7",
        f"{CPU}/nohz_full": "4-7",
        f"{CPU}/cpuidle/current_driver": "intel_idle",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
        "sys/devices/system/node/online": "0",
        "sys/devices/virtual/workqueue/cpumask": "0f",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
        "dev/cpu_dma_latency": "\0\0\0\0",
    }
    for cpu in range(8):
        host[f"{CPU}/cpu{cpu}/topology/thread_siblings_list"] = str(cpu)
        host[f"{CPU}/cpu{cpu}/cpufreq/scaling_governor"] = "performance"
        host[f"{CPU}/cpu{cpu}/cpuidle/state0/latency"] = "0"
        host[f"{CPU}/cpu{cpu}/cpuidle/state1/latency"] = "2"
        host[f"{CPU}/cpu{cpu}/cpuidle/state3/latency"] = "133"
    return host


def desktop() -> dict[str, str]:
    """The same cores as they come: SMT, deep sleep, a governor that saves power."""
    host = tuned_metal()
    host["proc/cmdline"] = "quiet splash"
    host["proc/self/limits"] = LIMITS.format(locked="8388608")
    host["proc/sys/kernel/nmi_watchdog"] = "1"
    host["proc/sys/vm/stat_interval"] = "1"
    host[f"{CPU}/isolated"] = host[f"{CPU}/nohz_full"] = ""
    host["sys/devices/virtual/workqueue/cpumask"] = "ff"
    host["sys/kernel/mm/transparent_hugepage/enabled"] = "always madvise [never]"
    del host["dev/cpu_dma_latency"]
    for cpu in range(8):
        host[f"{CPU}/cpu{cpu}/topology/thread_siblings_list"] = f"{cpu % 4},{cpu % 4 + 4}"
        host[f"{CPU}/cpu{cpu}/cpufreq/scaling_governor"] = "powersave"
    return host


def guest() -> dict[str, str]:
    """A virtual machine: the host decides on frequencies, and hides the siblings."""
    host = tuned_metal()
    host["proc/cpuinfo"] = X86_FLAGS.format(more=" hypervisor")
    host["sys/devices/system/clocksource/clocksource0/current_clocksource"] = "kvm-clock"
    for cpu in range(8):
        del host[f"{CPU}/cpu{cpu}/cpufreq/scaling_governor"]
    return host


def old_cgroups() -> dict[str, str]:
    return tuned_metal() | {
        "proc/self/cgroup": "1:cpu:/jobs/one",
        "proc/self/mountinfo": V1,
        "sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us": "250000",
        "sys/fs/cgroup/cpu/jobs/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu/jobs/one/cpu.cfs_quota_us": "-1",
        "sys/fs/cgroup/cpu/jobs/one/cpu.cfs_period_us": "100000",
    }


def pod() -> dict[str, str]:
    """A container of Kubernetes with a limit of 1500m, which sees its own cgroup as the root."""
    return tuned_metal() | {
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/cpu.max": "150000 100000",
    }


def container() -> dict[str, str]:
    """A container of Docker: no pressure, no topology, no devices."""
    hidden = ("proc/pressure", "proc/sys", "dev", f"{CPU}/cpu", f"{CPU}/iso", f"{CPU}/nohz")
    return {path: text for path, text in tuned_metal().items() if not path.startswith(hidden)} | {
        "proc/self/cgroup": "0::/",
        "sys/fs/cgroup/cpu.max": "max 100000",
    }


def arm() -> dict[str, str]:
    host = tuned_metal() | {"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\n"}
    host["sys/devices/system/clocksource/clocksource0/current_clocksource"] = "arch_sys_counter"
    host[f"{CPU}/cpuidle/current_driver"] = "none"
    del host["proc/sys/kernel/nmi_watchdog"]
    return host


def two_nodes() -> dict[str, str]:
    return tuned_metal() | {
        "sys/devices/system/node/online": "0-1",
        "sys/devices/system/node/node0/cpulist": "0-3",
        "sys/devices/system/node/node1/cpulist": "4-7",
        "proc/sys/kernel/numa_balancing": "1",
        f"{CPU}/offline": "8-15",
    }


def ticks(steal: int, idle: int) -> str:
    lines = [f"cpu{cpu} 10 0 10 {idle} 0 0 0 {steal} 0 0" for cpu in range(8)]
    return "\n".join(["cpu  1 2 3 4 5 6 7 8 9 10", *lines, "intr 5"])


def interrupts(served: int) -> str:
    heading = "     " + " ".join(f"CPU{cpu}" for cpu in range(8))
    row = " ".join(["7"] * 7 + [str(served)])
    return f"{heading}\n 24: {row} IO-APIC timer\nLOC: {' '.join(['999999'] * 8)} Local\nERR: 0"


def quiet(cpu: int = 7) -> tuple[Hiccups, ...]:
    return (Hiccups(cpu, 80, 1.0, 0.0, LatencyHistogram()),)


class Examiner:
    """Examines a made-up host."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, files: dict[str, str]) -> None:
        for path, text in files.items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text + ("" if path.startswith("dev/") else "\n"), encoding="utf-8")

    def __call__(
        self,
        files: dict[str, str],
        *,
        cpus: tuple[int, ...] = (7,),
        usable: int = 8,
        placement: str = "shared",
        steal: int = 0,
        served: int = 0,
        hiccups: Callable[[], tuple[Hiccups, ...]] = quiet,
        shared_memory: int | None = 1 << 30,
    ) -> dict[str, Finding]:
        self.write(files | {"proc/stat": ticks(0, 0), "proc/interrupts": interrupts(0)})

        def measure() -> tuple[Hiccups, ...]:
            self.write({"proc/stat": ticks(steal, 1000 - steal)})
            self.write({"proc/interrupts": interrupts(served)})
            return hiccups()

        findings = examine(
            PipelineConfig(placement=placement, cpus=cpus),
            measure=measure,
            root=self.root,
            usable=UsableCpus(allowed=tuple(range(8)), quota=None, count=usable, why=""),
            file_system_bytes=lambda path: shared_memory,
        )
        assert len(findings) == len(CHECKS)
        severities = [each.severity for each in findings]
        assert severities == sorted(severities, reverse=True)
        for each in findings:
            assert each.summary.endswith(".")
            if each.severity > Severity.UNKNOWN:
                assert each.evidence
                assert each.remedy
            assert each.to_dict()["severity"] == each.severity.name.lower()
        found = {each.id: each for each in findings}
        assert len(found) == len(findings)
        return found


@pytest.fixture
def examined(tmp_path: Path) -> Examiner:
    return Examiner(tmp_path)


def marks(found: dict[str, Finding]) -> dict[str, str]:
    return {id: each.severity.name for id, each in found.items() if each.severity}


def test_a_tuned_host_has_nothing_to_mend(examined: Examiner) -> None:
    assert marks(examined(tuned_metal())) == {}


def test_a_desktop_shares_its_cores_and_saves_power(examined: Examiner) -> None:
    found = examined(desktop())
    assert marks(found) == {
        "governor": "HIGH",
        "shared-cores": "MEDIUM",
        "isolation": "MEDIUM",
        "sleep-states": "MEDIUM",
        "housekeeping": "LOW",
        "locked-memory": "LOW",
        "huge-pages": "INFO",
    }
    assert "CPU 3" in found["shared-cores"].summary
    assert found["governor"].evidence[0].text == "powersave"
    assert found["sleep-states"].evidence[-1].text == "133 us to wake"
    assert "kernel.nmi_watchdog=0" in found["housekeeping"].remedy
    assert "CPU 7" in found["housekeeping"].remedy


def test_two_threads_on_one_core_are_worse_than_an_idle_sibling(examined: Examiner) -> None:
    found = examined(desktop(), cpus=(3, 7), placement="paired")
    assert found["shared-cores"].severity == Severity.HIGH


def test_an_offline_sibling_shares_nothing(examined: Examiner) -> None:
    host = desktop() | {f"{CPU}/online": "4-7", f"{CPU}/offline": "0-3"}
    found = examined(host)
    assert found["shared-cores"].severity == Severity.FINE
    assert found["offline-cpus"].severity == Severity.INFO


def test_a_guest_does_not_know_what_its_host_hides(examined: Examiner) -> None:
    assert marks(examined(guest())) == {
        "clock": "HIGH",
        "shared-cores": "UNKNOWN",
        "governor": "UNKNOWN",
    }


@pytest.mark.parametrize(
    ("host", "grants"), [(old_cgroups, "2.5 CPUs"), (pod, "1.5 CPUs")], ids=["v1", "v2"]
)
def test_a_quota_stops_threads_that_spin(
    examined: Examiner, host: Callable[[], dict[str, str]], grants: str
) -> None:
    found = examined(host())
    assert marks(found) == {"cpu-quota": "HIGH"}
    assert found["cpu-quota"].evidence[0].text == grants


def test_hidden_cgroups_are_unknown(examined: Examiner) -> None:
    host = tuned_metal()
    del host["proc/self/mountinfo"]
    assert marks(examined(host)) == {"cpu-quota": "UNKNOWN"}


def test_what_a_container_hides_is_unknown_and_never_fine(examined: Examiner) -> None:
    found = examined(container(), shared_memory=64 << 20)
    assert marks(found) == {
        "shared-memory": "MEDIUM",
        "cpu-pressure": "UNKNOWN",
        "shared-cores": "UNKNOWN",
        "isolation": "UNKNOWN",
        "governor": "UNKNOWN",
        "sleep-states": "UNKNOWN",
        "housekeeping": "UNKNOWN",
        "real-time": "UNKNOWN",
    }


def test_a_host_that_says_nothing_has_no_fine_finding_but_the_plan(examined: Examiner) -> None:
    examined.write({"proc/stat": "", "proc/interrupts": ""})
    found = {
        each.id: each.severity
        for each in examine(
            PipelineConfig(placement="shared"),
            root=examined.root,
            usable=UsableCpus(allowed=(0, 1), quota=None, count=2, why=""),
            file_system_bytes=lambda path: None,
        )
    }
    assert found.pop("usable-cpus") == Severity.FINE
    assert set(found.values()) == {Severity.UNKNOWN}


def test_an_arm_host_has_its_own_clock(examined: Examiner) -> None:
    found = examined(arm())
    assert marks(found) == {"housekeeping": "UNKNOWN"}


def test_memory_that_moves_between_nodes_is_named(examined: Examiner) -> None:
    found = examined(two_nodes())
    assert marks(found) == {"numa": "MEDIUM", "offline-cpus": "INFO"}
    assert "numa_balancing" in found["numa"].remedy


def test_threads_on_two_nodes_are_named(examined: Examiner) -> None:
    host = two_nodes() | {"proc/sys/kernel/numa_balancing": "0"}
    assert examined(host)["numa"].severity == Severity.FINE
    found = examined(host, cpus=(3, 7), placement="paired")
    assert found["numa"].severity == Severity.MEDIUM
    assert "nodes 0-1" in found["numa"].summary


@pytest.mark.parametrize(("usable", "severity"), [(2, "HIGH"), (4, "HIGH"), (5, "FINE")])
def test_each_thread_and_python_need_a_cpu(examined: Examiner, usable: int, severity: str) -> None:
    found = examined(tuned_metal(), cpus=(4, 5, 6, 7), placement="dedicated", usable=usable)
    assert found["usable-cpus"].severity.name == severity


@pytest.mark.parametrize(("steal", "severity"), [(0, "FINE"), (5, "MEDIUM"), (50, "HIGH")])
def test_stolen_time_is_counted_while_the_host_is_measured(
    examined: Examiner, steal: int, severity: str
) -> None:
    found = examined(tuned_metal(), steal=steal)
    assert found["stolen-time"].severity.name == severity


def test_only_devices_count_as_interrupts(examined: Examiner) -> None:
    assert examined(tuned_metal(), served=10**9)["interrupts"].severity == Severity.MEDIUM
    assert examined(tuned_metal(), served=0)["interrupts"].severity == Severity.FINE


@pytest.mark.parametrize(
    ("some", "severity"), [("0.40", "FINE"), ("3.00", "MEDIUM"), ("39.12", "HIGH")]
)
def test_pressure_says_whether_others_want_the_cpus(
    examined: Examiner, some: str, severity: str
) -> None:
    host = tuned_metal() | {"proc/pressure/cpu": f"some avg10={some} avg60=0.00 total=1"}
    assert examined(host)["cpu-pressure"].severity.name == severity


@pytest.mark.parametrize("text", ["", "some avg10=x", "full avg10=90.00"])
def test_pressure_that_cannot_be_read_is_unknown(examined: Examiner, text: str) -> None:
    found = examined(tuned_metal() | {"proc/pressure/cpu": text})
    assert found["cpu-pressure"].severity == Severity.UNKNOWN


def test_real_time_threads_that_spin_are_stopped_by_the_kernel(examined: Examiner) -> None:
    host = tuned_metal() | {"proc/self/stat": STAT.format(policy=1)}
    found = examined(host)
    assert marks(found) == {"real-time": "HIGH"}
    assert "SCHED_FIFO" in found["real-time"].summary
    assert marks(examined(host | {"proc/sys/kernel/sched_rt_runtime_us": "-1"})) == {}


def test_a_tsc_that_stops_is_no_clock(examined: Examiner) -> None:
    host = tuned_metal() | {"proc/cpuinfo": "flags\t: tsc constant_tsc\n"}
    found = examined(host)["clock"]
    assert found.severity == Severity.HIGH
    assert found.evidence[1].text == "lacks nonstop_tsc"


def test_isolated_cpus_may_still_take_the_tick(examined: Examiner) -> None:
    found = examined(tuned_metal() | {f"{CPU}/nohz_full": "4-6"})["isolation"]
    assert found.severity == Severity.MEDIUM
    assert "tick" in found.summary


def hiccups_of(gaps: list[int], elapsed_ns: int) -> Hiccups:
    histogram = LatencyHistogram()
    histogram.record_many(np.array(gaps, np.int64))
    return Hiccups(7, 80, elapsed_ns / 1e9, sum(gaps) / 1e9, histogram)


def test_a_noisy_host_states_the_latency_that_it_makes_impossible(examined: Examiner) -> None:
    found = examined(tuned_metal(), hiccups=lambda: (hiccups_of([1_000_000] * 50, 10**9),))
    assert marks(found) == {"hiccups": "HIGH"}
    # 5 % of the time lies in gaps of 1 ms, so 1 % of the records wait for over 0.8 ms. The
    # histogram's bucket of 1 ms begins at 999,424 ns.
    assert "799 µs at p99" in found["hiccups"].summary


@given(
    st.lists(st.integers(100, 10**7), max_size=50),
    st.sampled_from([50.0, 99.0, 99.9]),
)
def test_the_floor_is_the_least_delay_that_leaves_few_enough_records_behind(
    gaps: list[int], percentile: float
) -> None:
    elapsed_ns = 10**9
    found = hiccups_of(gaps, elapsed_ns)
    floor = delay_floor(found, percentile)
    counts, lengths = found.gaps.counts(), found.gaps.edges()
    held = [int(lengths[i]) for i in np.flatnonzero(counts) for _ in range(int(counts[i]))]
    budget = (1 - percentile / 100) * elapsed_ns
    behind = sum(max(0.0, length - floor) for length in held)
    assert behind <= budget * (1 + 1e-9) + 1
    if floor > 0:
        assert behind == pytest.approx(budget, rel=1e-6, abs=1)


def test_this_host_is_examined_in_order() -> None:
    found = examine()
    assert {each.id for each in found} == {
        *("usable-cpus", "cpu-quota", "stolen-time", "cpu-pressure", "hiccups", "shared-cores"),
        *("isolation", "governor", "sleep-states", "clock", "interrupts", "housekeeping"),
        *("huge-pages", "numa", "locked-memory", "real-time", "shared-memory", "offline-cpus"),
    }
