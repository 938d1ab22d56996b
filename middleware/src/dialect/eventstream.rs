//! Amazon's binary event stream, cut into messages while the bytes pass.
//!
//! A message is a prelude of twelve bytes (total length, length of the headers, checksum), the headers, the payload
//! and a checksum: the encoding of `application/vnd.amazon.eventstream`. Checksums are not verified: nothing here
//! decides what is forwarded.

use crate::{base64, json::Value, sse::CAP};

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is: the value of `:event-type`, or of `:exception-type`.
    pub name: &'a [u8],
    /// Whether it tells an error: its `:message-type` is `exception` or `error`.
    pub failed: bool,
    /// What it carries, JSON as a rule.
    pub payload: &'a [u8],
}

/// Cuts the messages of a body that comes in pieces. What is malformed ends it.
#[derive(Clone, Debug)]
pub struct Messages {
    cap: usize,
    kept: Vec<u8>,
    /// Bytes of a message over the cap that are still to come.
    skipped: usize,
    broken: bool,
    told: u64,
}

impl Default for Messages {
    /// With a cap of [`CAP`].
    fn default() -> Self {
        Self::new(CAP)
    }
}

// ===== impl Messages =====

impl Messages {
    /// Before the first byte; `cap` is how many bytes of one message are kept: what is longer is passed without being told.
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            kept: Vec::new(),
            skipped: 0,
            broken: false,
            told: 0,
        }
    }

    /// Takes the next frame and tells the messages that end in it.
    pub fn feed(&mut self, mut frame: &[u8], mut on: impl FnMut(Message<'_>)) {
        while !frame.is_empty() && !self.broken {
            if self.skipped > 0 {
                let passed = self.skipped.min(frame.len());
                self.skipped -= passed;
                frame = &frame[passed..];
            } else if self.kept.is_empty() && frame.len() >= PRELUDE {
                frame = self.begin(frame, &mut on);
            } else {
                frame = self.complete(frame, &mut on);
            }
        }
    }

    /// Whether no message is cut at this place.
    pub fn at_boundary(&self) -> bool {
        self.kept.is_empty() && self.skipped == 0 && !self.broken
    }

    /// How many messages have come; those over the cap count.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Takes a message from its first byte on.
    fn begin<'f>(&mut self, frame: &'f [u8], on: &mut impl FnMut(Message<'_>)) -> &'f [u8] {
        match lengths(frame) {
            None => self.broken = true,
            Some((total, _)) if total > self.cap => {
                self.told += 1;
                self.skipped = total;
            }
            Some((total, headers)) if total <= frame.len() => {
                self.told += 1;
                on(message(&frame[..total], headers));
                return &frame[total..];
            }
            Some(_) => {
                self.kept.extend_from_slice(frame);
                return &[];
            }
        }
        frame
    }

    /// Goes on with a message whose beginning came in an earlier frame, or is shorter than a prelude.
    fn complete<'f>(&mut self, frame: &'f [u8], on: &mut impl FnMut(Message<'_>)) -> &'f [u8] {
        if self.kept.len() < PRELUDE {
            let (lent, rest) = frame.split_at((PRELUDE - self.kept.len()).min(frame.len()));
            self.kept.extend_from_slice(lent);
            if self.kept.len() == PRELUDE {
                match lengths(&self.kept) {
                    None => self.broken = true,
                    Some((total, _)) if total > self.cap => {
                        self.told += 1;
                        self.skipped = total - PRELUDE;
                        self.kept.clear();
                    }
                    Some(_) => {}
                }
            }
            return rest;
        }
        let Some((total, headers)) = lengths(&self.kept) else {
            self.broken = true;
            return &[];
        };
        let (lent, rest) = frame.split_at((total - self.kept.len()).min(frame.len()));
        self.kept.extend_from_slice(lent);
        if self.kept.len() == total {
            self.told += 1;
            on(message(&self.kept, headers));
            self.kept.clear();
        }
        rest
    }
}

/// The document inside of a payload of InvokeModel: `{"bytes":"<base64>"}`; none if the payload is no such thing.
pub fn invoked(payload: &[u8]) -> Option<Vec<u8>> {
    let mut document = Vec::new();
    invoked_into(payload, &mut document).then_some(document)
}

/// As [`invoked`], into a buffer that is used again; false, and nothing of use in it, if the payload is no such thing.
pub fn invoked_into(payload: &[u8], document: &mut Vec<u8>) -> bool {
    document.clear();
    let bytes = Value::parse(payload).and_then(|payload| payload.get("bytes"));
    let text = bytes.and_then(|bytes| bytes.as_str());
    text.is_some_and(|text| base64(text.as_bytes(), document))
}

/// Total length and length of the headers; none if they cannot be.
fn lengths(prelude: &[u8]) -> Option<(usize, usize)> {
    let (total, rest) = prelude.split_first_chunk()?;
    let (headers, _) = rest.split_first_chunk()?;
    let total = usize::try_from(u32::from_be_bytes(*total)).ok()?;
    let headers = usize::try_from(u32::from_be_bytes(*headers)).ok()?;
    (headers.checked_add(PRELUDE + CHECKSUM)? <= total).then_some((total, headers))
}

/// A whole message, whose lengths have been found to fit.
fn message(whole: &[u8], headers: usize) -> Message<'_> {
    let (headers, payload) = whole[PRELUDE..whole.len() - CHECKSUM].split_at(headers);
    let mut told = Message {
        name: b"",
        failed: false,
        payload,
    };
    let mut rest = headers;
    while let Some((name, value, next)) = header(rest) {
        match name {
            b":event-type" | b":exception-type" => told.name = value,
            b":message-type" => told.failed = value == b"exception" || value == b"error",
            _ => {}
        }
        rest = next;
    }
    told
}

/// Name and value of the first header, and what follows it.
fn header(headers: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = headers.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (kind, rest) = rest.split_first()?;
    let (length, rest) = match kind {
        0 | 1 => (0, rest),
        2 => (1, rest),
        3 => (2, rest),
        4 => (4, rest),
        5 | 8 => (8, rest),
        6 | 7 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        9 => (16, rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((name, value, rest))
}

/// With its padding or without.
fn base64(text: &[u8], decoded: &mut Vec<u8>) -> bool {
    let end = memchr::memchr(b'=', text).unwrap_or(text.len());
    base64::decode_into(&text[..end], base64::PLAIN, decoded).is_some()
}

/// One whole message; none if its lengths do not fit it.
#[cfg(feature = "word_filter")]
pub(crate) fn whole(unit: &[u8]) -> Option<Message<'_>> {
    let (total, headers) = lengths(unit)?;
    (total == unit.len()).then(|| message(unit, headers))
}

/// A whole message with another payload: new length, new checksums, the same headers.
#[cfg(feature = "word_filter")]
pub(crate) fn rebuilt(unit: &[u8], payload: &[u8]) -> Vec<u8> {
    let headers = unit.get(4..8).and_then(|length| length.try_into().ok());
    let headers = headers.map_or(0, u32::from_be_bytes);
    let head = unit
        .get(PRELUDE..PRELUDE + headers as usize)
        .unwrap_or_default();
    let total = PRELUDE + head.len() + payload.len() + CHECKSUM;
    let mut message = Vec::with_capacity(total);
    // A message that came had room for its length, and what is put in is bounded.
    message.extend_from_slice(&u32::try_from(total).unwrap_or(u32::MAX).to_be_bytes());
    message.extend_from_slice(&headers.to_be_bytes());
    message.extend_from_slice(&crc32(&message).to_be_bytes());
    message.extend_from_slice(head);
    message.extend_from_slice(payload);
    message.extend_from_slice(&crc32(&message).to_be_bytes());
    message
}

/// As [`invoked_into`]; where the base64 lies in the payload.
#[cfg(feature = "word_filter")]
pub(crate) fn invoked_place(payload: &[u8], document: &mut Vec<u8>) -> Option<(usize, usize)> {
    let place = Value::parse(payload)?.get("bytes")?.span();
    // With an escape in it, which no encoder writes, what is spliced would still be right: all of it is replaced.
    invoked_into(payload, document).then_some((place.start + 1, place.end - 1))
}

/// RFC 4648, section 4, with padding.
#[cfg(feature = "word_filter")]
pub(crate) fn base64_into(bytes: &[u8], text: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    text.reserve(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let six = (bits >> (18 - 6 * at) & 63) as usize;
            text.push(if at > chunk.len() {
                b'='
            } else {
                ALPHABET[six]
            });
        }
    }
}

/// The CRC-32 of IEEE 802.3, which the encoding asks for. Only edited messages pay for it.
#[cfg(feature = "word_filter")]
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// The least length of a message.
#[cfg(feature = "word_filter")]
pub(crate) const LEAST: usize = PRELUDE + CHECKSUM;

/// Two lengths and their checksum.
const PRELUDE: usize = 12;

/// The checksum at the end.
const CHECKSUM: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dialect::recordings;

    fn told<'p>(
        pieces: impl IntoIterator<Item = &'p [u8]>,
    ) -> (Vec<(String, bool, Vec<u8>)>, bool) {
        let mut messages = Messages::default();
        let mut told = Vec::new();
        for piece in pieces {
            messages.feed(piece, |message| {
                let name = String::from_utf8_lossy(message.name).into_owned();
                told.push((name, message.failed, message.payload.to_vec()));
            });
        }
        (told, messages.at_boundary())
    }

    fn encoded(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(name.len() as u8);
            head.extend_from_slice(name.as_bytes());
            head.push(7);
            head.extend_from_slice(&(value.len() as u16).to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        let mut message = ((16 + head.len() + payload.len()) as u32)
            .to_be_bytes()
            .to_vec();
        message.extend_from_slice(&(head.len() as u32).to_be_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&head);
        message.extend_from_slice(payload);
        message.extend_from_slice(&[0; 4]);
        message
    }

    #[test]
    fn recorded_messages_are_told_over_every_split() {
        let mut seen = 0;
        for recording in recordings::all() {
            let Some(count) = recording.expected["eventstream"]["messages"].as_u64() else {
                continue;
            };
            let body = recording.body.as_slice();
            let whole = told([body]);
            assert_eq!(
                (whole.0.len() as u64, whole.1),
                (count, true),
                "{}",
                recording.name
            );
            assert_eq!(told(body.chunks(1)), whole, "{}", recording.name);
            for cut in 0..=body.len() {
                assert_eq!(told([&body[..cut], &body[cut..]]).0.len() as u64, count);
            }
            seen += 1;
        }
        assert!(seen >= 2, "{seen} streams");
    }

    #[test]
    fn an_exception_is_told_as_a_failure() {
        let headers = [
            (":message-type", "exception"),
            (":exception-type", "throttlingException"),
        ];
        let body = encoded(&headers, b"{}");
        assert_eq!(
            told([&body[..]]).0,
            [("throttlingException".to_owned(), true, b"{}".to_vec())]
        );
    }

    #[test]
    fn a_message_over_the_cap_is_passed() {
        let mut body = encoded(&[(":event-type", "a")], &vec![b'x'; CAP]);
        body.extend(encoded(&[(":event-type", "b")], b"{}"));
        for size in [1000, 7] {
            let (told, ended) = told(body.chunks(size));
            assert_eq!((told.len(), told[0].0.as_str(), ended), (1, "b", true));
        }
    }

    #[test]
    fn base64_is_decoded() {
        assert_eq!(
            invoked(br#"{"bytes":"eyJhIjoxfQ==","p":"abc"}"#).as_deref(),
            Some(&br#"{"a":1}"#[..])
        );
        assert_eq!(invoked(br#"{"bytes":"!"}"#), None);
        assert_eq!(invoked(b"{}"), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_told_alike_however_split(
            body in prop::collection::vec(prop_oneof![Just(0u8), Just(16), Just(20), any::<u8>()], 0..80),
            size in 1usize..20,
        ) {
            prop_assert_eq!(told(body.chunks(size)), told([&body[..]]));
        }
    }
}
