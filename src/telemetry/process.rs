//! What the system says of this process, under the names that Prometheus' own clients give it.

use std::{fmt, fs};

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

/// Writes what `/proc` tells; where there is none, nothing.
pub(super) fn encode(to: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let stat = Stat::of(&read("stat"));
    if let Some(stat) = stat {
        let help = "Seconds of processor time, of the user and of the system";
        to.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&stat.cpu, None)?;
    }
    let booted = fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = booted.lines().find_map(|line| line.strip_prefix("btime "));
    let booted = booted.and_then(|text| text.trim().parse::<f64>().ok());
    let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
        Some(value) => to
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value),
        None => Ok(()),
    };
    gauge(
        "process_start_time_seconds",
        "When it began",
        stat.zip(booted).map(|(stat, booted)| booted + stat.started),
    )?;
    let status = read("status");
    gauge(
        "process_resident_memory_bytes",
        "Memory that it holds",
        kib(&status, "VmRSS:"),
    )?;
    gauge(
        "process_virtual_memory_bytes",
        "Memory that it has asked for",
        kib(&status, "VmSize:"),
    )?;
    let open = fs::read_dir("/proc/self/fd").ok();
    gauge(
        "process_open_fds",
        "Descriptors that are open",
        open.map(|all| all.count() as f64),
    )?;
    let limits = read("limits");
    let most = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    gauge(
        "process_max_fds",
        "Descriptors that may be open",
        most.and_then(|line| line.split_whitespace().next()?.parse().ok()),
    )?;
    gauge(
        "process_threads",
        "Threads that run",
        number(&status, "Threads:"),
    )
}

/// What `/proc/self/stat` tells, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    cpu: f64,
    /// After the system.
    started: f64,
}

impl Stat {
    fn of(text: &str) -> Option<Self> {
        // The name may hold anything: the fields begin behind it, with the third.
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu: (ticks(14)? + ticks(15)?) / TICKS,
            started: ticks(22)? / TICKS,
        })
    }
}

fn kib(status: &str, name: &str) -> Option<f64> {
    number(status, name).map(|kib| kib * 1024.0)
}

fn number(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Of a second, in which `/proc` counts: `USER_HZ`, the same on all that Linux runs on but Alpha and IA-64.
const TICKS: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// proc_pid_stat(5); the name of a program may look like the rest of the line.
    #[test]
    fn processor_time_stands_behind_the_name() {
        let text =
            "7 (a) b (x 9 9) S 1 7 7 0 -1 4194560 900 0 0 0 1250 250 0 0 20 0 5 0 4200 1 2 3";
        let stat = Stat::of(text);
        let expected = Stat {
            cpu: 15.0,
            started: 42.0,
        };
        assert_eq!(stat, Some(expected));
        assert_eq!(Stat::of("7 (a) S 1"), None);
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let status = "Name:\tx\nVmRSS:\t    12 kB\nThreads:\t3\n";
        assert_eq!(kib(status, "VmRSS:"), Some(12288.0));
        assert_eq!(number(status, "Threads:"), Some(3.0));
        assert_eq!(kib(status, "VmSize:"), None);
    }
}
