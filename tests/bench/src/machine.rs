//! What the figures were taken on and from which versions.

use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use crate::procfs;
use crate::target::Kind;

/// The lock file that the references and tollgate are built from.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// Lines for the head of the output.
pub(crate) fn describe(tollgate: Option<&Path>, kinds: &[Kind]) -> String {
    let (model, kernel, load) = procfs::machine();
    let cores = available_parallelism().map_or_else(|_| "?".to_owned(), |cores| cores.to_string());
    let mut versions = vec![said(Command::new("rustc").arg("-V"))];
    for name in ["hyper", "hyper-util", "tokio"] {
        versions.push(format!("{name} {}", locked(LOCK, name).unwrap_or("?")));
    }
    if kinds.contains(&Kind::Nginx) {
        versions.push(said(Command::new("nginx").arg("-v")).replace("nginx version: ", ""));
    }
    if let Some(binary) = tollgate {
        versions.push(said(Command::new(binary).arg("--version")));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let commit = said(
        Command::new("git")
            .args(["rev-parse", "--short", "HEAD"])
            .current_dir(root),
    );
    let debug = if cfg!(debug_assertions) {
        "\n* THIS IS A DEBUG BUILD: the figures of the references mean nothing"
    } else {
        ""
    };
    format!(
        "# Bench\n\n* machine: {cores} cores, {model}, Linux {kernel}, load {load} before the run\n\
         * versions: {}\n* commit: {commit}{debug}\n",
        versions.join(", ")
    )
}

/// The first line that the command printed.
fn said(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let Ok(output) = command.output() else {
        return format!("{name} ?");
    };
    let text = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let wanted = format!("name = \"{name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != wanted);
    lines
        .nth(1)?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "[[package]]\nname = \"hyper-util\"\nversion = \"0.1.9\"\n\n[[package]]\nname = \"hyper\"\nversion = \"1.2.3\"\n";
        assert_eq!(locked(lock, "hyper"), Some("1.2.3"));
        assert_eq!(locked(lock, "hyperium"), None);
        assert!(locked(LOCK, "tokio").is_some());
    }
}
