//! Configurations that are not files: the variables of the SDKs, and the demo.
//!
//! They are written as the text of a file and loaded like one, so that there is one way to be checked.

use super::decode::Inputs;
use super::expand::Lookup;
use super::find::filled;
use super::json::quoted;
use super::problem::Problems;
use super::{Loaded, load};

/// A configuration made of the SDKs' variables.
#[derive(Clone, Debug, PartialEq)]
pub struct FromVariables {
    /// The configuration and its warnings.
    pub loaded: Loaded,
    /// What was done, a line for each provider: `provider openai from OPENAI_API_KEY, OPENAI_BASE_URL`.
    pub told: Vec<String>,
}

/// Why the variables make no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoVariables {
    /// They hold something that cannot work.
    Broken(Problems),
    /// None of these is set.
    Nothing(&'static [&'static str]),
}

/// Builds a configuration from the variables that the SDKs themselves read. Each provider gets the callers of
/// its own dialect, the first one also everybody else.
///
/// # Errors
///
/// The variables that were looked for, or what is wrong with their values.
pub fn from_environment(inputs: &Inputs<'_>) -> Result<FromVariables, NoVariables> {
    let all: Vec<Sketch> = [
        openai(inputs.env),
        anthropic(inputs.env),
        gemini(inputs.env),
        azure(inputs.env),
        ollama(inputs.env),
    ]
    .into_iter()
    .flatten()
    .collect();
    let Some(first) = all.first() else {
        return Err(NoVariables::Nothing(&LOOKED_FOR));
    };
    let text = file_of(&all, first);
    let loaded = load(&text, "environment", inputs).map_err(NoVariables::Broken)?;
    let told = all
        .iter()
        .map(|s| format!("provider {} from {}", s.name, s.used.join(", ")))
        .collect();
    Ok(FromVariables { loaded, told })
}

/// The text of the file that a person would have written.
fn file_of(all: &[Sketch], first: &Sketch) -> String {
    let mut text = "providers:\n".to_owned();
    for Sketch {
        name,
        base_url,
        key,
        auth,
        ..
    } in all
    {
        text += &format!("  {name}:\n    dialect: {name}\n    base_url: {base_url}\n");
        if let Some(key) = key {
            text += &format!("    credentials: [{{ env: {key} }}]\n");
        }
        if let Some(auth) = auth {
            text += &format!("    auth: {auth}\n");
        }
    }
    text += "routes:\n";
    if all.len() > 1 {
        for Sketch { name, .. } in all {
            text += &format!(
                "  - {{ name: {name}, match: {{ dialect: {name} }}, targets: [{name}] }}\n"
            );
        }
    }
    text += &format!(
        "  - {{ name: default, match: {{}}, targets: [{}] }}\n",
        first.name
    );
    text
}

/// The configuration of the demo: the mock provider and one route named `demo`.
///
/// # Errors
///
/// What is wrong with `inputs.listen` or `inputs.admin`.
pub fn demo(inputs: &Inputs<'_>) -> Result<Loaded, Problems> {
    load(
        "providers: { mock: { dialect: mock } }\nroutes: [{ name: demo, match: {}, targets: [mock] }]\n",
        "demo",
        inputs,
    )
}

/// Every variable that can make a provider.
static LOOKED_FOR: [&str; 8] = [
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "AZURE_OPENAI_ENDPOINT with AZURE_OPENAI_API_KEY",
    "OLLAMA_HOST",
];

/// A provider before it is written: its name is its dialect, `base_url` is YAML.
struct Sketch {
    name: &'static str,
    base_url: String,
    key: Option<&'static str>,
    auth: Option<&'static str>,
    used: Vec<&'static str>,
}

fn sketch(
    env: Lookup<'_>,
    name: &'static str,
    key: Option<&'static str>,
    url: &'static str,
    default: &str,
) -> Sketch {
    let used = key
        .into_iter()
        .chain(filled(env, url).map(|_| url))
        .collect();
    Sketch {
        name,
        base_url: format!("\"${{{url}:-{default}}}\""),
        key,
        auth: None,
        used,
    }
}

fn first_set(env: Lookup<'_>, names: &[&'static str]) -> Option<&'static str> {
    names
        .iter()
        .copied()
        .find(|name| filled(env, name).is_some())
}

fn openai(env: Lookup<'_>) -> Option<Sketch> {
    first_set(env, &["OPENAI_API_KEY", "OPENAI_BASE_URL"])?;
    Some(sketch(
        env,
        "openai",
        first_set(env, &["OPENAI_API_KEY"]),
        "OPENAI_BASE_URL",
        "https://api.openai.com/v1",
    ))
}

fn anthropic(env: Lookup<'_>) -> Option<Sketch> {
    let key = first_set(env, &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])?;
    let auth = (key == "ANTHROPIC_AUTH_TOKEN").then_some("bearer");
    Some(Sketch {
        auth,
        ..sketch(
            env,
            "anthropic",
            Some(key),
            "ANTHROPIC_BASE_URL",
            "https://api.anthropic.com",
        )
    })
}

fn gemini(env: Lookup<'_>) -> Option<Sketch> {
    let key = first_set(env, &["GEMINI_API_KEY", "GOOGLE_API_KEY"])?;
    Some(sketch(
        env,
        "gemini",
        Some(key),
        "GOOGLE_GEMINI_BASE_URL",
        "https://generativelanguage.googleapis.com",
    ))
}

