//! What /proc tells about processes (proc(5): `stat`, `status`).

use std::collections::HashMap;
use std::{fs, io};

/// The most resident memory that the process ever had, in KiB (`VmHWM`).
///
/// # Errors
/// When there is no such process, or it has no memory any more.
pub fn vm_hwm_kib(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())
        .ok_or_else(|| malformed(pid, "VmHWM"))
}

/// User and system time that the process has used so far, in seconds; without its children.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = Stat::of(pid)?;
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    Ok(stat.cpu_ticks as f64 / ticks_per_second)
}

/// As [`cpu_seconds`], of the threads that live and whose names begin like that.
///
/// # Errors
/// When there is no such process.
pub fn threads_cpu_seconds(pid: u32, prefix: &str) -> io::Result<f64> {
    let mut ticks = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and this look.
        let read = |file: &str| fs::read_to_string(entry.as_ref().ok()?.path().join(file)).ok();
        if read("comm").is_some_and(|name| name.starts_with(prefix)) {
            let stat = read("stat").and_then(|text| Stat::parse(&text));
            ticks += stat.map_or(0, |stat| stat.cpu_ticks);
        }
    }
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// As [`cpu_seconds`], with all of its children, also those that have ended.
///
/// # Errors
/// When there is no such process.
pub fn family_cpu_seconds(pid: u32) -> io::Result<f64> {
    let own = Stat::of(pid)?;
    let living = descendants(pid).into_iter();
    let living: u64 = living
        .filter_map(|child| Stat::of(child).ok())
        .map(|stat| stat.cpu_ticks + stat.children_ticks)
        .sum();
    let ticks = own.cpu_ticks + own.children_ticks + living;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

struct Stat {
    state: char,
    parent: u32,
    cpu_ticks: u64,
    /// Of children that have ended and were waited for.
    children_ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> io::Result<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Stat::parse(&text).ok_or_else(|| malformed(pid, "stat"))
    }

    /// The command name may hold blanks and parentheses, so fields count from the last one.
    fn parse(text: &str) -> Option<Stat> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat {
            state: fields.first()?.chars().next()?,
            parent: u32::try_from(number(1)?).ok()?,
            cpu_ticks: number(11)?.checked_add(number(12)?)?,
            children_ticks: number(13)?.checked_add(number(14)?)?,
        })
    }
}

/// True once the process is gone or only its exit status is left.
pub(crate) fn is_gone(pid: u32) -> bool {
    Stat::of(pid).map_or(true, |stat| matches!(stat.state, 'Z' | 'X'))
}

/// True when SIGSTOP has taken effect.
pub(crate) fn is_stopped(pid: u32) -> bool {
    Stat::of(pid).is_ok_and(|stat| stat.state == 'T')
}

/// The living children of `root` and theirs, in no order, without `root`.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let children = children_by_parent();
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            found.push(*child);
            open.push(*child);
        }
    }
    found
}

fn children_by_parent() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok());
        // A process may end between the listing and this look.
        if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, Stat::of(pid).ok()?)))
            && !matches!(stat.state, 'Z' | 'X')
        {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    children
}

fn malformed(pid: u32, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no {what} in /proc of process {pid}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stat_is_read_past_a_name_with_parentheses() {
        let line = "77 (a) b (c)) T 5 77 77 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 5 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.cpu_ticks), ('T', 5, 42));
    }

    #[test]
    fn a_cut_off_stat_line_is_refused() {
        assert!(Stat::parse("77 (a) T 5 77").is_none());
        assert!(Stat::parse("").is_none());
    }

    #[test]
    fn this_process_has_memory_and_uses_processor_time() {
        let pid = std::process::id();
        assert!(vm_hwm_kib(pid).unwrap() > 100);
        let spun = crate::wait::wait_for(std::time::Duration::from_secs(20), || {
            std::hint::black_box((0..2_000_000u64).sum::<u64>());
            (cpu_seconds(pid).unwrap() > 0.0).then_some(())
        });
        assert!(spun.is_some());
    }
}
