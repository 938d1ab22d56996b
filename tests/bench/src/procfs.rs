//! What the kernel says about processes and the machine, read from `/proc`.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

/// The numbers of `/proc/<pid>/stat` that the bench uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system time of all threads, in clock ticks.
    ticks: u64,
}

/// The CPU time that the processes have used so far, in microseconds. A process that is gone counts nothing.
pub(crate) fn cpu_micros(pids: &[u32]) -> u64 {
    let ticks: u64 = pids
        .iter()
        .filter_map(|&pid| stat(pid))
        .map(|stat| stat.ticks)
        .sum();
    ticks * 1_000_000 / unit("CLK_TCK", 100)
}

/// The resident memory of the processes together, in bytes. Shared pages count in each.
pub(crate) fn resident(pids: &[u32]) -> u64 {
    let pages: u64 = pids
        .iter()
        .filter_map(|pid| parse_statm(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?))
        .sum();
    pages * unit("PAGESIZE", 4096)
}

/// The process and all below it, itself first.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    descendants(root, &all)
}

/// The CPU's name, the kernel, and how many processes wanted to run lately.
pub(crate) fn machine() -> (String, String, String) {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = parse_model(&cpus).unwrap_or("unknown CPU").to_owned();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    (model, kernel.trim().to_owned(), load)
}

/// The soft limit on open files, from `/proc/self/limits`.
pub(crate) fn open_files() -> Option<u64> {
    parse_open_files(&fs::read_to_string("/proc/self/limits").ok()?)
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command in the second field may hold spaces and parentheses, so counting begins behind the last one.
/// Field numbers: proc_pid_stat(5); 4 is the parent, 14 and 15 are user and system time.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        ticks: field(14)? + field(15)?,
    })
}

/// Resident pages: the second field of proc_pid_statm(5).
fn parse_statm(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn parse_model(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

fn parse_open_files(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    match line.split_ascii_whitespace().nth(3)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn descendants(root: u32, all: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = all
            .iter()
            .filter(|&&(pid, of)| of == parent && !found.contains(&pid));
        let children: Vec<u32> = children.map(|&(pid, _)| pid).collect();
        found.extend(children);
        next += 1;
    }
    found
}

/// A unit of the kernel as `getconf` tells it, asked once; `otherwise` where there is no `getconf`.
fn unit(name: &'static str, otherwise: u64) -> u64 {
    static TICK: OnceLock<u64> = OnceLock::new();
    static PAGE: OnceLock<u64> = OnceLock::new();
    let known = if name == "PAGESIZE" { &PAGE } else { &TICK };
    *known.get_or_init(|| {
        let output = Command::new("getconf").arg(name).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(otherwise)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "4242 (a (b) c) S 17 4242 1 0 -1 4194560 900 0 0 0 123 77 5 6 20 0 3 0 99 1 2";
        assert_eq!(
            parse_stat(text),
            Some(Stat {
                parent: 17,
                ticks: 200
            })
        );
        assert_eq!(parse_stat("4242 (short) S 17"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn the_second_field_of_statm_is_resident() {
        assert_eq!(parse_statm("5000 1234 900 1 0 300 0\n"), Some(1234));
        assert_eq!(parse_statm("5000"), None);
    }

    #[test]
    fn model_and_open_files_are_found_in_their_lines() {
        assert_eq!(
            parse_model("processor\t: 0\nmodel name\t: A CPU: fast\n"),
            Some("A CPU: fast")
        );
        assert_eq!(parse_model("processor: 0\n"), None);
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(parse_open_files(limits), Some(1024));
        assert_eq!(
            parse_open_files("Max open files unlimited unlimited files"),
            Some(u64::MAX)
        );
    }

    #[test]
    fn a_tree_is_the_process_and_all_below_it() {
        let all = [(2, 1), (3, 2), (4, 2), (5, 4), (6, 1), (1, 0)];
        assert_eq!(descendants(2, &all), [2, 3, 4, 5]);
        assert_eq!(descendants(6, &all), [6]);
    }

    #[test]
    fn this_process_is_in_proc() {
        let me = std::process::id();
        assert!(tree(me).contains(&me));
        assert!(resident(&[me]) > 100_000);
    }
}
