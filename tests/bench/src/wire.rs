//! Just enough HTTP/1.1 for a load generator and a fake provider: a decoder of one message at a time that
//! gives the same answer for every split of the same bytes, in linear time and with a bounded head.

use std::fmt;

/// The largest head that is read, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Which side sent the message: only an answer must say how long its body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

/// What the two ends of the bench want to know of a head; everything else in it is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status of an answer; 0 for a request.
    pub(crate) status: u16,
    pub(crate) length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    /// `x-events`: how many content events a stream shall have.
    pub(crate) events: Option<u64>,
    /// `x-gap-ms`: the pause before each event but the first, in milliseconds.
    pub(crate) gap_ms: Option<u64>,
    /// `x-received`: how many bytes of request body arrived at the fake provider.
    pub(crate) received: Option<u64>,
}

/// The bytes are no HTTP/1.1 message of the kind that the bench speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(&'static str);

/// Decodes one message after the other.
#[derive(Debug)]
pub(crate) struct Decoder {
    sender: Sender,
    state: State,
    held: Vec<u8>,
    head: Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// Bytes of a counted body still to come.
    Counted(u64),
    /// In the line that says how long the chunk is; the flag is set behind the digits.
    Size {
        size: u64,
        digits: u8,
        extension: bool,
    },
    /// Bytes of the chunk still to come.
    Chunk(u64),
    /// In the line end behind a chunk; how many of its bytes were seen.
    ChunkEnd(u8),
    /// In the trailers; how long the current line is so far.
    Trailer(usize),
    Done,
}

// ===== impl Decoder =====

impl Decoder {
    pub(crate) const fn new(sender: Sender) -> Self {
        Self {
            sender,
            state: State::Head,
            held: Vec::new(),
            head: Head {
                status: 0,
                length: None,
                chunked: false,
                close: false,
                events: None,
                gap_ms: None,
                received: None,
            },
        }
    }

    /// Forgets the finished message, so that the next can be decoded.
    pub(crate) fn reset(&mut self) {
        self.state = State::Head;
        self.held.clear();
        self.head = Head::default();
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The head, once all of it has arrived.
    pub(crate) fn head(&self) -> Option<&Head> {
        (self.state != State::Head).then_some(&self.head)
    }

    /// Decodes `input` up to the end of the message, gives the bytes of the body to `data`, and says how many
    /// bytes were used: all of them unless the message is done.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        mut data: impl FnMut(&[u8]),
    ) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            let rest = &input[at..];
            at += match self.state {
                State::Head => self.feed_head(rest)?,
                State::Counted(left) => {
                    let part = some_of(rest, left);
                    data(part);
                    self.state = match left - part.len() as u64 {
                        0 => State::Done,
                        left => State::Counted(left),
                    };
                    part.len()
                }
                State::Chunk(left) => {
                    let part = some_of(rest, left);
                    data(part);
                    self.state = match left - part.len() as u64 {
                        0 => State::ChunkEnd(0),
                        left => State::Chunk(left),
                    };
                    part.len()
                }
                State::Size { .. } | State::ChunkEnd(_) | State::Trailer(_) => {
                    self.state = self.state.after(rest[0])?;
                    1
                }
                State::Done => 0,
            };
        }
        Ok(at)
    }

    fn feed_head(&mut self, input: &[u8]) -> Result<usize, Malformed> {
        if self.held.is_empty()
            && let Some(end) = memchr::memmem::find(input, END_OF_HEAD)
        {
            self.enter_body(Head::parse(&input[..end], self.sender)?)?;
            return Ok(end + END_OF_HEAD.len());
        }
        let before = self.held.len();
        self.held.extend_from_slice(input);
        let from = before.saturating_sub(END_OF_HEAD.len() - 1);
        let Some(end) = memchr::memmem::find(&self.held[from..], END_OF_HEAD) else {
            if self.held.len() > MAX_HEAD {
                return Err(Malformed("the head is too large"));
            }
            return Ok(input.len());
        };
        let end = from + end;
        let head = Head::parse(&self.held[..end], self.sender)?;
        self.held.clear();
        self.enter_body(head)?;
        Ok(end + END_OF_HEAD.len() - before)
    }

    fn enter_body(&mut self, head: Head) -> Result<(), Malformed> {
        self.head = head;
        self.state = match (head.chunked, head.length) {
            (true, _) => State::START_OF_SIZE,
            (false, Some(0)) => State::Done,
            (false, Some(length)) => State::Counted(length),
            (false, None) if self.sender == Sender::Client => State::Done,
            (false, None) => return Err(Malformed("an answer without a length")),
        };
        Ok(())
    }
}

