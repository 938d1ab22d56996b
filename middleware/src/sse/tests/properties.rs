//! Any bytes in any split, against a reference that has all the bytes at once.

use proptest::{collection::vec, prelude::*, sample::Index};
use sseer::parser::{RawEventLine, parse_line};

use super::{CAP, Owned, Seen, scan};

/// Streams made of what the rules look at, in any order.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        &b"data"[..],
        b"data:",
        b"data: ",
        b"data: a\n",
        b"data:b\r\n",
        b"event",
        b"event: x\n",
        b"event:",
        b"event: y\r\n",
        b"id: 1\n",
        b"id",
        b"id\r",
        b"retry: 5\n",
        b": c\n",
        b": c\r\n",
        b":",
        b"foo: bar\n",
        b" ",
        b"x",
        b"d",
        b"ev",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"\r\r",
        b"\xef\xbb\xbf",
        b"\xef",
        b"\xef\xbb",
        b"\0",
        b"\xff",
    ]);
    let mark = prop_oneof![4 => Just(&b""[..]), 1 => Just(&b"\xef\xbb\xbf"[..]), 1 => Just(&b"\xef\xbb"[..])];
    (mark, vec(token, 0..24)).prop_map(|(mark, tokens)| [mark, &tokens.concat()].concat())
}

/// The rules read literally, over the whole stream; sseer takes the lines apart.
fn reference(stream: &[u8]) -> Seen {
    let mut rest = stream
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(stream)
        .to_vec();
    let ends = rest.is_empty() || matches!(rest.last(), Some(b'\n' | b'\r'));
    // The parser waits for what follows a CR, and for the end of the last line.
    let phantom = if rest.last() == Some(&b'\r') || !ends {
        &b"\n"[..]
    } else {
        b""
    };
    rest.extend_from_slice(phantom);
    let mut rest = rest.as_slice();

    let mut seen = Seen {
        events: Vec::new(),
        dispatched: 0,
        at_boundary: true,
        tail: None,
    };
    let (mut name, mut lines, mut pending) = (Vec::new(), Vec::<Vec<u8>>::new(), false);
    while let Some((line, after)) = parse_line(rest) {
        rest = after;
        match line {
            RawEventLine::Empty => {
                if !lines.is_empty() {
                    seen.events.push(event(&name, &lines));
                }
                (name, lines, pending) = (Vec::new(), Vec::new(), false);
            }
            RawEventLine::Field {
                field_name,
                field_value,
            } => {
                let value = field_value.unwrap_or_default().to_vec();
                match field_name {
                    b"data" => lines.push(value),
                    b"event" => name = value,
                    b"id" => {}
                    _ => continue,
                }
                pending = true;
            }
            RawEventLine::Comment => {}
        }
    }
    seen.dispatched = seen.events.len() as u64;
    seen.at_boundary = ends && !pending;
    seen.tail = Some(event(&name, &lines)).filter(|tail| !tail.data.is_empty());
    seen
}

fn event(name: &[u8], lines: &[Vec<u8>]) -> Owned {
    Owned {
        name: name.escape_ascii().to_string(),
        data: lines.join(&b'\n').escape_ascii().to_string(),
        truncated: false,
    }
}

/// The stream cut at some places; the same place twice gives an empty frame.
fn pieces<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_split_gives_what_the_rules_say(stream in stream(), cuts in vec(any::<Index>(), 0..6)) {
        let expected = reference(&stream);
        prop_assert_eq!(&scan(CAP, [stream.as_slice()]), &expected);
        prop_assert_eq!(&scan(CAP, stream.chunks(1)), &expected);
        prop_assert_eq!(&scan(CAP, pieces(&stream, &cuts)), &expected);
        for cut in 0..=stream.len() {
            prop_assert_eq!(&scan(CAP, [&stream[..cut], &stream[cut..]]), &expected, "cut at {}", cut);
        }
    }

    #[test]
    fn every_split_is_cut_alike_over_a_small_cap(stream in stream(), cap in 0..6_usize) {
        let whole = scan(cap, [stream.as_slice()]);
        let plain = reference(&stream);
        prop_assert_eq!(whole.events.len(), plain.events.len());
        prop_assert_eq!(whole.at_boundary, plain.at_boundary);
        for (ours, theirs) in whole.events.iter().zip(&plain.events) {
            prop_assert!(theirs.data.starts_with(&ours.data));
            prop_assert_eq!(ours.truncated, ours.data != theirs.data);
        }
        for cut in 0..=stream.len() {
            prop_assert_eq!(&scan(cap, [&stream[..cut], &stream[cut..]]), &whole, "cut at {}", cut);
        }
    }
}
