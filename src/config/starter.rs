//! The first file of somebody who has none.

/// A small file with comments that can be served as it is. A provider stands in it without comment signs where the
/// variable of its key is set; without any there is the built-in one, which needs no key.
#[must_use]
pub fn starter(env: super::expand::Lookup<'_>) -> String {
    let set = |name: &str| env(name).is_some_and(|value| !value.trim().is_empty());
    let mut text = HEAD.to_owned();
    for (variable, provider) in PROVIDERS {
        let sign = if set(variable) { "" } else { "# " };
        for line in provider.lines() {
            text.push_str("  ");
            text.push_str(sign);
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str(TAIL);
    text
}

const HEAD: &str = r#"# Tollgate: where it listens, which providers stand behind it, and what a model is called.
#
#   tollgate check     every problem of this file at once, with line and remedy; opens no socket
#   tollgate serve     serves it; SIGHUP reads it again, and what is broken changes nothing
#   curl -N 127.0.0.1:8080/v1/chat/completions \
#     -d '{"model":"echo","stream":true,"messages":[{"role":"user","content":"hello"}]}'
#
# To have an editor complete and judge it: tollgate schema > tollgate.schema.json, and as its first line
# yaml-language-server: $schema=tollgate.schema.json
version: 1

server:
  listen: 127.0.0.1:8080                  # or unix:/path, or a list
  drain: { delay: 0s, timeout: 600s }     # what SIGTERM leaves to running answers

admin:
  listen: 127.0.0.1:9901                  # /livez /readyz /metrics /config, POST /reload, POST /drain

# Without routes, a model goes to the first provider that lists it.
providers:
  # Answers by itself, without key and network. Take it out when another one works.
  mock:
    dialect: mock
    models: [echo, slow, long, cut, e429, e500]

  # For each of these: take the signs away, and set the variable.
"#;

/// The variable of a key, and the provider that it pays.
const PROVIDERS: [(&str, &str); 3] = [
    (
        "OPENAI_API_KEY",
        r#"openai:
  dialect: openai
  base_url: https://api.openai.com/v1     # its path stands in for the caller's /v1
  credentials: ["${OPENAI_API_KEY}"]      # or { env: NAME }, { file: PATH }; [] for none
  models: ["gpt-*", "o1*", "o3*", "o4*", "text-embedding-*"]"#,
    ),
    (
        "ANTHROPIC_API_KEY",
        r#"anthropic:
  dialect: anthropic
  base_url: https://api.anthropic.com
  credentials: ["${ANTHROPIC_API_KEY}"]
  models: ["claude-*"]"#,
    ),
    (
        "GEMINI_API_KEY",
        r#"gemini:
  dialect: gemini
  base_url: https://generativelanguage.googleapis.com
  credentials: ["${GEMINI_API_KEY}"]
  models: ["gemini-*"]"#,
    ),
];

const TAIL: &str = r"
# aliases: { fast: gpt-4o-mini }          # what callers write: what is meant

# layers:
#   timeout: { first_byte: { stream: 120s, document: 600s }, idle: 300s }
";

#[cfg(test)]
mod tests {
    use super::super::{Inputs, load};
    use super::*;

    const VARIABLES: [&str; 3] = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"];

    #[test]
    fn it_can_be_served_whatever_is_set() {
        for set in 0..8_usize {
            let env = |name: &str| {
                let at = VARIABLES.iter().position(|variable| *variable == name)?;
                (set >> at & 1 == 1).then(|| "sk-any".to_owned())
            };
            let inputs = Inputs {
                env: &env,
                read: &|_| Err(std::io::ErrorKind::NotFound.into()),
                listen: None,
                admin: None,
            };
            let loaded = load(&starter(&env), "tollgate.yaml", &inputs);
            let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
            assert_eq!(loaded.config.providers.len(), 1 + set.count_ones() as usize);
        }
    }

    /// The signs taken away by hand, as the file asks for.
    #[test]
    fn what_is_behind_comment_signs_is_good_too() {
        let text = starter(&|_| None);
        let bare: String = text
            .lines()
            .map(|line| match line.strip_prefix("  # ") {
                Some(rest) if !rest.contains(". ") && !rest.starts_with("For each") => {
                    format!("  {rest}\n")
                }
                _ => format!(
                    "{}\n",
                    line.strip_prefix("# ")
                        .filter(|it| it.starts_with("aliases:"))
                        .unwrap_or(line)
                ),
            })
            .collect();
        let inputs = Inputs {
            env: &|_| Some("sk-any".to_owned()),
            read: &|_| Err(std::io::ErrorKind::NotFound.into()),
            listen: None,
            admin: None,
        };
        let loaded = load(&bare, "tollgate.yaml", &inputs);
        let config = loaded
            .unwrap_or_else(|problems| panic!("{problems}\n{bare}"))
            .config;
        assert_eq!((config.providers.len(), config.aliases.len()), (4, 1));
    }

    #[test]
    fn no_key_is_written_into_it() {
        let text = starter(&|_| Some("sk-canary-5521".to_owned()));
        assert!(!text.contains("canary"), "{text}");
    }
}
