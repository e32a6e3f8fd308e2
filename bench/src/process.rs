//! What the kernel has booked for a process: CPU time and memory.

use anyhow::{Context, Result, anyhow};
use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// A process's CPU time up to one moment.
pub struct CpuTime {
    /// By thread, in nanoseconds (`/proc/PID/task/*/schedstat`).
    threads: HashMap<u32, u64>,
    /// Of all threads, those that have ended too, in hundredths of a second (`utime` and `stime` of `/proc/PID/stat`).
    ticks: u64,
}

impl CpuTime {
    /// What the process has used up to now.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = read(pid, "stat")?;
        // The second field, the command in parentheses, may hold spaces.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
        let ticks = fields
            .and_then(|fields| Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?))
            .ok_or_else(|| anyhow!("/proc/{pid}/stat is not understood: {stat}"))?;
        let mut threads = HashMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("threads of process {pid}"))? {
            let entry = entry?;
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread may end between the listing and the reading, and a kernel may keep no schedstat.
            let Ok(schedstat) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            if let Some(nanos) = schedstat.split_whitespace().next().and_then(|field| field.parse().ok()) {
                threads.insert(thread, nanos);
            }
        }
        Ok(Self { threads, ticks })
    }

    /// What was used between two moments: to the nanosecond where the kernel keeps it and no thread ended in between,
    /// else to the hundredth of a second.
    pub fn since(&self, before: &Self) -> Duration {
        let ended = before.threads.keys().any(|thread| !self.threads.contains_key(thread));
        if ended || self.threads.is_empty() {
            // USER_HZ is 100 on every architecture that Linux has today.
            return Duration::from_millis(self.ticks.saturating_sub(before.ticks) * 10);
        }
        let used = |(thread, nanos): (&u32, &u64)| nanos - before.threads.get(thread).unwrap_or(&0);
        Duration::from_nanos(self.threads.iter().map(used).sum())
    }
}

/// A process's resident memory in bytes (`Rss` of `/proc/PID/smaps_rollup`, which is exact where `status` may lag).
pub fn resident(pid: u32) -> Result<u64> {
    let smaps = read(pid, "smaps_rollup")?;
    smaps
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.split_whitespace().next()?.parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| anyhow!("/proc/{pid}/smaps_rollup has no Rss"))
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_booked() {
        let before = CpuTime::of(std::process::id()).unwrap();
        let mut after = CpuTime::of(std::process::id()).unwrap();
        while after.since(&before) == Duration::ZERO {
            std::hint::black_box((0..100_000_u64).sum::<u64>());
            after = CpuTime::of(std::process::id()).unwrap();
        }
        assert!(resident(std::process::id()).unwrap() > 0);
    }
}
