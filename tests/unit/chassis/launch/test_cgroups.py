"""CPU quotas and memory limits, from the files of cgroups of both versions below a root."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.launch.cgroups import Limits, machine_limits

pytestmark = pytest.mark.unit

V2 = "30 23 0:26 {mounted} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1_CPU = "32 31 0:29 {mounted} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "35 31 0:32 {mounted} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


def machine(root: Path, mounts: list[str], groups: str, files: dict[str, str]) -> Path:
    """A root with these files of /proc and /sys/fs/cgroup."""
    written = {"proc/self/mountinfo": "\n".join(mounts), "proc/self/cgroup": groups}
    for name, text in {**written, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def test_a_machine_without_groups_has_no_limits(tmp_path: Path) -> None:
    assert machine_limits(tmp_path) == Limits()


def test_the_lowest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    files = {
        "kube/pod/cpu.max": "max 100000",
        "kube/cpu.max": "150000 100000",
        "cpu.max": "400000 100000",
        "kube/pod/memory.max": str(3 << 30),
        "kube/memory.max": "max",
    }
    limits = machine_limits(machine(tmp_path, [V2.format(mounted="/")], "0::/kube/pod", files))
    assert (limits, limits.cores) == (Limits(1.5, 3 << 30), 1)


def test_version_1_has_files_of_its_own(tmp_path: Path) -> None:
    mounts = [V1_CPU.format(mounted="/"), V1_MEMORY.format(mounted="/")]
    files = {
        "cpu,cpuacct/unit/cpu.cfs_quota_us": "300000",
        "cpu,cpuacct/unit/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/unit/memory.limit_in_bytes": str(1 << 30),
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    limits = machine_limits(machine(tmp_path, mounts, "9:memory:/unit\n1:cpu,cpuacct:/unit", files))
    assert (limits, limits.cores) == (Limits(3.0, 1 << 30), 3)


@pytest.mark.parametrize("own", ["/docker/abc", "/"])
def test_a_container_sees_its_own_part_of_the_tree(own: str, tmp_path: Path) -> None:
    mounts = [V1_CPU.format(mounted=own)]
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    limits = machine_limits(machine(tmp_path, mounts, f"1:cpu,cpuacct:{own}", files))
    assert (limits.cpu_seconds, limits.cores) == (0.5, 1)


def test_a_group_outside_of_what_is_seen_is_the_top(tmp_path: Path) -> None:
    files = {"cpu.max": "200000 100000"}
    assert machine_limits(machine(tmp_path, [V2.format(mounted="/")], "0::/../other", files)).cpu_seconds == 2.0
