//! Programs a test needs beyond the compiler: never skipped in silence, never missing where they were promised.

use std::{
    env,
    io::{self, Write},
    path::Path,
};

/// The variable that names, separated by commas, the programs that must be there.
pub const REQUIRE: &str = "TOLLGATE_REQUIRE";

/// Whether the test can run: `check` says whether what `name` stands for is there.
///
/// If it is not, says `not run: …` on standard error, past the capture of passing tests.
///
/// # Panics
/// When it is missing though [`REQUIRE`] lists its name.
pub fn program(name: &str, check: impl FnOnce() -> bool) -> bool {
    if check() {
        return true;
    }
    let required = env::var(REQUIRE).unwrap_or_default();
    assert!(
        !lists(&required, name),
        "{name} is missing, and {REQUIRE} lists it"
    );
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // The print macros would be captured with the output of the passing test. A closed standard error is nobody's concern.
    _ = writeln!(io::stderr(), "not run: {test}: needs {name}");
    false
}

/// As [`program`], for one that must be on the `PATH` under its own name.
pub fn command(name: &str) -> bool {
    program(name, || on_path(name))
}

fn on_path(name: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| executable(&folder.join(name))))
}

#[cfg(unix)]
fn executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn executable(file: &Path) -> bool {
    file.is_file()
}

fn lists(required: &str, name: &str) -> bool {
    required.split(',').any(|listed| listed.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_required_as_a_whole_and_around_spaces() {
        assert!(lists("redis-server, python3 + openai", "python3 + openai"));
        assert!(!lists("redis-server,python3 + openai", "python3"));
        assert!(!lists("", "python3"));
    }

    #[test]
    fn what_is_there_is_used_and_what_is_missing_is_told() {
        assert!(program("anything", || true));
        assert!(!program("a program that nobody requires", || false));
    }

    #[test]
    fn programs_are_looked_for_on_the_path() {
        assert!(on_path("cargo") || on_path("sh"));
        assert!(!on_path("no-such-program-as-this"));
    }
}
