//! The process that outlives the bench for a moment: it is told the ids of what the bench starts, and kills what
//! is left of it when the bench is gone, however it went.

use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::process::{Command, Stdio};

use crate::procfs;

/// Reads `+<pid>` and `-<pid>` lines until the input ends, then kills what was added and not removed.
pub(crate) fn run() -> io::Result<()> {
    let mut left = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        note(&mut left, &line?);
    }
    for pid in left {
        signal("KILL", &procfs::tree(pid));
    }
    Ok(())
}

/// Sends the signal of that name to the processes, by id.
pub(crate) fn signal(name: &str, pids: &[u32]) {
    if pids.is_empty() {
        return;
    }
    // `kill` is asked of a shell, which has it built in; a process that is gone already is no failure.
    let _ = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$@\"", name])
        .args(pids.iter().map(u32::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn note(left: &mut BTreeSet<u32>, line: &str) {
    if let Some(pid) = line.strip_prefix('+').and_then(|pid| pid.parse().ok()) {
        left.insert(pid);
    } else if let Some(pid) = line.strip_prefix('-').and_then(|pid| pid.parse().ok()) {
        left.remove(&pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_not_left() {
        let mut left = BTreeSet::new();
        ["+7", "+8", "-7", "noise", "+", "-9"]
            .iter()
            .for_each(|line| note(&mut left, line));
        assert_eq!(left.into_iter().collect::<Vec<_>>(), [8]);
    }
}
