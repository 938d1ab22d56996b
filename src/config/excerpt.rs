//! Shows a line of the file with a caret and without its secrets.

use super::mask::{LONGEST, MASK, Open, hide};
use super::problem::At;

/// A line is shown at most this wide, around its caret.
const WIDEST: usize = 120;

/// One masked line and where its caret goes, in characters from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) text: String,
    pub(crate) caret: usize,
    pub(crate) width: usize,
}

/// The lines of a file, each with the mark whether it continues a secret's value.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    lines: Vec<Line<'a>>,
}

#[derive(Debug)]
struct Line<'a> {
    text: &'a str,
    continues_secret: bool,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut open: Option<Open> = None;
        let lines = text.lines().map(|text| {
            let continues_secret = open.as_mut().is_some_and(|o| o.takes(text));
            if !continues_secret {
                open = Open::starts(text);
            }
            Line {
                text,
                continues_secret,
            }
        });
        Self {
            lines: lines.collect(),
        }
    }

    /// The text of a line, counted from 1.
    pub(crate) fn line(&self, number: usize) -> Option<&'a str> {
        self.lines.get(number.checked_sub(1)?).map(|l| l.text)
    }

    /// The line of `at` with its secrets masked; `to_end` masks from the first secret to the end of the line.
    pub(crate) fn excerpt(&self, at: At, to_end: bool) -> Option<Excerpt> {
        let line = self.lines.get(at.line.checked_sub(1)?)?;
        if line.text.len() > LONGEST {
            return None;
        }
        let chars: Vec<char> = line.text.chars().collect();
        let hidden = hide(&chars, line.continues_secret, to_end);
        Some(draw(&chars, &hidden, at))
    }
}

fn draw(chars: &[char], hidden: &[bool], at: At) -> Excerpt {
    let (mut text, mut caret, mut end) = (Vec::new(), None, None);
    let first = at.column.saturating_sub(1);
    for i in 0..chars.len() {
        let masked_before = i > 0 && hidden[i - 1];
        if hidden[i] && !masked_before {
            text.extend(MASK.chars());
        } else if !hidden[i] {
            text.push(if chars[i].is_control() { ' ' } else { chars[i] });
        }
        let here = if hidden[i] {
            text.len() - MASK.chars().count()
        } else {
            text.len() - 1
        };
        if i == first {
            caret = Some(here);
        }
        if i + 1 == first + at.width.max(1) {
            end = Some(text.len());
        }
    }
    let caret = caret.unwrap_or(text.len());
    let width = end.unwrap_or(text.len()).saturating_sub(caret).max(1);
    clip(&text, caret, width)
}

fn clip(text: &[char], caret: usize, width: usize) -> Excerpt {
    if text.len() <= WIDEST {
        return Excerpt {
            text: text.iter().collect::<String>().trim_end().to_owned(),
            caret,
            width,
        };
    }
    let from = caret.saturating_sub(WIDEST / 2).min(text.len() - WIDEST);
    let mut shown: Vec<char> = text[from..from + WIDEST].to_vec();
    if from > 0 {
        shown[0] = '…';
    }
    if from + WIDEST < text.len() {
        shown[WIDEST - 1] = '…';
    }
    let caret = caret - from;
    Excerpt {
        text: shown.into_iter().collect(),
        caret,
        width: width.min(WIDEST.saturating_sub(caret)).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_follows_what_the_mask_moved() {
        let source = Source::new("a: { key: abcdefghijkl, nonsense: 1 }");
        let excerpt = source
            .excerpt(
                At {
                    line: 1,
                    column: 25,
                    width: 8,
                },
                false,
            )
            .expect("the line exists");
        let under: String = excerpt
            .text
            .chars()
            .skip(excerpt.caret)
            .take(excerpt.width)
            .collect();
        assert_eq!(under, "nonsense");
    }

    #[test]
    fn a_long_line_is_shown_around_its_caret() {
        let text = format!("a: {}nonsense{}", " ".repeat(400), " x".repeat(300));
        let excerpt = Source::new(&text)
            .excerpt(
                At {
                    line: 1,
                    column: 404,
                    width: 8,
                },
                false,
            )
            .expect("the line exists");
        let under: String = excerpt
            .text
            .chars()
            .skip(excerpt.caret)
            .take(excerpt.width)
            .collect();
        assert_eq!(
            (under.as_str(), excerpt.text.chars().count()),
            ("nonsense", WIDEST)
        );
    }
}
