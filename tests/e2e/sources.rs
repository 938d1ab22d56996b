//! No file of this workspace steps outside what the compiler checks, and the build is what forbids it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// In two parts, so that this file is a source like any other.
const WORD: &str = concat!("un", "safe");
const LINT: &str = concat!("un", "safe_code = \"forbid\"");

/// P02. The lint of the workspace cannot be relaxed below it: `forbid`, taken over by every member.
#[test]
fn every_member_takes_over_the_lint_that_forbids_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let lints = table(&text, "workspace.lints.rust");
    assert!(lints.contains(&LINT), "{lints:?}");
    let members = table(&text, "workspace")
        .into_iter()
        .find_map(|line| line.strip_prefix("members = "));
    let members: Vec<String> = serde_json::from_str(members.expect("members")).unwrap();
    assert!(!members.is_empty());
    for member in members.iter().map(String::as_str).chain([""]) {
        let text = fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap();
        let lints = table(&text, "lints");
        assert!(lints.contains(&"workspace = true"), "{member:?}: {lints:?}");
    }
}

/// P02. The word stands in no source at all, so that no search for it needs to be understood.
#[test]
fn no_source_has_the_word_but_the_lint() {
    let mut seen = 0;
    for file in sources(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        let text = fs::read_to_string(&file).unwrap();
        for (at, line) in text.lines().enumerate() {
            assert!(
                line == LINT || !line.contains(WORD),
                "{}:{}: {line}",
                file.display(),
                at + 1
            );
        }
        seen += 1;
    }
    assert!(seen > 100, "only {seen} files were looked at");
}

/// The lines of a table of a manifest.
fn table<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let head = format!("[{name}]");
    let lines = text.lines().skip_while(|line| *line != head).skip(1);
    lines.take_while(|line| !line.starts_with('[')).collect()
}

/// Every Rust source and manifest of the workspace.
fn sources(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = ["src", "middleware", "tests"]
        .map(|name| root.join(name))
        .into();
    let mut found = vec![root.join("Cargo.toml")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            let ours = |extension| extension == "rs" || extension == "toml";
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(ours) {
                found.push(path);
            }
        }
    }
    found
}
