//! A provider that costs little: one thread, raw TCP, answers that were made before the first request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::payload;
use crate::wire::{Decoder, Head, Sender};

/// How much of a request's body is searched for the wish to stream, in bytes.
const SEARCHED: usize = 1024;

/// Content events of a stream unless the request says otherwise.
const EVENTS: u64 = 100;

/// Serves until the process is killed.
pub(crate) fn run(address: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let prepared = Arc::new(Prepared {
        answer: payload::answer(),
        stream: payload::events(EVENTS).map(|event| chunk(&event)).collect(),
    });
    runtime.block_on(async {
        let listener = super::listen(address)?;
        super::accept(listener, |stream| {
            let prepared = Arc::clone(&prepared);
            async move {
                // A caller that leaves is no news here; what it means is seen at the load generator.
                let _ = serve(stream, &prepared).await;
            }
        })
        .await
    })
}

/// What need not be made for each request.
struct Prepared {
    answer: String,
    /// The chunks of a stream of the usual length.
    stream: Vec<String>,
}

async fn serve(mut stream: TcpStream, prepared: &Prepared) -> io::Result<()> {
    let mut decoder = Decoder::new(Sender::Client);
    let mut buffer = vec![0; 256 * 1024];
    let (mut begin, mut end) = (0, 0);
    loop {
        let mut start = Vec::with_capacity(SEARCHED);
        let mut received = 0;
        while !decoder.is_done() {
            if begin == end {
                begin = 0;
                end = stream.read(&mut buffer).await?;
                if end == 0 {
                    return Ok(());
                }
            }
            let fed = decoder.feed(&buffer[begin..end], |data| {
                received += data.len();
                start.extend_from_slice(&data[..data.len().min(SEARCHED - start.len())]);
            });
            begin += fed.map_err(io::Error::other)?;
        }
        let head = decoder.head().copied().unwrap_or_default();
        decoder.reset();
        if memchr::memmem::find(&start, b"\"stream\":true").is_some() {
            write_events(&mut stream, prepared, head).await?;
        } else {
            write_answer(&mut stream, &prepared.answer, received).await?;
        }
        if head.close {
            return Ok(());
        }
    }
}

async fn write_answer(stream: &mut TcpStream, answer: &str, received: usize) -> io::Result<()> {
    let text = format!(
        "HTTP/1.1 200 OK\r\n{COMMON}content-type: application/json\r\nx-received: {received}\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    stream.write_all(text.as_bytes()).await
}

/// One write for the head and one for each event, as a provider does that has no more to say yet.
async fn write_events(stream: &mut TcpStream, prepared: &Prepared, head: Head) -> io::Result<()> {
    let text = format!(
        "HTTP/1.1 200 OK\r\n{COMMON}content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).await?;
    let gap = Duration::from_millis(head.gap_ms.unwrap_or(0));
    let content = head.events.unwrap_or(EVENTS);
    if content == EVENTS {
        write_chunks(stream, prepared.stream.iter(), gap).await?;
    } else {
        let chunks = payload::events(content).map(|event| chunk(&event));
        write_chunks(stream, chunks, gap).await?;
    }
    stream.write_all(b"0\r\n\r\n").await
}

async fn write_chunks<C: AsRef<str>>(
    stream: &mut TcpStream,
    chunks: impl Iterator<Item = C>,
    gap: Duration,
) -> io::Result<()> {
    for (index, chunk) in chunks.enumerate() {
        if index > 0 && !gap.is_zero() {
            tokio::time::sleep(gap).await;
        }
        stream.write_all(chunk.as_ref().as_bytes()).await?;
    }
    Ok(())
}

fn chunk(event: &str) -> String {
    format!("{:x}\r\n{event}\r\n", event.len())
}

/// Headers that providers send with every answer.
const COMMON: &str = "date: Fri, 21 Nov 2025 12:00:00 GMT\r\nserver: bench\r\nx-request-id: req_bench00000000000000000000000000\r\n\
    openai-processing-ms: 12\r\nopenai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\n\
    x-ratelimit-remaining-requests: 9999\r\n";
