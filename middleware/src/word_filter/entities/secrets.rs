//! Keys, by what their makers have them begin with, so that they can be found.

use super::super::pattern::{Pattern, Refused};
use crate::base64;

/// What finds keys. A match has at most `most` characters.
pub(super) fn patterns(most: usize) -> Result<Vec<Pattern>, Refused> {
    let apart = FORMS.iter().map(|form| {
        let pattern = Pattern::new(form, true, most)?;
        Ok(pattern.apart(part, super::no_letter))
    });
    // It may be longer than a match, so what stands behind it says nothing.
    let token = Pattern::new(TOKEN, true, most)?;
    let token = token.apart(part, |_, _| Some(true)).holds(is_token);
    apart.chain([Ok(token)]).collect()
}

const FORMS: &[&str] = &[
    // AWS: "IAM identifiers", unique IDs and their prefixes; the secret has no form, but the name of its setting has.
    "(?:ABIA|ACCA|AGPA|AIDA|AIPA|AKIA|ANPA|ANVA|APKA|AROA|ASCA|ASIA)[2-7A-Z]{16}",
    "(?i:aws_?secret_?access_?key)[\"']? ?[:=]+ ?[\"']?[+/0-9A-Za-z]{40}",
    // GitHub: "About authentication to GitHub", token formats.
    "gh[oprsu]_[0-9A-Za-z]{36,}",
    "github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}",
    // Slack: "Token types", and incoming webhooks.
    "xox[abeoprs]-[-0-9A-Za-z]{10,}[0-9A-Za-z]",
    "xapp-[0-9]-[0-9A-Z]+-[0-9]+-[0-9a-f]+",
    "https://hooks\\.slack\\.com/services/T[0-9A-Z]{8,}/B[0-9A-Z]{8,}/[0-9A-Za-z]{24}",
    // OpenAI: of a project, a service account, an administrator; those of old carry `T3BlbkFJ`, the name in base64.
    "sk-(?:admin|proj|svcacct)-[-0-9A-Z_a-z]{20,}",
    "sk-[0-9A-Za-z]{20}T3BlbkFJ[0-9A-Za-z]{20}",
    // Anthropic: keys of the API and of administrators, tokens of sessions.
    "sk-ant-(?:admin|api|oat|ort|sid)[0-9]{2}-[-0-9A-Z_a-z]{80,}",
    // Google: "API keys" and secrets and tokens of OAuth.
    "AIza[-0-9A-Z_a-z]{35}",
    "GOCSPX-[-0-9A-Z_a-z]{28}",
    "ya29\\.[-0-9A-Z_a-z]{20,}",
    // Stripe: "API keys", secret and restricted ones; secrets of webhooks.
    "[rs]k_(?:live|test)_[0-9A-Za-z]{16,}",
    "whsec_[+/0-9A-Za-z]{32,}",
    // RFC 7468 section 10 and 11, RFC 1421's kinds, RFC 9580 section 6.2.1: the line, and what of the key a match has room for.
    "-----BEGIN (?:[0-9A-Z]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:[\\s+/0-9=A-Za-z]*[+/0-9=A-Za-z])?",
];

/// RFC 7515 section 3.1: header, payload and signature in base64url; both of the first begin with `{"`.
const TOKEN: &str = "eyJ[-0-9A-Z_a-z]{10,}\\.eyJ[-0-9A-Z_a-z]{4,}(?:\\.[-0-9A-Z_a-z]*)?";

fn part(char: char) -> bool {
    super::letter(char) || char == '-'
}

/// Whether the header is JSON that names an algorithm.
fn is_token(text: &str) -> bool {
    let header = text.split('.').next().and_then(decode);
    let header = header.as_deref().and_then(crate::json::Value::parse);
    header.is_some_and(|header| header.get("alg").is_some_and(|alg| alg.as_str().is_some()))
}

/// For URLs, without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    base64::decode_into(text.as_bytes(), base64::URL, &mut out)?;
    Some(out)
}