// ===== impl State =====

impl State {
    const START_OF_SIZE: Self = Self::Size {
        size: 0,
        digits: 0,
        extension: false,
    };

    /// The state behind one byte of chunked framing.
    fn after(self, byte: u8) -> Result<Self, Malformed> {
        match (self, byte) {
            (
                Self::Size {
                    size,
                    digits,
                    extension,
                },
                _,
            ) => Self::after_size(size, digits, extension, byte),
            (Self::ChunkEnd(0), b'\r') => Ok(Self::ChunkEnd(1)),
            (Self::ChunkEnd(1), b'\n') => Ok(Self::START_OF_SIZE),
            (Self::ChunkEnd(_), _) => Err(Malformed("a chunk that is longer than its size")),
            (Self::Trailer(_), b'\r') => Ok(self),
            (Self::Trailer(0), b'\n') => Ok(Self::Done),
            (Self::Trailer(_), b'\n') => Ok(Self::Trailer(0)),
            (Self::Trailer(length), _) if length < MAX_HEAD => Ok(Self::Trailer(length + 1)),
            _ => Err(Malformed("the trailers are too large")),
        }
    }

    fn after_size(size: u64, digits: u8, extension: bool, byte: u8) -> Result<Self, Malformed> {
        let extension = extension || matches!(byte, b'\r' | b';');
        let digit = char::from(byte).to_digit(16);
        match (byte, digit) {
            (b'\n' | b'\r' | b';', _) if digits == 0 => Err(Malformed("a chunk without a size")),
            (b'\n', _) if size == 0 => Ok(Self::Trailer(0)),
            (b'\n', _) => Ok(Self::Chunk(size)),
            _ if extension => Ok(Self::Size {
                size,
                digits,
                extension,
            }),
            (_, Some(_)) if digits == 15 => Err(Malformed("a chunk size that is too large")),
            (_, Some(digit)) => Ok(Self::Size {
                size: size * 16 + u64::from(digit),
                digits: digits + 1,
                extension,
            }),
            _ => Err(Malformed("a chunk size that is no number")),
        }
    }
}

// ===== impl Head =====

impl Head {
    fn parse(text: &[u8], sender: Sender) -> Result<Self, Malformed> {
        let mut head = Self::default();
        let mut lines = text.split(|&byte| byte == b'\n');
        let first = lines.next().unwrap_or_default();
        if sender == Sender::Server {
            head.status = first
                .strip_prefix(b"HTTP/1.1 ")
                .and_then(|rest| number(rest.get(..3)?))
                .and_then(|status| u16::try_from(status).ok())
                .ok_or(Malformed("a status line that is none"))?;
        }
        for line in lines {
            head.note(line)?;
        }
        Ok(head)
    }

