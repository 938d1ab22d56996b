//! The trace that a request belongs to, as its caller says.

use std::{fmt, num::NonZeroU128};

use http::HeaderMap;

/// The trace of W3C Trace Context that a request belongs to. Shown as the 32 digits of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// The trace that the header `traceparent` names: one header, which is valid. Of versions to come it reads what they share with
    /// the first, as the specification wants.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get("traceparent")?;
        let mut all = headers.get_all("traceparent").iter();
        all.nth(1).is_none().then_some(())?;
        Self::parse(value.as_bytes())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (fixed, more) = text.split_at_checked(FIXED)?;
        let (version, rest) = fixed.split_first_chunk::<2>()?;
        let first = version == b"00" && more.is_empty();
        let later = more.first().is_none_or(|byte| *byte == b'-') && version != b"00";
        if !(first || later) || version == b"ff" {
            return None;
        }
        let dashes = [0, 33, 50].map(|at: usize| rest[at]);
        let (trace, parent, flags) = (&rest[1..33], &rest[34..50], &rest[51..53]);
        number(version)?;
        number(flags)?;
        NonZeroU128::new(number(parent)?)?;
        let trace = NonZeroU128::new(number(trace)?)?;
        (dashes == [b'-'; 3]).then_some(Self(trace))
    }
}

/// A number of hexadecimal digits, small letters only.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Version, trace, parent and flags, with the dashes between them.
const FIXED: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", value.parse().unwrap());
        }
        TraceId::of(&headers).map(|trace| trace.to_string())
    }

    #[test]
    fn the_trace_is_that_of_a_valid_header() {
        let valid = format!("00-{TRACE}-b7ad6b7169203331-01");
        assert_eq!(of(&[&valid]), Some(TRACE.to_owned()));
        let low = "0000000000000000000000000000000a";
        let short = format!("00-{low}-00000000000000b7-00");
        assert_eq!(of(&[&short]), Some(low.to_owned()));
        // Of a version to come, with and without what it adds.
        for later in ["cc-", "01-"] {
            let later = format!("{later}{TRACE}-b7ad6b7169203331-01");
            assert_eq!(of(&[&later]), Some(TRACE.to_owned()));
            assert_eq!(of(&[&format!("{later}-more")]), Some(TRACE.to_owned()));
            assert_eq!(of(&[&format!("{later}more")]), None);
        }
    }

    #[test]
    fn what_is_not_valid_names_no_trace() {
        assert_eq!(of(&[]), None);
        let valid = format!("00-{TRACE}-b7ad6b7169203331-01");
        assert_eq!(of(&[&valid, &valid]), None, "two of them");
        for at in 0..valid.len() {
            assert_eq!(of(&[&valid[..at]]), None, "cut at {at}");
            for wrong in ["g", "A", "-", " "] {
                let mut text = valid.clone();
                text.replace_range(at..=at, wrong);
                assert!(text == valid || of(&[&text]).is_none(), "{text}");
            }
        }
        for text in [
            format!("{valid}-more"),
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
        ] {
            assert_eq!(of(&[&text]), None, "{text}");
        }
    }
}
