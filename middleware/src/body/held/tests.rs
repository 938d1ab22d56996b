use super::*;
use http_body_util::{BodyExt, Empty, Full};
use proptest::prelude::*;

type Plain = Held<Empty<Bytes>>;

fn sent<B>(body: Held<B>) -> Vec<u8>
where
    B: Body<Data = Bytes, Error = std::convert::Infallible>,
{
    let announced = body.size_hint().exact();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let bytes = runtime.block_on(body.collect()).unwrap().to_bytes();
    assert_eq!(announced, Some(bytes.len() as u64));
    bytes.into()
}

fn frames(text: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| Bytes::copy_from_slice(&text[pair[0]..pair[1]]))
        .collect()
}

#[test]
fn what_was_not_read_follows_what_was() {
    let body = Held::begun([Bytes::from("read ")], Full::new(Bytes::from("and unread")));
    assert!(!body.is_whole() && body.replay().is_none());
    assert_eq!(sent(body), b"read and unread");
}

#[test]
fn what_was_read_is_edited_and_what_was_not_follows() {
    let mut body = Held::begun(
        [Bytes::from("one "), Bytes::from("two ")],
        Full::new(Bytes::from("and unread")),
    );
    body.edit(4..7, "zwei");
    assert_eq!((body.edited_len(18), body.edited_len(7)), (Some(19), None));
    assert_eq!(sent(body), b"one zwei and unread");
}

#[test]
fn an_edit_of_the_same_span_replaces_the_earlier_one() {
    let mut body = Plain::whole([Bytes::from("one two")]);
    body.edit(0..3, "1");
    body.edit(0..3, "eins");
    assert_eq!(sent(body), b"eins two");
}

#[test]
fn insertions_at_one_place_stay_in_order_also_at_the_very_end() {
    let mut body = Plain::whole([Bytes::from("ab"), Bytes::from("cd")]);
    for (at, with) in [(4, "X"), (4, "Y"), (2, "m"), (0, "^")] {
        body.edit(at..at, with);
    }
    assert_eq!(sent(body), b"^abmcdXY");
}

/// U10: what is beyond the replay limit is released as it goes.
#[test]
fn a_frame_that_was_sent_is_let_go_of_unless_a_spare_keeps_it() {
    struct Watched {
        text: Vec<u8>,
        _life: Arc<()>,
    }
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &self.text
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let life = Arc::new(());
    let frame = |text: &str| {
        Bytes::from_owner(Watched {
            text: text.into(),
            _life: life.clone(),
        })
    };
    for count in [1, 2] {
        let frames = ["one ", "two"].into_iter().take(count).map(frame);
        let mut body = Plain::whole(frames);
        drop(runtime.block_on(body.frame()));
        assert_eq!(Arc::strong_count(&life), count, "the first one is gone");
        drop(body);
    }
    let mut body = Plain::whole([frame("one "), frame("two")]);
    let spare = body.spare().expect("nothing was sent");
    while runtime.block_on(body.frame()).is_some() {}
    assert_eq!(sent(spare.into_body::<Empty<Bytes>>()), b"one two");
    drop(body);
    assert_eq!(Arc::strong_count(&life), 1);
}

#[test]
fn a_body_that_was_sent_is_not_sent_again() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut body = Plain::whole([Bytes::from("x")]);
    runtime.block_on(body.frame());
    assert!(body.replay().is_none());
}

#[test]
#[should_panic(expected = "an edit inside another edit")]
fn overlapping_edits_are_a_bug() {
    let mut body = Plain::whole([Bytes::from("abcdef")]);
    body.edit(1..4, "");
    body.edit(2..5, "");
}

proptest! {
    #[test]
    fn edits_change_their_spans_and_nothing_else_for_any_split(
        text in "[a-z]{1,60}",
        cuts in proptest::collection::vec(any::<usize>(), 0..5),
        marks in proptest::collection::btree_set(0usize..60, 0..8),
        with in "[A-Z]{0,5}",
    ) {
        let marks: Vec<_> = marks.into_iter().filter(|mark| *mark <= text.len()).collect();
        let mut body = Plain::whole(frames(text.as_bytes(), &cuts));
        let mut expected = text;
        for pair in marks.chunks_exact(2).rev() {
            body.edit(pair[0]..pair[1], with.clone());
            expected.replace_range(pair[0]..pair[1], &with);
        }
        prop_assert_eq!(sent(body.replay().unwrap()), expected.as_bytes());
        prop_assert_eq!(sent(body), expected.as_bytes());
    }
}
