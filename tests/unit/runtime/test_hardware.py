"""What the process may use, told by trees of /proc and /sys that this machine does not have."""

import doctest
import os
import platform
from pathlib import Path

import pytest

from velox.runtime import hardware as module
from velox.runtime.hardware import (
    UsableCpus,
    cpu_order,
    describe_machine,
    format_cpus,
    usable_cpus,
)

V2_MOUNT = "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw"
V1_MOUNT = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"


def write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n", encoding="utf-8")


def cgroup(root: Path, own: str, *mounts: str) -> None:
    write(root, "proc/self/cgroup", own)
    write(root, "proc/self/mountinfo", "\n".join(mounts))


def siblings(root: Path, lists: dict[int, str], packages: dict[int, int] | None = None) -> None:
    for cpu, siblings_list in lists.items():
        topology = f"sys/devices/system/cpu/cpu{cpu}/topology"
        write(root, f"{topology}/thread_siblings_list", siblings_list)
        if packages:
            write(root, f"{topology}/physical_package_id", str(packages[cpu]))


# What is allowed


def test_a_machine_that_says_nothing_grants_every_allowed_cpu(tmp_path):
    usable = usable_cpus(tmp_path, allowed={5, 3, 4})
    assert usable.allowed == (3, 4, 5)
    assert usable.order == (3, 4, 5)
    assert usable.quota is None
    assert usable.count == 3
    assert usable.why == "3 usable: CPUs 3-5 allowed, no CPU quota"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_the_affinity_mask_is_where_it_starts(tmp_path):
    assert usable_cpus(tmp_path).allowed == tuple(sorted(os.sched_getaffinity(0)))
    assert usable_cpus(tmp_path).can_pin


def test_without_affinity_masks_every_cpu_is_allowed_and_none_can_be_pinned(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    usable = usable_cpus(tmp_path)
    assert usable.allowed == tuple(range(8))
    assert usable.count == 8
    assert not usable.can_pin


def test_this_machine_grants_at_least_one_cpu_and_no_more_than_allowed():
    usable = usable_cpus()
    assert 1 <= usable.count <= len(usable.allowed)
    assert sorted(usable.order) == list(usable.allowed)


def test_an_order_that_is_not_given_is_ascending():
    assert UsableCpus(allowed=(2, 7), quota=None, count=2, why="").order == (2, 7)


# Quotas


@pytest.mark.parametrize(
    ("cpu_max", "quota", "count"),
    [
        ("max 100000", None, 8),
        ("400000 100000", 4.0, 4),
        ("250000 100000", 2.5, 2),
        ("50000 100000", 0.5, 1),
        ("1600000 100000", 16.0, 8),
        ("30000 10000", 3.0, 3),
    ],
)
def test_a_v2_quota_counts_in_whole_cpus_and_at_least_one(tmp_path, cpu_max, quota, count):
    cgroup(tmp_path, "0::/app", V2_MOUNT)
    write(tmp_path, "sys/fs/cgroup/app/cpu.max", cpu_max)
    usable = usable_cpus(tmp_path, allowed=range(8))
    assert usable.quota == quota
    assert usable.count == count


def test_the_tightest_ancestor_decides(tmp_path):
    cgroup(tmp_path, "0::/slice/service/app", V2_MOUNT)
    write(tmp_path, "sys/fs/cgroup/slice/service/app/cpu.max", "max 100000")
    write(tmp_path, "sys/fs/cgroup/slice/service/cpu.max", "300000 100000")
    write(tmp_path, "sys/fs/cgroup/slice/cpu.max", "600000 100000")
    usable = usable_cpus(tmp_path, allowed=range(8))
    assert usable.quota == 3.0
    assert usable.why == "3 usable: CPUs 0-7 allowed, a cgroup quota of 3"


def test_the_quota_of_another_cgroup_does_not_count(tmp_path):
    cgroup(tmp_path, "0::/slice/app", V2_MOUNT)
    write(tmp_path, "sys/fs/cgroup/slice/neighbour/cpu.max", "100000 100000")
    assert usable_cpus(tmp_path, allowed=range(8)).quota is None


@pytest.mark.parametrize(("quota_us", "quota"), [("-1", None), ("150000", 1.5), ("0", None)])
def test_a_v1_quota_is_read_beside_its_period(tmp_path, quota_us, quota):
    cgroup(tmp_path, "4:memory:/elsewhere\n3:cpu,cpuacct:/app", V1_MOUNT)
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", quota_us)
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us", "100000")
    assert usable_cpus(tmp_path, allowed=range(8)).quota == quota


def test_of_both_versions_at_once_the_tighter_one_decides(tmp_path):
    unified = V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    cgroup(tmp_path, "3:cpu,cpuacct:/\n0::/app", V1_MOUNT, unified)
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "500000")
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    write(tmp_path, "sys/fs/cgroup/unified/app/cpu.max", "700000 100000")
    assert usable_cpus(tmp_path, allowed=range(8)).quota == 5.0


def test_the_cpuacct_hierarchy_alone_limits_nothing(tmp_path):
    cgroup(tmp_path, "3:cpuacct:/", V1_MOUNT.replace("cpu,cpuacct", "cpuacct"))
    write(tmp_path, "sys/fs/cgroup/cpuacct/cpu.cfs_quota_us", "100000")
    write(tmp_path, "sys/fs/cgroup/cpuacct/cpu.cfs_period_us", "100000")
    assert usable_cpus(tmp_path, allowed=range(8)).quota is None


