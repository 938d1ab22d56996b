//! Several expressions at once.

use std::ops::Range;

use super::{
    pattern::{Here, Needs, Pattern},
    rules::RuleIndex,
    text::{Candidate, Text},
};

/// Expressions of one action.
#[derive(Debug)]
pub(super) struct Patterns {
    all: Vec<(Pattern, RuleIndex)>,
    /// Which of them may stand behind each byte, then which may have it in their first three places; one bit for each.
    behind: Box<[u64; 256]>,
    heads: Box<[[u64; 256]; 3]>,
    /// Of some that begin with much, what they need.
    needs: Vec<(u64, Needs)>,
}

/// What sleeps: expressions that cannot begin before some place.
#[derive(Clone, Copy, Debug)]
struct Sleep {
    /// Their bits.
    asleep: u64,
    /// Where the first of them wakes.
    next: usize,
    /// Where each wakes, and how far that was looked at.
    until: [(usize, usize); NEEDY],
}

// ===== impl Patterns =====

impl Patterns {
    /// Up to [`MOST`](Self::MOST) expressions.
    pub(super) fn new(all: Vec<(Pattern, RuleIndex)>) -> Self {
        let mut behind = Box::new([0; 256]);
        let mut heads = Box::new([[0; 256]; 3]);
        let mut needs = Vec::new();
        for (bit, (pattern, _)) in all.iter().enumerate() {
            let own = pattern.heads();
            for byte in 0..=u8::MAX {
                let at = usize::from(byte);
                behind[at] |= u64::from(pattern.stands_behind(byte)) << bit;
                for (head, own) in heads.iter_mut().zip(&own) {
                    head[at] |= u64::from(own[at]) << bit;
                }
            }
            let begins = own[0].iter().filter(|may| **may).count();
            if begins >= MANY
                && needs.len() < NEEDY
                && let Some(need) = pattern.needs()
            {
                needs.push((1 << bit, need));
            }
        }
        Self {
            all,
            behind,
            heads,
            needs,
        }
    }

    /// How many expressions are searched for in one pass.
    pub(super) const MOST: usize = 64;

    /// The leftmost match from `from` on, of those that begin together the longest; or the place where one may begin and
    /// what follows decides, if that comes before.
    pub(super) fn next(&self, text: Text<'_>, from: usize) -> Option<Candidate> {
        let length = text.text.len();
        let mut sleep = Sleep::default();
        let mut at = from;
        while at < length {
            let end = sleep.next.min(length);
            let Some((place, left)) = self.begin(text, at..end, !sleep.asleep) else {
                sleep.wake(end, &self.needs);
                at = end;
                continue;
            };
            let left = self.awake(text, place, left, &mut sleep);
            let found = self.here(text, place, left);
            if found.is_some() {
                return found;
            }
            at = place + 1;
        }
        None
    }

    /// The first place of these where one of these may begin, and which.
    fn begin(&self, text: Text<'_>, places: Range<usize>, which: u64) -> Option<(usize, u64)> {
        let bytes = text.text.as_bytes();
        let [first, second, third] = &*self.heads;
        // Up to here three bytes are what they will be, and there is one before them.
        let sure = text
            .sure()
            .saturating_sub(2)
            .clamp(places.start, places.end);
        let fast = places.start.max(1)..sure;
        if which == 0 {
            return None;
        }
        let slow = |mut all: Range<usize>| {
            all.find_map(|at| Some((at, self.may_begin(text, at) & which)).filter(|it| it.1 != 0))
        };
        if fast.is_empty() {
            return slow(places);
        }
        slow(places.start..fast.start)
            .or_else(|| {
                let windows = bytes[fast.start - 1..fast.end + 2].array_windows();
                let mut all = windows.map(|[before, one, two, three]| {
                    self.behind[usize::from(*before)]
                        & first[usize::from(*one)]
                        & second[usize::from(*two)]
                        & third[usize::from(*three)]
                        & which
                });
                let at = all.clone().position(|left| left != 0)?;
                Some((fast.start + at, all.nth(at)?))
            })
            .or_else(|| slow(fast.end..places.end))
    }

