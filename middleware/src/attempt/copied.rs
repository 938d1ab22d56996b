//! The headers of a request, kept small.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A copy of headers that is rarely read back: one piece of memory. A clone of the map is a table, and most names and values of it
/// are pieces of memory that several hold, each counted one by one: three times the size, and many times the work.
#[derive(Clone)]
pub(super) struct Copied(Vec<u8>);

/// Length of the name, length of the value, whether it is sensitive; then both.
const FRAME: usize = 2 + 4 + 1;
/// Room for the head of an SDK.
const USUAL: usize = 1024;

impl Copied {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut copy = Vec::with_capacity(USUAL);
        for (name, value) in headers {
            let name = name.as_str().as_bytes();
            // A name is never longer than 65,535 bytes; a value of 4 GiB does not come through any buffer.
            let (Ok(wide), Ok(long)) = (u16::try_from(name.len()), u32::try_from(value.len()))
            else {
                continue;
            };
            copy.extend_from_slice(&wide.to_le_bytes());
            copy.extend_from_slice(&long.to_le_bytes());
            copy.push(u8::from(value.is_sensitive()));
            copy.extend_from_slice(name);
            copy.extend_from_slice(value.as_bytes());
        }
        Self(copy)
    }

    /// The headers, in their order. The values are parts of one piece of memory.
    pub(super) fn restored(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut rest = Bytes::copy_from_slice(&self.0);
        while rest.len() >= FRAME {
            let frame = rest.split_to(FRAME);
            let wide = u16::from_le_bytes([frame[0], frame[1]]);
            let long = u32::from_le_bytes([frame[2], frame[3], frame[4], frame[5]]);
            let name = HeaderName::from_bytes(&rest.split_to(usize::from(wide)));
            let name = name.expect("it was a name when it was copied");
            let value = HeaderValue::from_maybe_shared(rest.split_to(long as usize));
            let mut value = value.expect("it was a value when it was copied");
            value.set_sensitive(frame[6] != 0);
            headers.append(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = HeaderValue> {
        let bytes =
            prop::collection::vec(prop_oneof![Just(b'\t'), 32..127_u8, 128..=255_u8], 0..40);
        (bytes, any::<bool>()).prop_map(|(bytes, sensitive)| {
            let mut value = HeaderValue::from_bytes(&bytes).expect("valid bytes");
            value.set_sensitive(sensitive);
            value
        })
    }

    proptest! {
        /// Names that come again, in any order, values of any bytes: it is the same map, in the same order.
        #[test]
        fn what_is_copied_comes_back(headers in prop::collection::vec(("[a-f]{1,2}|content-type|x-[a-z]{1,20}", value()), 0..30)) {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
            let back = Copied::of(&map).restored();
            let all = |map: &HeaderMap| -> Vec<_> {
                let each = map.iter().map(|(name, value)| (name.clone(), value.clone(), value.is_sensitive()));
                each.collect()
            };
            prop_assert_eq!(all(&back), all(&map));
        }
    }
}
