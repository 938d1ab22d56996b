//! How a socket is written to: a head, a frame and what stands around it are pieces of one message.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;

/// Writes pieces that lie in different places to a plain socket.
///
/// Few bytes are put together first: for a list of pieces the system takes longer than copying them does.
pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
    socket: &mut S,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut some = pieces.iter().filter(|piece| !piece.is_empty());
    match (some.next(), some.next()) {
        (Some(only), None) => return Pin::new(socket).poll_write(cx, only),
        (None, _) => return Pin::new(socket).poll_write(cx, &[]),
        _ => {}
    }
    let all = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    if all > FEW {
        return Pin::new(socket).poll_write_vectored(cx, pieces);
    }
    TOGETHER.with_borrow_mut(|together| {
        together.clear();
        for piece in pieces {
            together.extend_from_slice(piece);
        }
        Pin::new(socket).poll_write(cx, together)
    })
}

thread_local! {
    // Grows to FEW and stays: one for each worker, not for each connection.
    static TOGETHER: RefCell<Vec<u8>> = RefCell::default();
}

/// Bytes that are put together.
const FEW: usize = 4096;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes at most so many bytes at once, and keeps them with the number of pieces that they came in.
    struct Taker(Mutex<Vec<(usize, Vec<u8>)>>, usize);

    impl AsyncWrite for Taker {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = &bytes[..bytes.len().min(self.1)];
            self.0.lock().unwrap().push((1, taken.to_vec()));
            Poll::Ready(Ok(taken.len()))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            let taken = &all[..all.len().min(self.1)];
            self.0.lock().unwrap().push((pieces.len(), taken.to_vec()));
            Poll::Ready(Ok(taken.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn written(pieces: &[&[u8]], at_once: usize) -> (usize, usize, Vec<u8>) {
        let mut taker = Taker(Mutex::default(), at_once);
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let polled = poll_write(
            &mut taker,
            &mut Context::from_waker(std::task::Waker::noop()),
            &slices,
        );
        let Poll::Ready(Ok(count)) = polled else {
            panic!("{polled:?}");
        };
        let (pieces, bytes) = taker.0.into_inner().unwrap().pop().unwrap();
        (count, pieces, bytes)
    }

    #[test]
    fn few_bytes_are_written_as_one_piece() {
        let all = (12, 1, b"headbodytail".to_vec());
        assert_eq!(written(&[b"head", b"", b"body", b"tail"], 100), all);
    }

    #[test]
    fn a_single_piece_is_written_as_it_is_whatever_its_size() {
        let large = vec![7; 10 * FEW];
        assert_eq!(
            written(&[b"", &large], large.len()),
            (large.len(), 1, large)
        );
    }

    #[test]
    fn many_bytes_stay_where_they_are() {
        let large = vec![7; FEW];
        let (count, pieces, _) = written(&[b"head", &large], usize::MAX);
        assert_eq!((count, pieces), (FEW + 4, 2));
    }

    #[test]
    fn what_was_taken_is_what_was_there_first() {
        assert_eq!(written(&[b"head", b"body"], 6), (6, 1, b"headbo".to_vec()));
        assert_eq!(written(&[], 6), (0, 1, vec![]));
    }
}