    /// Which may begin at a place anywhere in the text.
    fn may_begin(&self, text: Text<'_>, at: usize) -> u64 {
        let bytes = text.text.as_bytes();
        // It may still become something else.
        let mut left = match text.grown {
            Some(grown) if grown.at == at => u64::MAX >> (Self::MOST - self.all.len()),
            _ => self.heads[0][usize::from(bytes[at])],
        };
        let before = match at.checked_sub(1) {
            Some(before) => Some(bytes[before]),
            None => text.before.last.and_then(|char| u8::try_from(char).ok()),
        };
        if let Some(before) = before.filter(u8::is_ascii) {
            left &= self.behind[usize::from(before)];
        }
        for place in 1..self.heads.len() {
            if at + place < text.sure() {
                left &= self.heads[place][usize::from(bytes[at + place])];
            }
        }
        left
    }

    /// Those of them that what they need is near enough for; the others sleep.
    fn awake(&self, text: Text<'_>, at: usize, mut left: u64, sleep: &mut Sleep) -> u64 {
        for ((bit, needs), until) in self.needs.iter().zip(&mut sleep.until) {
            if left & bit == 0 || at < until.1 || at >= text.sure() {
                continue;
            }
            *until = near(needs, text, at);
            if until.0 > at {
                left &= !bit;
                sleep.asleep |= bit;
                sleep.next = sleep.next.min(until.0);
            }
        }
        left
    }

    /// What comes of those at a place.
    fn here(&self, text: Text<'_>, at: usize, mut left: u64) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        while left != 0 {
            let (pattern, rule) = &self.all[left.trailing_zeros() as usize];
            left &= left - 1;
            match pattern.here(text, at) {
                Here::Open => return Some(Candidate::open(at)),
                Here::Matches(end) if best.is_none_or(|best| best.end < Some(end)) => {
                    best = Some(Candidate {
                        start: at,
                        end: Some(end),
                        rule: *rule,
                    });
                }
                Here::Nothing | Here::Matches(_) => {}
            }
        }
        best
    }
}

// ===== impl Sleep =====

impl Sleep {
    /// Those wake whose place has come.
    fn wake(&mut self, at: usize, needs: &[(u64, Needs)]) {
        self.next = usize::MAX;
        for ((bit, _), (wakes, _)) in needs.iter().zip(&self.until) {
            if *wakes <= at {
                self.asleep &= !bit;
            } else if self.asleep & bit != 0 {
                self.next = self.next.min(*wakes);
            }
        }
    }
}

impl Default for Sleep {
    fn default() -> Self {
        Self {
            asleep: 0,
            next: usize::MAX,
            until: [(0, 0); NEEDY],
        }
    }
}

/// The first place from `at` on where what needs this may begin, as far as is looked, and how far that is. Both are at least
/// `at`.
///
/// Looked at is only what is near: what is asked for again behind each match is not looked at again from far away.
fn near(needs: &Needs, text: Text<'_>, at: usize) -> (usize, usize) {
    let bytes = text.text.as_bytes();
    let sure = text.sure();
    let far = sure.min(at + NEAR);
    let found = memchr::memchr(needs.byte, &bytes[at..far]).map(|found| at + found);
    if found.is_none() && far == sure && text.over && text.grown.is_none() {
        return (bytes.len(), bytes.len());
    }
    // What begins before what cannot stand before the byte does not come to it, nor to the end of what has come.
    let end = found.unwrap_or(far);
    let stops = |byte: &u8| !needs.before[usize::from(*byte)];
    let run = bytes[at..end].iter().rposition(stops);
    (run.map_or(at, |stop| at + stop + 1), end + 1)
}