    fn note(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let colon = memchr::memchr(b':', line).ok_or(Malformed("a header line without a colon"))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.length = Some(number(value).ok_or(Malformed("a length that is no number"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.close = value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case(b"x-events") {
            self.events = number(value);
        } else if name.eq_ignore_ascii_case(b"x-gap-ms") {
            self.gap_ms = number(value);
        } else if name.eq_ignore_ascii_case(b"x-received") {
            self.received = number(value);
        }
        Ok(())
    }
}

// ===== impl Malformed =====

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

fn some_of(input: &[u8], left: u64) -> &[u8] {
    let end = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    &input[..end]
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COUNTED: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Received: 7\r\n\r\nhello world";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 429 Slow\r\ntransfer-encoding: Chunked\r\nconnection: close\r\n\r\n\
        5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nx-trailer: 1\r\n\r\n";

    fn decode(parts: &[&[u8]], sender: Sender) -> Result<(Head, Vec<u8>, usize), Malformed> {
        let mut decoder = Decoder::new(sender);
        let (mut body, mut used) = (Vec::new(), 0);
        for part in parts {
            used += decoder.feed(part, |data| body.extend_from_slice(data))?;
        }
        assert!(decoder.is_done(), "not done after {parts:?}");
        Ok((
            *decoder.head().expect("done means that the head was seen"),
            body,
            used,
        ))
    }

    #[test]
    fn a_counted_and_a_chunked_answer_give_their_bodies() {
        let (head, body, used) =
            decode(&[COUNTED], Sender::Server).expect("the test brings what is right");
        assert_eq!(
            (head.status, head.received, head.close),
            (200, Some(7), false)
        );
        assert_eq!(
            (body.as_slice(), used),
            (&b"hello world"[..], COUNTED.len())
        );
        let (head, body, used) =
            decode(&[CHUNKED], Sender::Server).expect("the test brings what is right");
        assert_eq!((head.status, head.chunked, head.close), (429, true, true));
        assert_eq!(
            (body.as_slice(), used),
            (&b"hello world"[..], CHUNKED.len())
        );
    }

    #[test]
    fn what_follows_the_message_is_not_used() {
        let mut two = COUNTED.to_vec();
        two.extend_from_slice(CHUNKED);
        let mut decoder = Decoder::new(Sender::Server);
        assert_eq!(decoder.feed(&two, |_| ()), Ok(COUNTED.len()));
        decoder.reset();
        assert_eq!(
            decoder.feed(&two[COUNTED.len()..], |_| ()),
            Ok(CHUNKED.len())
        );
        assert!(decoder.is_done());
    }

    #[test]
    fn a_request_may_have_no_body_and_an_answer_must_say() {
        let (head, body, _) = decode(
            &[b"GET / HTTP/1.1\r\nx-events: 9\r\nx-gap-ms: 20\r\n\r\n"],
            Sender::Client,
        )
        .expect("the test brings what is right");
        assert_eq!(
            (head.events, head.gap_ms, body.len()),
            (Some(9), Some(20), 0)
        );
        let answer = b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\n";
        assert!(Decoder::new(Sender::Server).feed(answer, |_| ()).is_err());
    }

    #[test]
    fn broken_framing_is_an_error() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for tail in [
            "\r\n",
            "zz\r\n",
            "1\r\nab\r\n",
            "ffffffffffffffffffff\r\n",
            ";x\r\n",
        ] {
            let text = format!("{head}{tail}");
            let result = Decoder::new(Sender::Server).feed(text.as_bytes(), |_| ());
            assert!(result.is_err(), "{tail:?} was taken");
        }
        for text in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        ] {
            let result = Decoder::new(Sender::Server).feed(text.as_bytes(), |_| ());
            assert!(result.is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let mut decoder = Decoder::new(Sender::Server);
        let line = [b'a'; 1024];
        let refused = (0..=MAX_HEAD / line.len()).find_map(|_| decoder.feed(&line, |_| ()).err());
        assert_eq!(refused, Some(Malformed("the head is too large")));
    }

    proptest! {
        #[test]
        fn every_split_of_the_same_bytes_decodes_alike(
            chunked: bool,
            mut cuts in proptest::collection::vec(0usize..1000, 0..12),
        ) {
            let whole = if chunked { CHUNKED } else { COUNTED };
            cuts.iter_mut().for_each(|cut| *cut %= whole.len() + 1);
            cuts.sort_unstable();
            let mut parts = Vec::new();
            let mut from = 0;
            for cut in cuts {
                parts.push(&whole[from..cut]);
                from = cut;
            }
            parts.push(&whole[from..]);
            prop_assert_eq!(decode(&parts, Sender::Server), decode(&[whole], Sender::Server));
        }
    }
}
