//! Case folding of single characters.

/// The character that stands for all that differ from it in case only: Unicode's simple folding, by way of the cases
/// that the standard library knows.
///
/// Both ways are gone, so that `ſ` and `s`, or `ς` and `σ`, come to the same. What is more than one character in
/// another case (`ß`) is itself there, and the dotless `ı` is no `i`.
pub(super) fn fold(char: char) -> char {
    if char.is_ascii() {
        return char.to_ascii_lowercase();
    }
    match char {
        'ı' => return char,
        // Alike by definition, though no case leads from one to the other.
        '\u{1fd3}' => return '\u{390}',
        '\u{1fe3}' => return '\u{3b0}',
        'ﬅ' => return 'ﬆ',
        _ => {}
    }
    let lower = single(char.to_lowercase()).unwrap_or(char);
    let again = single(lower.to_uppercase()).and_then(|upper| single(upper.to_lowercase()));
    again.unwrap_or(lower)
}

fn single(mut chars: impl Iterator<Item = char>) -> Option<char> {
    chars.next().filter(|_| chars.next().is_none())
}

#[cfg(test)]
mod tests {
    use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

    use super::*;

    /// The two-way relation of the Unicode tables, where it is of single characters.
    #[test]
    fn what_differs_in_case_only_folds_alike() {
        let mut alike = 0;
        for char in '\0'..=char::MAX {
            let mut class = ClassUnicode::new([ClassUnicodeRange::new(char, char)]);
            class.case_fold_simple();
            for range in class.iter() {
                for other in range.start()..=range.end() {
                    assert_eq!(fold(other), fold(char), "{char:?} and {other:?}");
                    alike += usize::from(other != char);
                }
            }
            assert_eq!(fold(fold(char)), fold(char), "{char:?}");
        }
        assert!(alike > 2000, "{alike}");
    }
}
