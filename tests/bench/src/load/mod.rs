//! The load generator: raw connections that send the same request again and again and compare every byte of
//! every answer's body with what the provider itself gave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::BoxError;
use crate::wire::{Decoder, Sender};

pub(crate) mod closed;
pub(crate) mod held;
pub(crate) mod open;

/// How long one answer, or the next part of it, may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// One request, where it goes, and what must come back.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) to: SocketAddr,
    pub(crate) request: Arc<[u8]>,
    pub(crate) expected: Arc<Expected>,
}

/// The answer that the provider gave when it was asked directly.
#[derive(Debug)]
pub(crate) struct Expected {
    body: Vec<u8>,
    /// Where the first event ends; the end of the body if that is no event stream.
    first_event: usize,
    /// Events in the body; 0 if it is no event stream.
    pub(crate) events: u64,
    /// Bytes of request body that the provider said it received.
    received: Option<u64>,
}

/// How many exchanges failed, and how the first of them did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) count: u64,
    pub(crate) first: Option<String>,
}

/// One answer on its way in.
#[derive(Debug)]
struct Exchange {
    decoder: Decoder,
    at: usize,
    wrong: bool,
}

// ===== impl Expected =====

impl Expected {
    /// Asks the provider for the answer that all others are compared with.
    pub(crate) fn ask(to: SocketAddr, request: &[u8]) -> Result<Self, BoxError> {
        let mut stream = connect(to)?;
        stream.write_all(request)?;
        let mut decoder = Decoder::new(Sender::Server);
        let mut body = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while !decoder.is_done() {
            match stream.read(&mut buffer)? {
                0 => return Err("the connection ended within the answer".into()),
                read => decoder.feed(&buffer[..read], |data| body.extend_from_slice(data))?,
            };
        }
        let head = decoder.head().copied().unwrap_or_default();
        if head.status != 200 {
            return Err(
                format!("status {}: {}", head.status, String::from_utf8_lossy(&body)).into(),
            );
        }
        let is_stream = body.starts_with(b"data:");
        let mut ends = memchr::memmem::find_iter(&body, b"\n\n").map(|at| at + 2);
        let (first_event, events) = match ends.next() {
            Some(first) if is_stream => (first, 1 + ends.count() as u64),
            _ => (body.len(), 0),
        };
        Ok(Self {
            first_event,
            events,
            received: head.received,
            body,
        })
    }

    /// Whether it is the same answer, to a request that arrived as the same unless it was `edited`.
    pub(crate) fn is_same(&self, other: &Self, edited: bool) -> bool {
        self.body == other.body && (edited || self.received == other.received)
    }

    pub(crate) fn len(&self) -> u64 {
        self.body.len() as u64
    }
}

// ===== impl Faults =====

impl Faults {
    fn note(&mut self, fault: &BoxError) {
        self.count += 1;
        self.first.get_or_insert_with(|| fault.to_string());
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

// ===== impl Exchange =====

impl Exchange {
    fn new() -> Self {
        Self {
            decoder: Decoder::new(Sender::Server),
            at: 0,
            wrong: false,
        }
    }

    fn reset(&mut self) {
        self.decoder.reset();
        self.at = 0;
        self.wrong = false;
    }

    /// Takes what arrived and says whether the answer is complete; an error if it is not the expected one.
    fn feed(&mut self, input: &[u8], expected: &Expected) -> Result<bool, BoxError> {
        let Self { decoder, at, wrong } = self;
        let used = decoder.feed(input, |data| {
            let end = *at + data.len();
            *wrong |= expected.body.get(*at..end) != Some(data);
            *at = end;
        })?;
        let status = self.decoder.head().map_or(200, |head| head.status);
        if status != 200 {
            return Err(format!("status {status}").into());
        }
        if self.wrong {
            return Err("a body that is not the provider's".into());
        }
        if !self.decoder.is_done() {
            return Ok(false);
        }
        if self.at != expected.body.len() {
            return Err(format!(
                "{} bytes of body instead of {}",
                self.at,
                expected.body.len()
            )
            .into());
        }
        if used != input.len() {
            return Err("bytes behind the end of the answer".into());
        }
        if self.decoder.head().map(|head| head.received) != Some(expected.received) {
            return Err("the provider received a body of another length".into());
        }
        Ok(true)
    }

    fn has_first_event(&self, expected: &Expected) -> bool {
        self.at >= expected.first_event
    }

    /// Whether the answer said that the connection ends with it.
    fn closes(&self) -> bool {
        self.decoder.head().is_some_and(|head| head.close)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(to: SocketAddr) -> Result<TcpStream, BoxError> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        Expected {
            body: b"data: a\n\ndata: b\n\n".to_vec(),
            first_event: 9,
            events: 2,
            received: Some(5),
        }
    }

    fn answer(received: u64, body: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 200 OK\r\nx-received: {received}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    #[test]
    fn the_same_bytes_are_right_and_the_first_event_is_noticed() {
        let (expected, mut exchange) = (expected(), Exchange::new());
        let bytes = answer(5, "data: a\n\ndata: b\n\n");
        let cut = bytes.len() - 9;
        assert!(
            !exchange
                .feed(&bytes[..cut - 1], &expected)
                .expect("the test brings what is right")
        );
        assert!(!exchange.has_first_event(&expected));
        assert!(
            !exchange
                .feed(&bytes[cut - 1..cut], &expected)
                .expect("the test brings what is right")
        );
        assert!(exchange.has_first_event(&expected));
        assert!(
            exchange
                .feed(&bytes[cut..], &expected)
                .expect("the test brings what is right")
        );
        exchange.reset();
        assert!(
            exchange
                .feed(&bytes, &expected)
                .expect("the test brings what is right")
        );
    }

    #[test]
    fn every_difference_is_a_fault() {
        let mut trailing = answer(5, "data: a\n\ndata: b\n\n");
        trailing.push(b'x');
        let cases = [
            answer(5, "data: a\n\ndata: c\n\n"),
            answer(5, "data: a\n\n"),
            answer(5, "data: a\n\ndata: b\n\ndata: c\n\n"),
            answer(4, "data: a\n\ndata: b\n\n"),
            b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n".to_vec(),
            trailing,
        ];
        for bytes in cases {
            let result = Exchange::new().feed(&bytes, &expected());
            assert!(
                result.is_err(),
                "{} was taken",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    #[test]
    fn an_edited_request_may_arrive_longer_but_is_answered_alike() {
        let longer = Expected {
            received: Some(6),
            ..expected()
        };
        assert!(longer.is_same(&expected(), true));
        assert!(!longer.is_same(&expected(), false));
        let other = Expected {
            body: b"data: c\n\n".to_vec(),
            ..expected()
        };
        assert!(!other.is_same(&expected(), true));
    }

    #[test]
    fn the_first_fault_is_kept_and_all_are_counted() {
        let mut faults = Faults::default();
        faults.note(&"one".into());
        faults.note(&"two".into());
        let mut all = Faults::default();
        all.merge(faults);
        assert_eq!((all.count, all.first.as_deref()), (2, Some("one")));
    }
}
