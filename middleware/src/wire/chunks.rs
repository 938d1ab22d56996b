//! The framing of a chunked body, strictly (RFC 9112 section 7.1).

/// Follows a chunked body through any split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    at: At,
    /// Bytes of extensions and trailers so far.
    extras: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the size: so many digits.
    Size {
        size: u64,
        digits: u8,
    },
    /// In what a chunk's line has behind its size.
    Extension {
        size: u64,
    },
    /// Before the line feed of a chunk's line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// Before the return behind the data, and the line feed.
    DataReturn,
    DataEnd,
    /// At the begin of a line behind the last chunk.
    Trailer,
    /// In one, and before its line feed.
    InTrailer,
    TrailerEnd,
    /// Before the very last line feed.
    LastEnd,
    Over,
}

/// Most bytes of extensions and trailers of a body.
const EXTRAS: usize = 16 * 1024;

impl Chunks {
    pub(super) fn new() -> Self {
        Self {
            at: At::Size { size: 0, digits: 0 },
            extras: 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// Goes on; tells how many of `bytes` belong to the body, or that they cannot.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut pos = 0;
        while let Some(&byte) = bytes.get(pos) {
            self.at = match self.at {
                At::Data { left } => {
                    let here = left.min((bytes.len() - pos) as u64);
                    // At most what is there.
                    pos += here as usize;
                    self.at = match left - here {
                        0 => At::DataReturn,
                        left => At::Data { left },
                    };
                    continue;
                }
                At::Size { size, digits } => match (char::from(byte).to_digit(16), byte) {
                    // Sixteen digits would fill 64 bits.
                    (Some(digit), _) if digits < 15 => At::Size {
                        size: size << 4 | u64::from(digit),
                        digits: digits + 1,
                    },
                    (None, b'\r') if digits > 0 => At::SizeEnd { size },
                    (None, b';') if digits > 0 => self.extra(At::Extension { size })?,
                    _ => return None,
                },
                At::Extension { size } => match byte {
                    b'\r' => At::SizeEnd { size },
                    byte if is_text(byte) => self.extra(At::Extension { size })?,
                    _ => return None,
                },
                At::SizeEnd { size } if byte == b'\n' => match size {
                    0 => At::Trailer,
                    left => At::Data { left },
                },
                At::DataReturn if byte == b'\r' => At::DataEnd,
                At::DataEnd if byte == b'\n' => At::Size { size: 0, digits: 0 },
                At::Trailer if byte == b'\r' => At::LastEnd,
                At::Trailer | At::InTrailer => match byte {
                    b'\r' => At::TrailerEnd,
                    byte if is_text(byte) => self.extra(At::InTrailer)?,
                    _ => return None,
                },
                At::TrailerEnd if byte == b'\n' => At::Trailer,
                At::LastEnd if byte == b'\n' => At::Over,
                At::Over => break,
                _ => return None,
            };
            pos += 1;
        }
        Some(pos)
    }

    fn extra(&mut self, next: At) -> Option<At> {
        self.extras += 1;
        (self.extras <= EXTRAS).then_some(next)
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}
