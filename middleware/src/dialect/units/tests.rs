use proptest::prelude::*;

use super::*;
use crate::dialect::recordings;

/// The units of a body in these pieces, and the bytes behind the last one.
fn cut<'p>(
    framing: Framing,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut units, mut told, mut open) = (Units::new(framing), Vec::new(), Vec::new());
    for mut piece in pieces {
        while !piece.is_empty() {
            match units.take(piece) {
                Step::Ends(length) => {
                    open.extend_from_slice(&piece[..length]);
                    told.push(std::mem::take(&mut open));
                    piece = &piece[length..];
                }
                Step::GoesOn => {
                    open.extend_from_slice(piece);
                    break;
                }
                Step::Broken => return (told, open),
            }
        }
    }
    (told, open)
}

fn data(framing: Framing, unit: &[u8]) -> Option<String> {
    let mut scratch = Scratch::default();
    let carried = carried(framing, false, unit, &mut scratch)?;
    Some(String::from_utf8_lossy(carried.data).into_owned())
}

#[test]
fn an_element_of_an_array_is_a_unit_as_soon_as_its_last_bracket_is_there() {
    let body = br#"[{"a":"]},\"["}
, {"b":[1,{}]},7,"x,y" ] "#;
    let (units, open) = cut(Framing::Array, [&body[..]]);
    let seen: Vec<_> = units
        .iter()
        .filter_map(|unit| data(Framing::Array, unit))
        .collect();
    assert_eq!(
        (seen, open),
        (
            [r#"{"a":"]},\"["}"#, r#"{"b":[1,{}]}"#, "7,", r#""x,y" ]"#]
                .map(str::to_owned)
                .to_vec(),
            Vec::new()
        )
    );
    // Nothing that stands between elements waits for the next one.
    let (units, open) = cut(Framing::Array, [&b"["[..], b"{}", b"\n", b",", b"{}", b"]"]);
    assert_eq!((units.len(), open.len()), (6, 0));
}

#[test]
fn all_units_together_are_the_recording() {
    let mut seen = 0;
    for recording in recordings::all() {
        let framing = match recording.framing() {
            Framing::Document if recording.stream => Framing::Sse,
            framing => framing,
        };
        for size in [1, 64, recording.body.len().max(1)] {
            let (units, open) = cut(framing, recording.body.chunks(size));
            assert!(
                [units.concat(), open].concat() == recording.body,
                "{}",
                recording.name
            );
            seen += units.len();
        }
    }
    assert!(seen > 1000, "{seen} units");
}

#[test]
fn a_message_is_rebuilt_as_its_provider_would_have_built_it() {
    let mut seen = 0;
    for recording in recordings::all() {
        if recording.framing() != Framing::EventStream {
            continue;
        }
        for unit in cut(Framing::EventStream, [&recording.body[..]]).0 {
            let payload = eventstream::whole(&unit).expect("a message").payload;
            assert_eq!(rebuilt(&unit, payload), unit, "{}", recording.name);
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} messages");
}

#[test]
fn base64_is_written_as_it_is_read() {
    for length in 0..20_u8 {
        let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(41)).collect();
        let mut text = Vec::new();
        eventstream::base64_into(&bytes, &mut text);
        assert_eq!(text.len() % 4, 0);
        let payload = [b"{\"bytes\":\"", &text[..], b"\"}"].concat();
        assert_eq!(eventstream::invoked(&payload).as_deref(), Some(&bytes[..]));
    }
}

#[test]
fn what_is_no_message_breaks_the_stream() {
    assert_eq!(
        Units::new(Framing::EventStream).take(b"\0\0\0\x0f"),
        Step::Broken
    );
    assert_eq!(
        Units::new(Framing::EventStream).take(b"\0\0\0"),
        Step::GoesOn
    );
}

proptest! {
    #[test]
    fn units_are_the_same_in_any_pieces(
        body in prop::collection::vec(prop::sample::select(b"[]{},:\"\\\n\r data\0\x10".to_vec()), 0..80),
        size in 1usize..20,
        framing in prop::sample::select(vec![Framing::Sse, Framing::Lines, Framing::EventStream, Framing::Document]),
    ) {
        let whole = cut(framing, [&body[..]]);
        let parts = cut(framing, body.chunks(size));
        prop_assert_eq!([parts.0.concat(), parts.1].concat().len(), [whole.0.concat(), whole.1].concat().len());
        // A line end in two halves may be two units; each event is one.
        let events = |units: &[Vec<u8>]| units.iter().filter_map(|unit| data(framing, unit)).collect::<Vec<_>>();
        if framing == Framing::Sse {
            prop_assert_eq!(events(&parts.0), events(&whole.0));
        } else {
            prop_assert_eq!(parts.0, whole.0);
        }
    }
}