@pytest.mark.parametrize("own", ["/docker/abc", "/", "/../../host", "/kubepods/pod1"])
def test_a_container_finds_its_quota_at_the_root_of_what_is_mounted(tmp_path, own):
    mount = "32 31 0:29 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    cgroup(tmp_path, f"0::{own}", mount)
    write(tmp_path, "sys/fs/cgroup/cpu.max", "200000 100000")
    assert usable_cpus(tmp_path, allowed=range(8)).quota == 2.0


def test_a_path_that_climbs_out_of_the_mount_is_not_followed(tmp_path):
    cgroup(tmp_path, "0::/../outside", V2_MOUNT)
    write(tmp_path, "sys/fs/outside/cpu.max", "100000 100000")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "600000 100000")
    assert usable_cpus(tmp_path, allowed=range(8)).quota == 6.0


def test_a_mount_point_with_a_space_is_found(tmp_path):
    cgroup(tmp_path, "0::/", V2_MOUNT.replace("/sys/fs/cgroup", "/my\\040groups"))
    write(tmp_path, "my groups/cpu.max", "200000 100000")
    assert usable_cpus(tmp_path, allowed=range(8)).quota == 2.0


@pytest.mark.parametrize(
    "cpu_max", ["", "max", "1", "fast 100000", "100000 0", "-5 100000", "1 2 3", "1e5 100000"]
)
def test_a_limit_that_is_no_limit_says_nothing(tmp_path, cpu_max):
    cgroup(tmp_path, "0::/", V2_MOUNT)
    write(tmp_path, "sys/fs/cgroup/cpu.max", cpu_max)
    assert usable_cpus(tmp_path, allowed=range(8)).quota is None


def test_mangled_proc_files_say_nothing(tmp_path):
    cgroup(tmp_path, "nonsense\n:\n0:\n0::", "36 25 0:31", "a b c d e - cgroup2", V2_MOUNT[:20])
    (tmp_path / "proc/cpuinfo").write_bytes(b"model name\xff\xfe\x00")
    assert usable_cpus(tmp_path, allowed=range(2)).count == 2
    assert "CPUs usable" in describe_machine(tmp_path)


def test_a_folder_where_a_file_should_be_says_nothing(tmp_path):
    cgroup(tmp_path, "0::/", V2_MOUNT)
    (tmp_path / "sys/fs/cgroup/cpu.max").mkdir(parents=True)
    assert usable_cpus(tmp_path, allowed=range(8)).quota is None


# Order


def test_siblings_come_last_where_they_are_numbered_after_all_cores(tmp_path):
    siblings(tmp_path, {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)})
    assert cpu_order(range(8), tmp_path) == (0, 1, 2, 3, 4, 5, 6, 7)
    assert cpu_order([1, 4, 5, 6], tmp_path) == (1, 4, 6, 5)


def test_siblings_come_last_where_they_are_numbered_in_pairs(tmp_path):
    siblings(tmp_path, {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"})
    assert cpu_order([3, 2, 1, 0], tmp_path) == (0, 2, 1, 3)


def test_four_threads_of_a_core_come_in_four_rounds(tmp_path):
    siblings(tmp_path, {cpu: "0-3" if cpu < 4 else "4-7" for cpu in range(8)})
    assert cpu_order(range(8), tmp_path) == (0, 4, 1, 5, 2, 6, 3, 7)


def test_a_core_whose_first_thread_is_not_allowed_starts_with_its_second(tmp_path):
    siblings(tmp_path, {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"})
    assert cpu_order([1, 2, 3], tmp_path) == (1, 2, 3)


def test_the_cpus_of_one_package_stay_together(tmp_path):
    lists = {cpu: str(cpu) for cpu in range(6)}
    siblings(tmp_path, lists, {cpu: cpu % 2 for cpu in lists})
    assert cpu_order(range(6), tmp_path) == (0, 2, 4, 1, 3, 5)


def test_another_package_is_nearer_than_a_sibling(tmp_path):
    lists = {0: "0,2", 2: "0,2", 1: "1,3", 3: "1,3"}
    siblings(tmp_path, lists, {0: 0, 2: 0, 1: 1, 3: 1})
    assert cpu_order(range(4), tmp_path) == (0, 1, 2, 3)


@pytest.mark.parametrize("text", ["", "?", "0-", "-1", "0;1"])
def test_an_unreadable_topology_makes_each_cpu_a_core(tmp_path, text):
    siblings(tmp_path, {0: text, 1: text})
    assert cpu_order([1, 0], tmp_path) == (0, 1)


def test_usable_cpus_carries_the_order(tmp_path):
    siblings(tmp_path, {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"})
    usable = usable_cpus(tmp_path, allowed=range(4))
    assert usable.allowed == (0, 1, 2, 3)
    assert usable.order == (0, 2, 1, 3)


# Words


@pytest.mark.parametrize(
    ("cpus", "text"),
    [((), ""), ((7,), "7"), ((0, 1), "0-1"), ((4, 0, 2, 3), "0,2-4"), ((1, 1, 1), "1")],
)
def test_cpus_are_written_as_the_kernel_does(cpus, text):
    assert format_cpus(cpus) == text


def test_a_machine_is_described_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "python_version", lambda: "3.13.1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC 9374F  \nflags\t: fpu")
    write(tmp_path, "sys/devices/system/cpu/online", "0-31,48-63")
    cgroup(tmp_path, "0::/", V2_MOUNT)
    write(tmp_path, "sys/fs/cgroup/cpu.max", "200000 100000")
    assert describe_machine(tmp_path) == (
        "AMD EPYC 9374F, 2 of 48 CPUs usable, Linux x86-64, Python 3.13.1"
    )


def test_a_machine_without_files_is_described_by_its_architecture(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert describe_machine(tmp_path).startswith("aarch64, 8 of 8 CPUs usable, macOS aarch64, ")


def test_the_examples_of_the_module_run():
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0
