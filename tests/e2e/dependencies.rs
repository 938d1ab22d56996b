//! What is built in, and from where: the rules of `deny.toml` that need no list of advisories or licences.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// Where packages may come from, beside this workspace.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Packages that may be there in two incompatible versions, each with the reason why that is borne.
const TWICE: &[&str] = &[
    // Of tokens (jsonwebtoken), and of the certificates that tests make (rcgen's pem).
    "base64",
    // Of the schedules that tests of races try (shuttle).
    "getrandom",
    "rand",
    "rand_core",
    // Of macros, while the program is built.
    "syn",
    // Of aws-lc-rs, and of rustls' judge of certificates.
    "untrusted",
];

/// The least versions: what is older has a flaw that is known.
const LEAST: [(&str, [u64; 3]); 3] = [
    ("hyper", [1, 12, 0]),
    ("rustls-webpki", [0, 103, 13]),
    ("tracing-subscriber", [0, 3, 20]),
];

/// A release is linked by it, which no other test does.
#[test]
fn the_order_of_functions_is_written_as_linkers_read_it() {
    let order = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/link_order.ld"))
        .unwrap();
    let mut lines = order.lines().skip(1);
    let before: Vec<_> = lines.by_ref().take(4).map(str::trim).collect();
    assert_eq!(before, ["SECTIONS", "{", ".text.early :", "{"]);
    let mut names = 0;
    let word = |char: char| char.is_ascii_alphanumeric() || "_.$*".contains(char);
    let after: Vec<_> = lines
        .filter(|line| {
            let inner = line.strip_prefix("    *(.text.");
            let name = inner.and_then(|inner| inner.strip_suffix(')'));
            let is = name.is_some_and(|name| !name.is_empty() && name.chars().all(word));
            names += usize::from(is);
            !is
        })
        .map(str::trim)
        .collect();
    assert_eq!(after, ["}", "}", "INSERT BEFORE .text;"]);
    assert!(names > 1000, "{names}");
}

/// P01. Every package is one of the registry, or of this workspace.
#[test]
fn every_package_comes_from_the_one_registry() {
    let mut foreign = 0;
    for package in lock().split("[[package]]").skip(1) {
        let name = field(package, "name").expect("a name");
        match field(package, "source") {
            Some(source) => {
                assert_eq!(source, REGISTRY, "{name}");
                assert!(field(package, "checksum").is_some(), "{name}");
                foreign += 1;
            }
            None => assert!(name.starts_with("tollgate"), "{name} is of nowhere"),
        }
    }
    assert!(foreign > 50, "only {foreign} packages were looked at");
}

/// P01. With a second provider of cryptography rustls cannot choose; with a system library there is no static binary.
#[test]
fn one_tls_stack_is_built_in_and_nothing_twice() {
    let mut versions = BTreeMap::<String, Vec<[u64; 3]>>::new();
    for (name, version) in built() {
        let known = versions.entry(name).or_default();
        if !known.contains(&version) {
            known.push(version);
        }
    }
    for name in ["native-tls", "openssl", "openssl-sys", "ring"] {
        assert!(!versions.contains_key(name), "{name} is built in");
    }
    assert!(versions.contains_key("aws-lc-rs") && versions.contains_key("rustls"));
    for (name, least) in LEAST {
        let oldest = versions.get(name).and_then(|all| all.iter().min());
        assert!(oldest >= Some(&least), "{name}: {oldest:?}, not {least:?}");
    }
    let twice = versions.iter().filter(|(_, all)| all.len() > 1);
    let twice: Vec<_> = twice.map(|(name, _)| name.as_str()).collect();
    assert!(twice.iter().all(|name| TWICE.contains(name)), "{twice:?}");
}

fn lock() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join("Cargo.lock")).expect("cargo wrote it")
}

/// The value of a field of a package of the lock file.
fn field<'a>(package: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = package.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""))?;
    value.strip_suffix('"')
}

/// All that is built for this machine, tests included. The lock file alone does not tell: it names what is optional too.
fn built() -> Vec<(String, [u64; 3])> {
    let tree = [
        "tree",
        "--locked",
        "--offline",
        "--workspace",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let ran = Command::new(env!("CARGO"))
        .args(tree)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo built this test");
    let (out, told) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert!(ran.status.success(), "{told}");
    let package = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        let version = rest.split([' ', '-', '+']).next()?;
        let mut numbers = version.split('.').map(|it| it.parse().ok());
        Some((
            name.to_owned(),
            [numbers.next()??, numbers.next()??, numbers.next()??],
        ))
    };
    let found = out.lines().filter(|line| !line.is_empty());
    found
        .map(|line| package(line).unwrap_or_else(|| panic!("no package and version: {line}")))
        .collect()
}
