//! What a test needs beyond the compiler: programs, never skipped in silence, never missing where they were promised; and
//! time.

use std::{
    env,
    ffi::OsStr,
    io::{self, Write},
    path::Path,
};

/// The variable that names, separated by commas, the programs that must be there.
pub const REQUIRE: &str = "TOLLGATE_REQUIRE";

/// The variable that, set to 1, asks for the sizes and times that are promised, in place of those that take seconds.
pub const LONG: &str = "TOLLGATE_LONG";

/// Whether the tests may take long: [`LONG`] is 1.
///
/// # Panics
/// When it is set to anything else: a run that was to be a long one must not be a short one.
#[must_use]
pub fn long() -> bool {
    asks(env::var_os(LONG).as_deref())
}

fn asks(value: Option<&OsStr>) -> bool {
    match value {
        None => false,
        Some(one) if one == "1" => true,
        Some(other) => panic!("{LONG} is 1 or not set, and not {}", other.display()),
    }
}

/// Whether the test can run: `check` says whether what `name` stands for is there.
///
/// If it is not, says `not run: …` on standard error, past the capture of passing tests.
///
/// # Panics
/// When it is missing though [`REQUIRE`] lists its name.
pub fn program(name: &str, check: impl FnOnce() -> bool) -> bool {
    let present = check();
    let required = env::var(REQUIRE).unwrap_or_default();
    if let Some(message) = judge(name, present, &required) {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // The print macros would be captured with the output of the passing test. A closed standard error is nobody's concern.
        _ = writeln!(io::stderr(), "not run: {test}: {message}");
    }
    present
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

/// What to say of a missing program, or a panic where it is required.
fn judge(name: &str, present: bool, required: &str) -> Option<String> {
    if present {
        return None;
    }
    let listed = required.split(',').any(|listed| listed.trim() == name);
    assert!(!listed, "{name} is missing, and {REQUIRE} lists it");
    Some(format!("needs {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told() {
        assert_eq!(
            judge("redis-server", false, "python3"),
            Some("needs redis-server".to_owned())
        );
        assert_eq!(
            judge("python3", false, "python3 + openai"),
            Some("needs python3".to_owned())
        );
    }

    #[test]
    fn what_is_there_is_used_whether_required_or_not() {
        assert_eq!(judge("redis-server", true, "redis-server"), None);
        assert!(program("anything", || true));
    }

    #[test]
    #[should_panic(expected = "python3 + openai is missing")]
    fn what_is_missing_and_required_fails() {
        judge("python3 + openai", false, "redis-server, python3 + openai");
    }

    #[test]
    fn a_long_run_is_asked_for_by_1() {
        assert!(!asks(None));
        assert!(asks(Some(OsStr::new("1"))));
    }

    #[test]
    #[should_panic(expected = "TOLLGATE_LONG is 1 or not set, and not full")]
    fn a_long_run_asked_for_in_other_words_fails() {
        asks(Some(OsStr::new("full")));
    }

    #[test]
    fn programs_are_looked_for_on_the_path() {
        assert!(on_path("cargo") || on_path("sh"));
        assert!(!on_path("no-such-program-as-this"));
    }
}
