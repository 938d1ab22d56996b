//! The characters that an expression tells apart.

use regex_syntax::hir::ClassUnicode;

/// Every character has a class; those of one class are in the same of the sets that it was made of.
#[derive(Debug)]
pub(super) struct Classes {
    ascii: [u16; 128],
    /// Where each run of one class begins, in order.
    runs: Vec<(u32, u16)>,
    /// A character of each class.
    examples: Vec<char>,
}

impl Classes {
    pub(super) fn new(sets: &[ClassUnicode]) -> Self {
        let ranges = || sets.iter().flat_map(|set| set.ranges());
        let mut starts: Vec<u32> = vec![0];
        for range in ranges() {
            starts.push(range.start().into());
            starts.push(u32::from(range.end()) + 1);
        }
        starts.retain(|start| *start <= char::MAX.into());
        starts.sort_unstable();
        starts.dedup();
        let mut kinds: Vec<Vec<bool>> = Vec::new();
        let mut runs: Vec<(u32, u16)> = Vec::new();
        let mut examples = Vec::new();
        for start in starts {
            // Between the surrogates no character is.
            let Some(char) = char::from_u32(start).or_else(|| char::from_u32(0xe000)) else {
                continue;
            };
            let kind: Vec<bool> = sets.iter().map(|set| contains(set, char)).collect();
            let class = kinds.iter().position(|known| *known == kind);
            let class = class.unwrap_or_else(|| {
                kinds.push(kind);
                examples.push(char);
                kinds.len() - 1
            });
            let class = u16::try_from(class).unwrap_or(u16::MAX);
            if runs.last().is_none_or(|(_, last)| *last != class) {
                runs.push((start, class));
            }
        }
        let mut classes = Self {
            ascii: [0; 128],
            runs,
            examples,
        };
        for byte in 0..128_u8 {
            classes.ascii[usize::from(byte)] = classes.of_run(byte.into());
        }
        classes
    }

    pub(super) fn of(&self, char: char) -> usize {
        match self.ascii.get(char as usize) {
            Some(class) => usize::from(*class),
            None => usize::from(self.of_run(char.into())),
        }
    }

    fn of_run(&self, char: u32) -> u16 {
        let behind = self.runs.partition_point(|(start, _)| *start <= char);
        self.runs[behind - 1].1
    }

    /// A character of each class.
    pub(super) fn examples(&self) -> &[char] {
        &self.examples
    }

    /// The classes of characters that are not ASCII; one may come twice.
    pub(super) fn foreign(&self) -> impl Iterator<Item = usize> {
        let ends = self.runs.iter().skip(1).map(|(start, _)| *start);
        let runs = self.runs.iter().zip(ends.chain([u32::MAX]));
        let foreign = runs.filter(|(_, end)| *end > 0x80);
        foreign.map(|((_, class), _)| usize::from(*class))
    }
}

pub(super) fn contains(set: &ClassUnicode, char: char) -> bool {
    let ranges = set.ranges();
    let at = ranges.partition_point(|range| range.end() < char);
    ranges.get(at).is_some_and(|range| range.start() <= char)
}
