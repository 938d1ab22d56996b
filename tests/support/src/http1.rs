//! An HTTP/1.1 message as it arrives: wire bytes are kept as they came, and how the message ended is remembered.
//!
//! It judges; it does not serve. Nothing is normalised except that header names are compared without case and chunks are joined.

use tokio::time::Instant;

/// How a message came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The framing could not be read.
    Bad,
    /// End of stream where no framing was announced: the proper end of such a response.
    Close,
    /// End of stream before the announced end.
    Cut,
    /// All announced bytes arrived, or the message has no body.
    Length,
    /// The last chunk and its trailers arrived.
    LastChunk,
    /// The connection was reset.
    Reset,
}

/// One message, readable at any time while it grows.
#[derive(Clone, Debug)]
pub struct Message {
    /// The raw head with its blank line; empty until it is whole.
    pub head: Vec<u8>,
    /// The start line without its line end.
    pub start: String,
    /// Headers in order, names as they were written, values trimmed; bytes above 0x7f are read as Latin-1.
    pub headers: Vec<(String, String)>,
    /// Start lines of the 1xx responses before this one.
    pub interim: Vec<String>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Sizes of the chunks in order, where the body is chunked.
    pub chunks: Vec<usize>,
    /// Trailers in order.
    pub trailers: Vec<(String, String)>,
    /// How it ended; `None` while it runs.
    pub ended: Option<Ended>,
    /// When bytes arrived and how long the body was then.
    pub grown: Vec<(Instant, usize)>,
    kind: Kind,
    state: State,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    Response { bodiless: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    UntilClose,
}

// ===== impl Message =====

impl Message {
    /// A request about to arrive.
    #[must_use]
    pub fn request() -> Self {
        Self::new(Kind::Request)
    }

    /// The response to a request with this method: the answer to HEAD has no body.
    #[must_use]
    pub fn response(method: &str) -> Self {
        Self::new(Kind::Response {
            bodiless: method == "HEAD",
        })
    }

    fn new(kind: Kind) -> Self {
        Self {
            head: Vec::new(),
            start: String::new(),
            headers: Vec::new(),
            interim: Vec::new(),
            body: Vec::new(),
            chunks: Vec::new(),
            trailers: Vec::new(),
            ended: None,
            grown: Vec::new(),
            kind,
            state: State::Head,
            buffer: Vec::new(),
        }
    }

    /// Status of a response; 0 until the head is whole and for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        let Some(rest) = self
            .start
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| self.start.strip_prefix("HTTP/1.0 "))
        else {
            return 0;
        };
        let (code, tail) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
        match code.parse() {
            Ok(status) if code.len() == 3 && (tail.is_empty() || tail.starts_with(' ')) => status,
            _ => 0,
        }
    }

    /// Method of a request, empty until the head is whole.
    #[must_use]
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// Target of a request as written, empty until the head is whole.
    #[must_use]
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The first value of a header, its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All values of a header in order, its name in any case.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The body as text; bytes that are not UTF-8 show as replacement characters.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON; the message shows the body.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// True for the endings that say that the message is complete.
    #[must_use]
    pub fn whole(&self) -> bool {
        matches!(self.ended, Some(Ended::LastChunk | Ended::Length))
    }

    /// Bytes arrived. Those behind the end of the message are kept for [`Message::rest`].
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while self.ended.is_none() && self.step(&mut at) {}
        self.buffer.drain(..at);
        self.grown.push((Instant::now(), self.body.len()));
    }

    /// The stream ended, or was reset: whatever is missing now stays missing.
    pub fn finish(&mut self, reset: bool) {
        if self.ended.is_none() {
            self.ended = Some(match self.state {
                _ if reset => Ended::Reset,
                State::UntilClose => Ended::Close,
                _ => Ended::Cut,
            });
        }
    }

    /// Takes the bytes behind the end of this message: the start of the next.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// True when the connection carried anything of this message.
    #[must_use]
    pub fn begun(&self) -> bool {
        !self.head.is_empty() || !self.interim.is_empty() || !self.buffer.is_empty()
    }

    fn end(&mut self, how: Ended) -> bool {
        self.ended = Some(how);
        false
    }

    /// Does one step of the machine; false when more bytes are needed or the message ended.
    fn step(&mut self, at: &mut usize) -> bool {
        match self.state {
            // Head -> Head after a 1xx, else to what the framing says, or the end
            State::Head => self.step_head(at),
            // Length -> the end
            State::Length(left) => match self.take(at, left) {
                0 => self.end(Ended::Length),
                left => self.wait(State::Length(left)),
            },
            // Data -> DataEnd -> Size
            State::Data(left) => match self.take(at, left) {
                0 => self.go(State::DataEnd),
                left => self.wait(State::Data(left)),
            },
            State::UntilClose => {
                self.body.extend_from_slice(&self.buffer[*at..]);
                *at = self.buffer.len();
                false
            }
            State::DataEnd | State::Size | State::Trailer => self.step_line(at),
        }
    }

    fn step_line(&mut self, at: &mut usize) -> bool {
        let Some(found) = find(&self.buffer[*at..], b"\r\n") else {
            return false;
        };
        let line = latin1(&self.buffer[*at..*at + found]);
        *at += found + 2;
        match self.state {
            State::DataEnd if line.is_empty() => self.go(State::Size),
            // Size -> Data, or Trailer after the last chunk
            State::Size => match chunk_size(&line) {
                Some(0) => self.go(State::Trailer),
                Some(size) => {
                    self.chunks
                        .push(usize::try_from(size).unwrap_or(usize::MAX));
                    self.go(State::Data(size))
                }
                None => self.end(Ended::Bad),
            },
            // Trailer -> Trailer, the end after a blank line
            State::Trailer if line.is_empty() => self.end(Ended::LastChunk),
            State::Trailer => {
                self.trailers.push(header(&line));
                true
            }
            _ => self.end(Ended::Bad),
        }
    }

    fn step_head(&mut self, at: &mut usize) -> bool {
        let Some(found) = find(&self.buffer[*at..], b"\r\n\r\n") else {
            return false;
        };
        let head = self.buffer[*at..*at + found + 4].to_vec();
        *at += head.len();
        let text = latin1(&head);
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        self.start = lines.next().unwrap_or_default().to_owned();
        self.headers = lines.map(header).collect();
        if self.kind != Kind::Request && matches!(self.status(), 100 | 102..=199) {
            self.interim.push(std::mem::take(&mut self.start));
            self.headers.clear();
            return true;
        }
        self.head = head;
        match self.framing() {
            Some(State::Length(0)) => self.end(Ended::Length),
            Some(state) => self.go(state),
            None => self.end(Ended::Bad),
        }
    }

    /// RFC 9112 section 6.3, without its tolerance: what is ambiguous is bad.
    fn framing(&self) -> Option<State> {
        if let Kind::Response { bodiless } = self.kind {
            match self.status() {
                0 => return None,
                204 | 304 => return Some(State::Length(0)),
                _ if bodiless => return Some(State::Length(0)),
                _ => {}
            }
        }
        let coding = self.all("transfer-encoding").join(",").to_ascii_lowercase();
        match (
            coding.trim(),
            self.all("content-length").as_slice(),
            self.kind,
        ) {
            ("", [], Kind::Request) => Some(State::Length(0)),
            ("", [], Kind::Response { .. }) => Some(State::UntilClose),
            ("", [length], _) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().ok().map(State::Length)
            }
            ("chunked", [], _) => Some(State::Size),
            _ => None,
        }
    }

    fn take(&mut self, at: &mut usize, left: u64) -> u64 {
        let here = self.buffer.len() - *at;
        let size = usize::try_from(left).map_or(here, |left| left.min(here));
        self.body.extend_from_slice(&self.buffer[*at..*at + size]);
        *at += size;
        left - size as u64
    }

    fn go(&mut self, state: State) -> bool {
        self.state = state;
        true
    }

    fn wait(&mut self, state: State) -> bool {
        self.state = state;
        false
    }
}

