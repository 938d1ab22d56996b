//! One connection: reads requests, plays their scripts, and sees the peer go.

use std::{io, sync::Arc};

use socket2::{SockRef, Socket};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Duration, Instant},
};

use super::Shared;
use crate::{
    http1::Message,
    script::{self, Framing, Reads, Script, Step},
};

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

pub(super) async fn accept(
    listener: TcpListener,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    shared: Arc<Shared>,
) {
    let mut connections = JoinSet::new();
    loop {
        // Nothing that accept reports on loopback says that the listener is beyond use.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let mut number = 0;
        shared.seen.send_modify(|seen| {
            number = seen.connections;
            seen.connections += 1;
        });
        connections.spawn(connection(
            stream,
            acceptor.clone(),
            Arc::clone(&shared),
            number,
        ));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    shared: Arc<Shared>,
    number: usize,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A second handle on the socket, since the stream itself disappears behind its two halves.
    let socket = SockRef::from(&stream).try_clone()?;
    let wire: Box<dyn Wire> = match acceptor {
        Some(acceptor) => Box::new(acceptor.accept(stream).await?),
        None => Box::new(stream),
    };
    let (reader, writer) = tokio::io::split(wire);
    let mut ear = Ear {
        reader,
        message: Message::request(),
        shared: Arc::clone(&shared),
        exchange: None,
        recorded: false,
    };
    let mut mouth = Mouth {
        writer,
        shared: Arc::clone(&shared),
        exchange: 0,
        framing: Framing::None,
    };
    loop {
        ear.head().await?;
        let (exchange, script) = shared.record(&ear.message, number);
        ear.exchange = Some(exchange);
        ear.recorded = true;
        mouth.exchange = exchange;
        let after = answer(&mut ear, &mut mouth, &script).await?;
        shared.edit(exchange, |exchange| exchange.done = true);
        match after {
            After::Keep => ear.whole().await?,
            After::Close => return mouth.writer.shutdown().await,
            After::Reset => return reset(&socket),
        }
        let rest = ear.message.rest();
        ear.message = Message::request();
        ear.recorded = false;
        ear.message.feed(&rest);
    }
}

/// Plays the script and reads the request as the script says.
async fn answer(ear: &mut Ear, mouth: &mut Mouth, script: &Script) -> io::Result<After> {
    match script.reads {
        Reads::Beside => ear.beside(mouth.play(script)).await,
        Reads::Head => mouth.play(script).await.inspect_err(|_| ear.gone(true)),
        Reads::Whole => {
            ear.whole().await?;
            ear.beside(mouth.play(script)).await
        }
    }
}

/// Makes the close that follows a reset.
fn reset(socket: &Socket) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))
}

/// The reading half: the request, and the peer's going.
struct Ear {
    reader: ReadHalf<Box<dyn Wire>>,
    message: Message,
    shared: Arc<Shared>,
    /// The exchange that was recorded last.
    exchange: Option<usize>,
    /// Whether that is the message being read, and not the one before it.
    recorded: bool,
}

impl Ear {
    /// Reads until the next head is whole. An error says that the connection is over.
    async fn head(&mut self) -> io::Result<()> {
        while self.message.head.is_empty() {
            self.read().await?;
        }
        Ok(())
    }

    async fn whole(&mut self) -> io::Result<()> {
        while self.message.ended.is_none() {
            self.read().await?;
        }
        Ok(())
    }

    /// Runs the future while reading on; the peer's going ends it.
    async fn beside<T>(&mut self, run: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut run = std::pin::pin!(run);
        loop {
            tokio::select! {
                // What is written last must not be lost to a close seen in the same turn.
                biased;
                out = &mut run => return out.inspect_err(|_| self.gone(true)),
                read = self.read() => read?,
            }
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        match self.reader.read(&mut bytes).await {
            Ok(0) => {
                self.gone(false);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(size) => {
                let had = self.message.body.len();
                self.message.feed(&bytes[..size]);
                if let Some(number) = self.exchange.filter(|_| self.recorded) {
                    let (new, ended) = (&self.message.body[had..], self.message.ended);
                    self.shared.edit(number, |exchange| {
                        exchange.body.extend_from_slice(new);
                        exchange.request_ended = ended;
                    });
                }
                Ok(())
            }
            Err(error) => {
                self.gone(true);
                Err(error)
            }
        }
    }

    /// Keeps when the peer went.
    fn gone(&mut self, reset: bool) {
        let (now, had) = (Instant::now(), self.message.rest());
        let in_head = self.message.head.is_empty();
        self.message.finish(reset);
        let ended = self.message.ended;
        self.shared.seen.send_modify(|seen| {
            if in_head && !had.is_empty() {
                seen.broken.push(had);
            }
            if let Some(number) = self.exchange {
                let exchange = &mut seen.exchanges[number];
                exchange.peer_closed.get_or_insert(now);
                exchange.request_ended = exchange.request_ended.or(ended);
            }
        });
    }
}

/// The writing half: the answer.
struct Mouth {
    writer: WriteHalf<Box<dyn Wire>>,
    shared: Arc<Shared>,
    exchange: usize,
    framing: Framing,
}

/// What becomes of the connection when a script is over.
enum After {
    Close,
    Keep,
    Reset,
}

impl Mouth {
    async fn play(&mut self, script: &Script) -> io::Result<After> {
        for step in &script.steps {
            match step {
                Step::Body { bytes, split } => {
                    for piece in split.pieces(bytes) {
                        self.piece(piece).await?;
                    }
                }
                Step::End => {
                    if self.framing == Framing::Chunked {
                        self.write(b"0\r\n\r\n", 0..0).await?;
                    }
                    let keep = matches!(self.framing, Framing::Chunked | Framing::Length(_));
                    return Ok(if keep { After::Keep } else { After::Close });
                }
                Step::Fin => return Ok(After::Close),
                Step::Head {
                    status,
                    headers,
                    framing,
                } => {
                    self.framing = *framing;
                    let head = script::head(*status, headers, *framing, script.body_len());
                    self.write(&head, 0..0).await?;
                }
                Step::Raw(bytes) => self.write(bytes, 0..0).await?,
                Step::Rst => return Ok(After::Reset),
                Step::Sleep(time) => tokio::time::sleep(*time).await,
                Step::Stall => std::future::pending().await,
                Step::Wait(gate) => gate.pass().await,
            }
        }
        Ok(After::Close)
    }

    async fn piece(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.framing != Framing::Chunked {
            return self.write(piece, 0..piece.len()).await;
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        let start = chunk.len();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk, start..start + piece.len()).await
    }

    /// Writes all bytes; those in `body` count as body bytes as soon as the socket took them.
    async fn write(&mut self, bytes: &[u8], body: std::ops::Range<usize>) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let took = self.writer.write(&bytes[at..]).await?;
            if took == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let part = |at: usize| at.clamp(body.start, body.end);
            let wrote = part(at + took) - part(at);
            at += took;
            self.shared.edit(self.exchange, |exchange| {
                exchange.sent += took;
                exchange.wrote += wrote;
            });
        }
        self.writer.flush().await?;
        // Gives the peer a turn, so that pieces have a chance to arrive apart.
        tokio::task::yield_now().await;
        Ok(())
    }
}
