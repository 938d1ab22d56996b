//! Things that are known by their form: addresses, numbers, keys.

mod numbers;
mod secrets;

use std::{fmt, net::Ipv6Addr, str::FromStr};

use super::pattern::{Pattern, Refused};

/// Something that is known by its form.
///
/// What stands directly behind a letter or digit, or before one, is part of something else and none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// Payment cards: 13 to 19 digits, apart by single spaces or hyphens or not at all, of a length that the issuer of the first
    /// digits uses, whose last digit is right (ISO/IEC 7812: Luhn).
    CreditCard,
    /// E-mail addresses: a dot-atom of ASCII and a domain of two labels or more (RFC 5321 sections 4.1.2 and 4.5.3.1).
    Email,
    /// International bank account numbers of the countries and lengths of SWIFT's registry, in groups or not, whose check
    /// digits are right (ISO 13616: modulo 97).
    Iban,
    /// IPv4 addresses in four decimal parts without leading zeros (RFC 6943 section 3.1.1). With a fifth part, or a letter behind a
    /// hyphen, it is a version.
    Ipv4,
    /// IPv6 addresses (RFC 4291 section 2.2) in which there is a decimal digit; without one they look like names in a program.
    Ipv6,
    /// Telephone numbers: `+` and 7 to 15 digits (ITU-T E.164), or three, three and four digits of the North American plan with
    /// something between them.
    Phone,
    /// Keys of AWS, GitHub, Slack, OpenAI, Anthropic, Google and Stripe by what their makers have them begin with, private keys by
    /// the line that they begin with (RFC 7468), and JSON web tokens whose header decodes (RFC 7519).
    Secrets,
    /// Social security numbers of the United States, with hyphens or spaces: not area 000, 666 or 9xx, group 00 or serial 0000.
    Ssn,
}

/// A word that names no entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEntity(());

// ===== impl Entity =====

impl Entity {
    /// Every entity, in the order of their words.
    pub const ALL: [Self; 8] = [
        Self::CreditCard,
        Self::Email,
        Self::Iban,
        Self::Ipv4,
        Self::Ipv6,
        Self::Phone,
        Self::Secrets,
        Self::Ssn,
    ];

    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreditCard => "credit_card",
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Phone => "phone",
            Self::Secrets => "secrets",
            Self::Ssn => "ssn",
        }
    }

    /// What finds it. A match has at most `most` characters.
    pub(super) fn patterns(self, most: usize) -> Result<Vec<Pattern>, Refused> {
        let one = |text: &str| Pattern::new(text, true, most);
        let single = match self {
            Self::CreditCard => one(r"[2-6](?:[ -]?[0-9]){12,18}")?
                .apart(letter, no_letter)
                .holds(numbers::is_card),
            Self::Email => one(concat!(
                r"[0-9A-Za-z!#$%&'*+/=?^_`{|}~-]+(?:\.[0-9A-Za-z!#$%&'*+/=?^_`{|}~-]+)*",
                r"@(?:[0-9A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?\.)+[A-Za-z]{2,}",
            ))?
            .apart(local, no_domain)
            .holds(is_email),
            Self::Iban => one(r"[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]){11,29}")?
                .apart(letter, no_letter)
                .holds(numbers::is_iban),
            Self::Ipv4 => one(concat!(
                r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])",
                r"(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}",
            ))?
            .apart(dotted, no_version),
            Self::Ipv6 => one(concat!(
                r"(?:[0-9A-Fa-f]{0,4}:){2,8}",
                r"(?:[0-9A-Fa-f]{0,4}|[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})",
            ))?
            .apart(coloned, no_colon)
            .holds(is_ipv6),
            Self::Phone => {
                let world = one(r"\+[1-9](?:[ .-]?(?:\([0-9]{1,4}\)|[0-9])){6,14}")?;
                let america = one(concat!(
                    r"(?:1[ .-]?)?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])",
                    r"[2-9][0-9]{2}[ .-][0-9]{4}",
                ))?;
                return Ok(vec![
                    world
                        .apart(plussed, no_number)
                        .holds(numbers::is_world_phone),
                    america.apart(plussed, no_number),
                ]);
            }
            Self::Secrets => return secrets::patterns(most),
            Self::Ssn => one(r"[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}|[0-8][0-9]{2} [0-9]{2} [0-9]{4}")?
                .apart(hyphened, no_number)
                .holds(numbers::is_ssn),
        };
        Ok(vec![single])
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Entity {
    type Err = UnknownEntity;

    fn from_str(word: &str) -> Result<Self, UnknownEntity> {
        let mut all = Self::ALL.into_iter();
        all.find(|entity| entity.as_str() == word)
            .ok_or(UnknownEntity(()))
    }
}

// ===== impl UnknownEntity =====

impl fmt::Display for UnknownEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such entity")
    }
}

impl std::error::Error for UnknownEntity {}

/// What belongs to a word or a number.
fn letter(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn local(char: char) -> bool {
    letter(char) || "!#$%&*+/=?^`{|}~-".contains(char)
}

fn dotted(char: char) -> bool {
    letter(char) || char == '.'
}

fn coloned(char: char) -> bool {
    dotted(char) || char == ':'
}

fn plussed(char: char) -> bool {
    letter(char) || "+.-/".contains(char)
}

fn hyphened(char: char) -> bool {
    letter(char) || char == '-'
}

/// Whether something may end before this; none if that is not known yet.
fn no_letter(behind: &str, over: bool) -> Option<bool> {
    ends(behind, over, letter)
}

fn no_domain(behind: &str, over: bool) -> Option<bool> {
    ends(behind, over, |char| letter(char) || char == '@')
}

/// Not before more of a number.
fn no_number(behind: &str, over: bool) -> Option<bool> {
    let mut chars = behind.chars();
    match (chars.next(), chars.next()) {
        (Some('-' | '.' | '/'), None) => over.then_some(true),
        (Some('-' | '.' | '/'), Some(next)) => Some(!next.is_ascii_digit()),
        _ => no_letter(behind, over),
    }
}

/// Not before a fifth part, or the words behind a version.
fn no_version(behind: &str, over: bool) -> Option<bool> {
    let mut chars = behind.chars();
    match (chars.next(), chars.next()) {
        (Some('-' | '.' | '+'), None) => over.then_some(true),
        (Some('.'), Some(next)) => Some(!next.is_ascii_digit()),
        (Some('-' | '+'), Some(next)) => Some(!next.is_alphabetic()),
        _ => no_letter(behind, over),
    }
}

fn no_colon(behind: &str, over: bool) -> Option<bool> {
    let mut chars = behind.chars();
    match (chars.next(), chars.next()) {
        (Some(':' | '.'), None) => over.then_some(true),
        (Some(':' | '.'), Some(next)) => Some(!letter(next) && next != ':'),
        _ => no_letter(behind, over),
    }
}

fn ends(behind: &str, over: bool, goes_on: fn(char) -> bool) -> Option<bool> {
    match behind.chars().next() {
        Some(char) => Some(!goes_on(char)),
        None => over.then_some(true),
    }
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    // RFC 5321 section 4.5.3.1 and RFC 1035 section 2.3.4, in octets.
    local.len() <= 64 && domain.len() <= 255 && domain.split('.').all(|label| label.len() <= 63)
}

fn is_ipv6(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit()) && text.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests;