fn azure(env: Lookup<'_>) -> Option<Sketch> {
    filled(env, "AZURE_OPENAI_ENDPOINT")?;
    let key = first_set(env, &["AZURE_OPENAI_API_KEY"])?;
    Some(sketch(env, "azure", Some(key), "AZURE_OPENAI_ENDPOINT", ""))
}

/// `OLLAMA_HOST` is looser than a URL: scheme and port may be missing, and the server's own `0.0.0.0` means this machine.
fn ollama(env: Lookup<'_>) -> Option<Sketch> {
    let host = filled(env, "OLLAMA_HOST")?;
    let host = host.trim();
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty());
    let port = match scheme {
        _ if has_port => "",
        "https" => ":443",
        _ if host.contains("://") => ":80",
        _ => ":11434",
    };
    let authority = if authority.starts_with(':') {
        format!("127.0.0.1{authority}")
    } else {
        authority.replacen("0.0.0.0", "127.0.0.1", 1)
    };
    let base_url = quoted(&format!("{scheme}://{authority}{port}{path}"));
    Some(Sketch {
        name: "ollama",
        base_url,
        key: None,
        auth: None,
        used: vec!["OLLAMA_HOST"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, Dialect};

    fn made(vars: &[(&str, &str)]) -> Result<FromVariables, NoVariables> {
        let env = |name: &str| {
            vars.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| (*v).to_owned())
        };
        let read = |_: &str| Err(std::io::ErrorKind::NotFound.into());
        from_environment(&Inputs {
            env: &env,
            read: &read,
            listen: None,
            admin: None,
        })
    }

    #[test]
    fn one_key_makes_one_provider_that_takes_everything() {
        let made = made(&[
            ("OPENAI_API_KEY", "sk-canary-1"),
            ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1"),
        ])
        .expect("a provider");
        assert_eq!(
            made.told,
            ["provider openai from OPENAI_API_KEY, OPENAI_BASE_URL"]
        );
        let provider = &made.loaded.config.providers[0];
        assert_eq!(
            provider
                .base_url
                .as_ref()
                .map(ToString::to_string)
                .as_deref(),
            Some("http://127.0.0.1:9/v1")
        );
        assert_eq!(
            provider.credentials.first().map(|c| c.secret.expose()),
            Some("sk-canary-1")
        );
        assert_eq!(made.loaded.config.routes.len(), 1);
        assert!(!format!("{made:?}").contains("canary"));
    }

    #[test]
    fn several_keys_make_a_route_for_each_dialect_and_one_for_the_rest() {
        let made = made(&[
            ("ANTHROPIC_AUTH_TOKEN", "t"),
            ("GOOGLE_API_KEY", "g"),
            ("AZURE_OPENAI_ENDPOINT", "https://x.openai.azure.com/"),
            ("AZURE_OPENAI_API_KEY", "z"),
            ("OLLAMA_HOST", "0.0.0.0"),
        ])
        .expect("providers");
        let config = &made.loaded.config;
        let rows: Vec<_> = config
            .routes
            .iter()
            .map(|r| (r.matches.dialect.as_slice(), r.targets[0].provider.as_str()))
            .collect();
        let want: [(&[Dialect], &str); 5] = [
            (&[Dialect::Anthropic], "anthropic"),
            (&[Dialect::Gemini], "gemini"),
            (&[Dialect::Azure], "azure"),
            (&[Dialect::Ollama], "ollama"),
            (&[], "anthropic"),
        ];
        assert_eq!(rows, want);
        assert_eq!(config.providers[0].auth, Auth::Bearer);
        assert_eq!(
            config.providers[3]
                .base_url
                .as_ref()
                .map(ToString::to_string)
                .as_deref(),
            Some("http://127.0.0.1:11434")
        );
    }

    #[test]
    fn the_host_of_ollama_may_be_anything_that_ollama_takes() {
        for (host, want) in [
            ("127.0.0.1:11500", "http://127.0.0.1:11500"),
            (":1234", "http://127.0.0.1:1234"),
            ("box", "http://box:11434"),
            ("https://box", "https://box:443"),
            ("http://box/", "http://box:80"),
            ("[::1]", "http://[::1]:11434"),
        ] {
            let made = made(&[("OLLAMA_HOST", host)]).unwrap_or_else(|e| panic!("{host}: {e:?}"));
            assert_eq!(
                made.loaded.config.providers[0]
                    .base_url
                    .as_ref()
                    .map(ToString::to_string)
                    .as_deref(),
                Some(want),
                "{host}"
            );
        }
    }

    #[test]
    fn nothing_set_says_what_was_looked_for_and_nonsense_what_is_wrong() {
        assert!(
            matches!(made(&[("OPENAI_API_KEY", " "), ("AZURE_OPENAI_API_KEY", "x")]), Err(NoVariables::Nothing(names)) if names.contains(&"OPENAI_API_KEY"))
        );
        let Err(NoVariables::Broken(problems)) = made(&[("OPENAI_BASE_URL", "nonsense")]) else {
            panic!("nonsense was taken")
        };
        assert!(
            problems.to_string().contains("OPENAI_BASE_URL"),
            "{problems}"
        );
    }
}
