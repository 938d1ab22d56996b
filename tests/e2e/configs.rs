//! What the repository shows is true: every configuration of `deploy/`, alone or inside a Kubernetes
//! ConfigMap, and each block of a README that is marked `yaml` can be served; Rust that the README
//! shows is compiled somewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tollgate::config::{self, Config, Inputs};

/// A configuration and where it stands.
struct Shown {
    place: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder`, in a fixed order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> (String, String) {
    let place = path.strip_prefix(root()).unwrap_or(path);
    let text = fs::read_to_string(path).expect("a text file of the repository");
    (place.display().to_string(), text)
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml")
}

/// The block scalar `tollgate.yaml: |` of a ConfigMap, without its indentation.
fn config_map(text: &str) -> Option<String> {
    let mut lines = text.lines();
    let head = lines.find(|line| line.trim_start().starts_with("tollgate.yaml: |"))?;
    let indent = |line: &str| line.len() - line.trim_start().len();
    let within = |line: &&str| line.trim().is_empty() || indent(line) > indent(head);
    let block: Vec<_> = lines.take_while(within).collect();
    let first = block.iter().find(|line| !line.trim().is_empty())?;
    let depth = indent(first);
    let dedented = block
        .iter()
        .map(|line| line.get(depth..).unwrap_or_default());
    Some(dedented.collect::<Vec<_>>().join("\n"))
}

/// The blocks of a Markdown text that are marked with `mark`, with the numbers of their lines.
fn marked_blocks(text: &str, mark: &str) -> Vec<(usize, String)> {
    let fence = format!("```{mark}");
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line.trim() == fence {
            let block = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| line.trim() != "```");
            found.push((at + 1, block.collect::<Vec<_>>().join("\n")));
        }
    }
    found
}

/// The configurations of `deploy/`: whole files by their name, the others inside a ConfigMap.
fn deployed() -> Vec<Shown> {
    let yaml = files(&root().join("deploy"))
        .into_iter()
        .filter(|path| is_yaml(path));
    let shown = yaml.filter_map(|path| {
        let (place, text) = read(&path);
        let whole = path.file_name().is_some_and(|name| name == "tollgate.yaml");
        let text = if whole { Some(text) } else { config_map(&text) };
        text.map(|text| Shown { place, text })
    });
    shown.collect()
}

fn in_readmes() -> Vec<Shown> {
    let readmes = [root().join("README.md"), root().join("deploy/README.md")];
    let shown = readmes.iter().flat_map(|path| {
        let (place, text) = read(path);
        marked_blocks(&text, "yaml")
            .into_iter()
            .map(move |(line, text)| Shown {
                place: format!("{place}:{line}"),
                text,
            })
    });
    shown.collect()
}

/// Every variable is set and every secret's file holds one.
fn load(shown: &Shown) -> Config {
    let inputs = Inputs {
        env: &|name| Some(format!("{name}-from-the-environment")),
        read: &|path| match path {
            "" => Err(io::ErrorKind::NotFound.into()),
            _ => Ok("from-a-file\n".to_owned()),
        },
        listen: None,
        admin: None,
    };
    let loaded = config::load(&shown.text, &shown.place, &inputs)
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(
        loaded.warnings.is_empty(),
        "an example that needs a warning: {}",
        loaded.warnings
    );
    loaded.config
}

fn named<'a>(all: &'a [Shown], end: &str) -> &'a Shown {
    all.iter()
        .find(|shown| shown.place.ends_with(end))
        .unwrap_or_else(|| panic!("no configuration in {end}"))
}

#[test]
fn every_configuration_in_deploy_can_be_served() {
    let all = deployed();
    assert!(all.len() >= 2, "only {} were found", all.len());
    for shown in &all {
        assert!(!load(shown).providers.is_empty(), "{}", shown.place);
    }
}

#[test]
fn every_configuration_in_a_readme_can_be_served() {
    let all = in_readmes();
    assert!(!all.is_empty(), "no block marked yaml was found");
    for shown in &all {
        load(shown);
    }
}

/// Without the indentation of its lines.
fn flat(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_rust_of_the_readme_is_that_of_a_compiled_example() {
    let (_, readme) = read(&root().join("README.md"));
    let (_, example) = read(&root().join("middleware/examples/in_hyper.rs"));
    let blocks = marked_blocks(&readme, "rust");
    assert!(!blocks.is_empty(), "no block marked rust was found");
    for (line, block) in blocks {
        assert!(
            flat(&example).contains(&flat(&block)),
            "README.md:{line}: not in the example"
        );
    }
}

/// The number behind `key` on a line of its own.
fn seconds(text: &str, key: &str) -> Duration {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(key))
        .unwrap_or_else(|| panic!("no {key}"));
    Duration::from_secs(line.trim().parse().expect("whole seconds"))
}

#[test]
fn whoever_stops_the_gateway_waits_longer_than_its_drain() {
    let all = deployed();
    for (config, file, key) in [
        (
            "systemd/tollgate.yaml",
            "deploy/systemd/tollgate.service",
            "TimeoutStopSec=",
        ),
        (
            "sidecar-pod.yaml",
            "deploy/kubernetes/sidecar-pod.yaml",
            "terminationGracePeriodSeconds:",
        ),
    ] {
        let drain = load(named(&all, config)).server.drain;
        let (_, text) = read(&root().join(file));
        let least = drain.delay + drain.timeout + Duration::from_secs(30);
        assert!(seconds(&text, key) >= least, "{file}: {key}");
    }
}

#[test]
fn a_block_of_a_config_map_ends_where_its_indentation_does() {
    let text = "data:\n  tollgate.yaml: |\n    a:\n\n      b: 1\n---\nkind: Pod\n";
    assert_eq!(config_map(text).as_deref(), Some("a:\n\n  b: 1"));
    assert_eq!(config_map("kind: Pod\n"), None);
}

#[test]
fn only_marked_blocks_of_a_readme_are_taken() {
    let text = "x\n```sh\nls\n```\n```yaml\na: 1\nb: 2\n```\n";
    assert_eq!(marked_blocks(text, "yaml"), [(5, "a: 1\nb: 2".to_owned())]);
}
