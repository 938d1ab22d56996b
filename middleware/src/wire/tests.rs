//! Flushes and the close; what is read is in a file of its own.

mod reading;

use super::*;

use std::task::Waker;

use tokio::{io::duplex, time::Instant};

/// Takes what it is given, but flushes only when told, and counts the writes by kind.
#[derive(Debug, Default)]
struct Slow {
    may_flush: bool,
    written: Vec<u8>,
    vectored: usize,
    broken: bool,
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.may_flush {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.vectored += 1;
        for buf in bufs {
            self.written.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

fn flush(wire: &mut Wire<Slow>) -> Poll<io::Result<()>> {
    Pin::new(wire).poll_flush(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn only_a_flush_that_completed_is_acknowledged() {
    let conn = Conn::new();
    let mut wire = Wire::new(Slow::default(), conn.clone());
    let mark = conn.mark();
    assert!(flush(&mut wire).is_pending());
    assert_eq!(conn.mark(), mark);
    wire.get_mut().may_flush = true;
    assert!(matches!(flush(&mut wire), Poll::Ready(Ok(()))));
    assert!(conn.mark() > mark);
}

#[test]
fn a_flush_that_failed_acknowledges_nothing() {
    let conn = Conn::new();
    let broken = Slow {
        broken: true,
        ..Slow::default()
    };
    let mut wire = Wire::new(broken, conn.clone());
    let mark = conn.mark();
    assert!(matches!(flush(&mut wire), Poll::Ready(Err(_))));
    assert_eq!(conn.mark(), mark);
}

#[test]
fn vectored_writes_stay_vectored() {
    let mut wire = Wire::new(Slow::default(), Conn::new());
    assert!(wire.is_write_vectored());
    let bufs = [IoSlice::new(b"a"), IoSlice::new(b"bc")];
    let mut cx = Context::from_waker(Waker::noop());
    let written = Pin::new(&mut wire).poll_write_vectored(&mut cx, &bufs);
    assert!(matches!(written, Poll::Ready(Ok(3))));
    let slow = wire.into_inner();
    assert_eq!((slow.vectored, slow.written.as_slice()), (1, &b"abc"[..]));
}

#[tokio::test(start_paused = true)]
async fn the_client_reads_all_that_was_written_and_then_the_end() {
    let (ours, mut theirs) = duplex(64 * 1024);
    let mut wire = Wire::new(ours, Conn::new());
    theirs.write_all(&[b'x'; 100]).await.unwrap();
    wire.write_all(b"the last words").await.unwrap();
    let client = async {
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        drop(theirs);
        read
    };
    let start = Instant::now();
    let ((), read) = tokio::join!(close(wire), client);
    assert_eq!(read, b"the last words");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stays_is_left_after_one_second() {
    let (ours, _theirs) = duplex(64);
    let start = Instant::now();
    close(Wire::new(ours, Conn::new())).await;
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_on_is_left_after_64_kib() {
    let (ours, mut theirs) = duplex(1024);
    let sending = async {
        let mut sent = 0;
        while theirs.write_all(&[0; 1024]).await.is_ok() {
            sent += 1024;
        }
        sent
    };
    let start = Instant::now();
    let ((), sent) = tokio::join!(close(Wire::new(ours, Conn::new())), sending);
    assert_eq!(start.elapsed(), Duration::ZERO);
    // What was read, and what the pipe held besides.
    assert!((64 * 1024..=66 * 1024).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_to_be_reset_is_dropped_at_once() {
    let (ours, mut theirs) = duplex(64);
    let conn = Conn::new();
    conn.reset();
    let start = Instant::now();
    close(Wire::new(ours, conn)).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(theirs.write_all(b"x").await.is_err());
}
