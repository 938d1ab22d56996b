//! Which file is the configuration, and its text.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::decode::reason;
use super::expand::Lookup;
use super::parse::LARGEST;
use super::problem::{At, Fault, Problems, Report};

/// The file to load and who named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Why this one: `--config`, `$TOLLGATE_CONFIG`, or that it is there.
    pub why: &'static str,
}

/// Which file: the one of `--config`, else of `$TOLLGATE_CONFIG`, else `./tollgate.yaml`, else
/// `~/.config/tollgate/tollgate.yaml`. The first two need not exist; `None` if none is named and none is there.
pub fn find(
    flag: Option<&Path>,
    env: Lookup<'_>,
    is_file: impl Fn(&Path) -> bool,
) -> Option<Found> {
    let found = |path: PathBuf, why| Some(Found { path, why });
    if let Some(path) = flag {
        return found(path.to_owned(), "--config");
    }
    if let Some(path) = filled(env, "TOLLGATE_CONFIG") {
        return found(path.into(), "$TOLLGATE_CONFIG");
    }
    let here = PathBuf::from("tollgate.yaml");
    if is_file(&here) {
        return found(here, "found in the working directory");
    }
    let home = Path::new(&filled(env, "HOME")?).join(".config/tollgate/tollgate.yaml");
    if is_file(&home) {
        found(home, "found in the home directory")
    } else {
        None
    }
}

/// The text of a file of at most 1 MiB.
///
/// # Errors
///
/// One problem if it cannot be read, is larger, or is not UTF-8.
pub fn read_file(path: &Path) -> Result<String, Problems> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST as u64 + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(Problems::of_file(
            &name,
            format!("the file cannot be read: {}", reason(&error)),
            "",
        ));
    }
    if bytes.len() > LARGEST {
        return Err(Problems::of_file(
            &name,
            format!("the file is larger than {LARGEST} bytes"),
            "a configuration is text of at most 1 MiB",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let line = good.matches('\n').count() + 1;
        let column = good
            .rsplit('\n')
            .next()
            .map_or(1, |l| l.chars().count() + 1);
        let mut report = Report::new(&name, "");
        let fault = Fault::new(
            At {
                line,
                column,
                width: 1,
            },
            "",
            "the file is not UTF-8 text",
        );
        report.error(fault.remedy("save it as UTF-8"));
        report.into_problems()
    })
}

/// A variable that is set to more than blanks.
pub(crate) fn filled(env: Lookup<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_looked_for_in_the_documented_order() {
        let env = |name: &str| match name {
            "TOLLGATE_CONFIG" => Some("env.yaml".to_owned()),
            "HOME" => Some("/home/x".to_owned()),
            _ => None,
        };
        let only_home = |name: &str| env(name).filter(|_| name == "HOME");
        let path = |found: Option<Found>| found.map(|f| f.path.display().to_string());
        assert_eq!(
            path(find(Some(Path::new("flag.yaml")), &env, |_| true)).as_deref(),
            Some("flag.yaml")
        );
        assert_eq!(
            path(find(None, &env, |_| true)).as_deref(),
            Some("env.yaml")
        );
        assert_eq!(
            path(find(None, &only_home, |_| true)).as_deref(),
            Some("tollgate.yaml")
        );
        assert_eq!(
            path(find(None, &only_home, Path::is_absolute)).as_deref(),
            Some("/home/x/.config/tollgate/tollgate.yaml")
        );
        assert_eq!(path(find(None, &only_home, |_| false)), None);
    }

    #[test]
    fn a_file_that_is_no_text_is_refused_with_the_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("t.yaml");
        std::fs::write(&path, b"version: 1\nab\xff").expect("written");
        let problems = read_file(&path).expect_err("binary");
        assert!(
            problems.iter().any(|p| (p.line, p.column) == (2, 3)),
            "{problems}"
        );
        std::fs::write(&path, vec![b'#'; LARGEST + 1]).expect("written");
        assert!(
            read_file(&path)
                .expect_err("too large")
                .to_string()
                .contains("larger than")
        );
        assert!(read_file(folder.path()).is_err());
        assert!(
            read_file(&folder.path().join("none"))
                .expect_err("absent")
                .to_string()
                .contains("cannot be read")
        );
    }
}
