//! A secret that cannot be printed by accident.

use std::fmt;

/// A credential, token or header value. `Debug` and `Display` show where it came from, never what it is; only
/// [`Secret::expose`] hands it out.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    source: SecretSource,
}

/// Where a secret came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The environment variable of this name.
    Env(String),
    /// The file at this path.
    File(String),
    /// The configuration file itself.
    Literal,
    /// Text of the configuration file with variables in it.
    Mixed,
}

impl Secret {
    /// A secret and where it came from.
    #[must_use]
    pub const fn new(value: String, source: SecretSource) -> Self {
        Self { value, source }
    }

    /// The secret itself, for the one place that sends or compares it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }

    /// Where it came from.
    #[must_use]
    pub const fn source(&self) -> &SecretSource {
        &self.source
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            SecretSource::Env(name) => write!(f, "«env {name}»"),
            SecretSource::File(path) => write!(f, "«file {path}»"),
            SecretSource::Literal | SecretSource::Mixed => f.write_str("«literal»"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_its_source_only() {
        for (source, want) in [
            (SecretSource::Env("KEY".to_owned()), "«env KEY»"),
            (SecretSource::File("/run/key".to_owned()), "«file /run/key»"),
            (SecretSource::Literal, "«literal»"),
        ] {
            let secret = Secret::new("canary".to_owned(), source);
            assert_eq!(
                (format!("{secret}"), format!("{secret:?}"), secret.expose()),
                (want.to_owned(), want.to_owned(), "canary")
            );
        }
    }
}