/// So many expressions can sleep,
const NEEDY: usize = 8;
/// of those that begin with so many bytes or more.
const MANY: usize = 20;
/// How far is looked for what an expression needs, in bytes.
const NEAR: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::word_filter::{entities::Entity, normal::Grown, text::Before};

    /// What is found by trying every expression everywhere.
    fn naive(all: &Patterns, text: Text<'_>, from: usize) -> Option<Candidate> {
        let mut places = (from..text.text.len()).filter(|at| text.text.is_char_boundary(*at));
        let every = u64::MAX >> (Patterns::MOST - all.all.len());
        places.find_map(|at| all.here(text, at, every))
    }

    fn patterns(entities: &[Entity], more: &[&str]) -> Patterns {
        let entities = entities.iter().map(|it| it.patterns(128));
        let entities = entities.flat_map(|made| made.expect("entities are searched for"));
        let more = more.iter().map(|of| Pattern::new(of, true, 128));
        let more = more.map(|made| made.expect("the test's are searched for"));
        let all = entities.chain(more);
        Patterns::new(all.zip((0..).map(RuleIndex)).collect())
    }

    #[test]
    fn what_an_address_needs_is_known_and_what_stands_before_it() {
        let all = patterns(&Entity::ALL, &[r"(?i)id\w*=\d", "a|b@"]);
        let known: Vec<u8> = all.needs.iter().map(|(_, needs)| needs.byte).collect();
        // Of an IPv6 address and an e-mail address; all else begins with few bytes.
        assert_eq!(known, *b"@:");
        let before = all.needs[0].1.before;
        assert!(before[usize::from(b'x')] && before[usize::from(b'.')]);
        assert!(!before[usize::from(b' ')] && !before[usize::from(b'@')] && !before[0xc3]);
    }

    const MORE: [&str; 8] = [
        "ab?",
        "é+",
        r"\bb\w+@",
        r"(?i)[a-z]+=\d",
        ".[:@]",
        r"[^a]+:",
        "a{2,}$",
        r"(?u:\b)c\W",
    ];

    /// Each alone, all of a kind, and all.
    static SETS: LazyLock<Vec<Patterns>> = LazyLock::new(|| {
        let entities = Entity::ALL.iter().map(|it| patterns(&[*it], &[]));
        let more = MORE.iter().map(|it| patterns(&[], &[*it]));
        let all = [
            (&[][..], &MORE[..]),
            (&Entity::ALL, &[]),
            (&Entity::ALL, &MORE),
        ];
        let all = all.map(|(entities, more)| patterns(entities, more));
        entities.chain(more).chain(all).collect()
    });

    /// Text from which much begins and some of which is something.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            3 => "[a-cé@:. +(-]{1,4}",
            2 => "[0-9]{1,4}[- .:]?",
            1 => prop::sample::select(vec![
                "a.b@c.example", "sk-", "AKIA", "ghp_", "4111 1111 1111 1111", "192.0.2.1", "2001:db8::1", "078-05-1120",
                "DE89370400440532013000", "+49 30 1234567", "(212) 555-0123", "eyJ", "漢", "x=1", "id", "ab",
            ]).prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|all| all.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// No place is passed over where something begins.
        #[test]
        fn the_same_is_found_as_by_trying_everything_everywhere(
            text in texts(),
            gap in prop_oneof![4 => Just(0), 1 => 1000..1100_usize],
            from in any::<prop::sample::Index>(),
            which in any::<prop::sample::Index>(),
            before in prop::sample::select(vec![None, Some('a'), Some('é'), Some(' '), Some('+')]),
            over in any::<bool>(),
            grows in any::<bool>(),
        ) {
            let all = which.get(&SETS);
            let text = format!("{}{text}", "a ".repeat(gap / 2) + &"b".repeat(gap / 2));
            let last = text.char_indices().next_back();
            let grown = last.filter(|_| grows && !over).map(|(at, char)| Grown::new(at, [char]));
            let from = text.floor_char_boundary(from.index(text.len() + 1));
            let before = Before { last: before, base: before };
            let text = Text { text: &text, before, over, grown: grown.as_ref() };
            prop_assert_eq!(all.next(text, from), naive(all, text, from));
        }
    }
}
