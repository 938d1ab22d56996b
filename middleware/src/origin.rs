//! The pages that a gateway may be asked from.

use std::fmt;

/// Pages that may call: `https://app.example.com`, or `https://*.example.com` for all names below one, with a port where it is
/// not the scheme's own.
///
/// A browser says from which page it was asked; anybody else can say what they like. This is no secrecy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: Box<str>,
    host: Box<str>,
    // Names below the host, not the host itself.
    below: bool,
}

/// What is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOrigin(());

impl OriginPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// What has no scheme or host, has a path, or a `*` that is not the host's first label.
    pub fn new(text: &str) -> Result<Self, BadOrigin> {
        let (scheme, host) = text.split_once("://").ok_or(BadOrigin(()))?;
        let (below, host) = match host.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, host),
        };
        let odd = |it: char| matches!(it, '/' | '*' | '?' | '#' | '@' | '\\') || it.is_whitespace();
        if scheme.is_empty() || host.is_empty() || host.contains(odd) {
            return Err(BadOrigin(()));
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase().into(),
            host: host.to_ascii_lowercase().into(),
            below,
        })
    }

    /// Whether a page of this origin is meant, as a browser writes it.
    pub fn matches(&self, origin: &str) -> bool {
        let Some((scheme, host)) = origin.split_once("://") else {
            return false;
        };
        let host = host.to_ascii_lowercase();
        let fits = if self.below {
            let name = host.strip_suffix(&*self.host);
            name.is_some_and(|name| name.len() > 1 && name.ends_with('.'))
        } else {
            *host == *self.host
        };
        fits && scheme.eq_ignore_ascii_case(&self.scheme)
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.below { "*." } else { "" };
        write!(f, "{}://{below}{}", self.scheme, self.host)
    }
}

impl fmt::Display for BadOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an origin is scheme://host, or scheme://*.domain, with a port or without")
    }
}

impl std::error::Error for BadOrigin {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_whole_and_names_below_by_label() {
        let takes =
            |pattern: &str, origin: &str| OriginPattern::new(pattern).unwrap().matches(origin);
        let exact = |origin| takes("https://app.example.com", origin);
        assert!(exact("https://app.example.com") && exact("HTTPS://App.Example.com"));
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.test",
            "null",
            "",
        ] {
            assert!(!exact(origin), "{origin}");
        }
        let below = |origin| takes("https://*.example.com", origin);
        assert!(below("https://a.example.com") && below("https://a.b.example.com"));
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "http://a.example.com",
        ] {
            assert!(!below(origin), "{origin}");
        }
        assert!(takes("http://localhost:3000", "http://localhost:3000"));
    }

    #[test]
    fn what_is_no_origin_is_no_pattern() {
        for text in [
            "",
            "example.com",
            "https://",
            "://x",
            "https://x/",
            "https://*",
            "https://a.*.com",
            "https://u@h",
        ] {
            assert!(OriginPattern::new(text).is_err(), "{text}");
        }
    }
}