fn header(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

fn chunk_size(line: &str) -> Option<u64> {
    let digits = line.split(';').next().unwrap_or_default().trim_end();
    // from_str_radix takes a sign, which a chunk size has not.
    (!digits.starts_with('+'))
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::splits::Split;

    const CHUNKED: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Odd: a\r\nx-odd: b\r\n\r\n\
                             3;ext=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\nHTTP/1.1";

    fn fed(mut message: Message, wire: &[u8], split: &Split) -> Message {
        split
            .pieces(wire)
            .into_iter()
            .for_each(|piece| message.feed(piece));
        message
    }

    proptest! {
        #[test]
        fn a_message_reads_the_same_for_any_split(seed in any::<u64>()) {
            let mut message = fed(Message::response("POST"), CHUNKED, &Split::Random(seed));
            prop_assert_eq!(message.ended, Some(Ended::LastChunk));
            prop_assert_eq!(message.status(), 200);
            prop_assert_eq!(message.text(), "abc0123456789");
            prop_assert_eq!(&message.chunks, &[3, 10]);
            prop_assert_eq!(&message.interim, &["HTTP/1.1 100 Continue"]);
            prop_assert_eq!(message.all("X-ODD"), ["a", "b"]);
            prop_assert_eq!(&message.headers[1].0, "X-Odd");
            prop_assert_eq!(&message.trailers, &[("X-Sum".to_owned(), "7".to_owned())]);
            prop_assert_eq!(message.rest(), b"HTTP/1.1");
        }
    }

    #[track_caller]
    fn ends(method: &str, wire: &[u8], reset: bool, how: Ended) {
        let mut message = fed(Message::response(method), wire, &Split::Whole);
        message.finish(reset);
        assert_eq!(message.ended, Some(how), "{}", latin1(wire));
    }

    #[test]
    fn each_ending_is_told_apart() {
        ends(
            "POST",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
            true,
            Ended::Length,
        );
        ends(
            "POST",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            false,
            Ended::Cut,
        );
        ends(
            "POST",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            true,
            Ended::Reset,
        );
        ends("POST", b"HTTP/1.1 200 OK\r\n\r\nab", false, Ended::Close);
        ends(
            "POST",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            false,
            Ended::Cut,
        );
        ends(
            "HEAD",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n",
            false,
            Ended::Length,
        );
        ends(
            "POST",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            false,
            Ended::Length,
        );
    }

    #[test]
    fn what_cannot_be_framed_is_bad() {
        for wire in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
        ] {
            ends("POST", wire, false, Ended::Bad);
        }
    }

    #[test]
    fn a_request_without_framing_has_no_body() {
        let message = fed(
            Message::request(),
            b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
            &Split::Whole,
        );
        assert_eq!(
            (message.method(), message.target(), message.ended),
            ("GET", "/v1/models", Some(Ended::Length))
        );
    }
}
