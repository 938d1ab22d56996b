//! Where the events of a stream end, so that each can be kept apart.

use super::line::{Field, Line, Mark, classify, split};

/// Cuts an event stream at every place where an event put in would stand alone.
///
/// A block is an event with its blank line, or one line that belongs to none: a comment, a field that nobody knows, a blank
/// line. All blocks together are the stream, byte for byte, whatever frames it came in. Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Blocks {
    mark: Mark,
    line: Line,
    /// The last byte was a CR that ended a line.
    after_cr: bool,
    /// A line that matters to an event has come.
    pending: bool,
}

/// The name and the data of a block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found<'a> {
    pub(crate) name: &'a [u8],
    /// Of its first data line.
    pub(crate) data: Option<&'a [u8]>,
    /// There are more.
    pub(crate) more: bool,
}

// ===== impl Blocks =====

impl Blocks {
    /// Takes the next bytes up to the end of the block at hand, and says how many these are; none if its end is not in them:
    /// then all were taken.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = self.mark.skip(bytes, &mut self.line);
        if rest.is_empty() {
            return None;
        }
        if std::mem::take(&mut self.after_cr)
            && let Some(after) = rest.strip_prefix(b"\n")
        {
            if !self.pending && self.line == Line::Start {
                // The block has ended before the second half of its line end.
                return Some(bytes.len() - after.len());
            }
            rest = after;
        }
        while let Some((line, after)) = split(rest) {
            self.after_cr = after.is_empty() && rest.ends_with(b"\r");
            let field = if self.line == Line::Start {
                (!line.is_empty()).then(|| classify(line).0)
            } else {
                self.line.extend(line);
                std::mem::take(&mut self.line).end()
            };
            rest = after;
            match field {
                Some(Field::Data | Field::Event | Field::Id) => self.pending = true,
                Some(Field::Ignored) if self.pending => {}
                None | Some(Field::Ignored) => {
                    self.pending = false;
                    return Some(bytes.len() - rest.len());
                }
            }
        }
        self.line.extend(rest);
        None
    }
}

/// The lines of one block, given all of it.
pub(crate) fn read(block: &[u8]) -> Found<'_> {
    let mut found = Found::default();
    lines(block, |field, value| match field {
        Field::Data if found.data.is_some() => found.more = true,
        Field::Data => found.data = Some(value),
        Field::Event => found.name = value,
        Field::Id | Field::Ignored => {}
    });
    found
}

/// The data of a block that has several data lines, joined by line feeds into `data`; `places` says for each line where it
/// begins there and where in the block.
pub(crate) fn join(block: &[u8], data: &mut Vec<u8>, places: &mut Vec<(usize, usize)>) {
    data.clear();
    places.clear();
    let base = block.as_ptr().addr();
    lines(block, |field, value| {
        if field == Field::Data {
            if !places.is_empty() {
                data.push(b'\n');
            }
            // A line without a value lies nowhere; nothing in it is asked for.
            places.push((data.len(), value.as_ptr().addr().wrapping_sub(base)));
            data.extend_from_slice(value);
        }
    });
}

fn lines<'a>(block: &'a [u8], mut on: impl FnMut(Field, &'a [u8])) {
    let mut rest = block.strip_prefix(b"\xef\xbb\xbf").unwrap_or(block);
    while !rest.is_empty() {
        let (line, after) = split(rest).unwrap_or((rest, &[]));
        rest = after;
        let (field, value) = classify(line);
        on(field, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sse::Scanner;

    fn blocks<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (mut cutter, mut told, mut open) = (Blocks::default(), Vec::new(), Vec::new());
        for mut piece in pieces {
            while !piece.is_empty() {
                match cutter.take(piece) {
                    Some(length) => {
                        open.extend_from_slice(&piece[..length]);
                        told.push(std::mem::take(&mut open));
                        piece = &piece[length..];
                    }
                    None => {
                        open.extend_from_slice(piece);
                        break;
                    }
                }
            }
        }
        (told, open)
    }

    /// As the scanner tells them.
    fn events(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut scanner, mut told) = (Scanner::default(), Vec::new());
        scanner.feed(body, |event| {
            told.push((event.name.to_vec(), event.data.to_vec()));
        });
        told
    }

    #[test]
    fn a_comment_is_a_block_of_its_own_and_an_event_goes_to_its_blank_line() {
        let body = b": one\n: two\n\nevent: a\n: three\ndata: x\n\nid: 7\nretry: 3\n\n";
        let (told, open) = blocks([&body[..]]);
        let expected: [&[u8]; 5] = [
            b": one\n",
            b": two\n",
            b"\n",
            b"event: a\n: three\ndata: x\n\n",
            b"id: 7\nretry: 3\n\n",
        ];
        assert_eq!(
            (told, open),
            (expected.map(<[u8]>::to_vec).to_vec(), Vec::new())
        );
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let line = prop::sample::select(vec![
            "data: {\"a\":1}",
            "data:",
            "data",
            ": c",
            "event: x",
            "id: 1",
            "dat",
            "",
            "",
            "",
            "\u{feff}data: y",
        ]);
        let end = prop::sample::select(vec!["\n", "\r", "\r\n"]);
        let lines = prop::collection::vec((line, end), 0..14);
        (any::<bool>(), lines).prop_map(|(mark, lines)| {
            let lines = lines.into_iter().map(|(line, end)| format!("{line}{end}"));
            let mark = if mark { "\u{feff}" } else { "" };
            (mark.to_owned() + &lines.collect::<String>()).into_bytes()
        })
    }

    proptest! {
        #[test]
        fn each_event_is_one_block_for_any_split(body in stream(), size in 1usize..30) {
            let (told, open) = blocks(body.chunks(size));
            prop_assert_eq!(&[told.concat(), open].concat(), &body);
            // Together with a mark, which opens nothing but a stream.
            let mut seen = Vec::new();
            for block in &told {
                let found = read(block);
                let mut data = found.data.unwrap_or_default().to_vec();
                if found.more {
                    let mut places = Vec::new();
                    join(block, &mut data, &mut places);
                    for (at, from) in places {
                        let end = data[at..].iter().position(|byte| *byte == b'\n').unwrap_or(data.len() - at);
                        prop_assert!(end == 0 || block[from..from + end] == data[at..at + end]);
                    }
                }
                if found.data.is_some() && !block.is_empty() {
                    seen.push((found.name.to_vec(), data));
                }
            }
            prop_assume!(!body.get(1..).unwrap_or_default().windows(3).any(|three| three == b"\xef\xbb\xbf"));
            prop_assert_eq!(seen, events(&body));
        }
    }
}
