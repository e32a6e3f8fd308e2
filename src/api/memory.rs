//! How much memory the process may use, for `/metrics`.

use std::fs;
use std::path::{Path, PathBuf};

/// The least of the machine's memory and the limits of the process's control groups (`memory.max` of version 2, upwards
/// from its own; the one of version 1 as a container sees it), in bytes. `None` where the system doesn't say.
pub(super) fn limit() -> Option<u64> {
    limit_below(Path::new("/"))
}

/// The same for a system whose `/proc` and `/sys` are below `root`.
fn limit_below(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| machine_memory(&text));
    let groups = root.join("sys/fs/cgroup");
    let own = fs::read_to_string(root.join("proc/self/cgroup")).ok().and_then(|text| own_group(&groups, &text));
    // Above a container's own group there may be none to be seen: its path is then the root itself.
    let version_2 = own.iter().flat_map(|own| own.ancestors()).take_while(|path| path.starts_with(&groups));
    let version_2 = version_2.map(|path| path.join("memory.max"));
    let limits = version_2.chain([groups.join("memory/memory.limit_in_bytes")]).filter_map(|path| number_in(&path));
    limits.chain(machine).min()
}

/// Where the control group of version 2 is, by `/proc/self/cgroup`.
fn own_group(groups: &Path, text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(groups.join(path))
}

/// `MemTotal` of `/proc/meminfo`.
fn machine_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A file's number; `None` for `max`, which is no limit, and where there is no such file.
fn number_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// The limit on a system with these files.
    fn limit_with(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        limit_below(root.path())
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:        2048 kB\nMemFree:          100 kB\n");

    #[test]
    fn without_control_groups_it_is_the_machines_memory() {
        assert_eq!(limit_with(&[MACHINE]), Some(2 << 20));
        assert_eq!(limit_with(&[]), None);
    }

    #[test]
    fn the_least_limit_from_the_own_group_upwards_counts() {
        let own = ("proc/self/cgroup", "0::/pod/container\n");
        let container = ("sys/fs/cgroup/pod/container/memory.max", "max\n");
        let pod = ("sys/fs/cgroup/pod/memory.max", "1000000\n");
        assert_eq!(limit_with(&[MACHINE, own, container, pod]), Some(1_000_000));
        let container = ("sys/fs/cgroup/pod/container/memory.max", "500000\n");
        assert_eq!(limit_with(&[MACHINE, own, container, pod]), Some(500_000));
        let beyond = ("sys/fs/cgroup/pod/memory.max", "9000000\n");
        assert_eq!(limit_with(&[MACHINE, own, beyond]), Some(2 << 20));
    }

    #[test]
    fn in_a_container_the_root_is_its_own_group() {
        let own = ("proc/self/cgroup", "0::/\n");
        assert_eq!(limit_with(&[MACHINE, own, ("sys/fs/cgroup/memory.max", "4096\n")]), Some(4096));
        let version_1 = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "8192\n");
        assert_eq!(limit_with(&[MACHINE, own, version_1]), Some(8192));
    }
}
