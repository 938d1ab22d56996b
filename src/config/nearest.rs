//! "Did you mean": the nearest of a few known words.

/// Words longer than this are not compared.
const LONGEST: usize = 48;

/// How many candidates are looked at.
const MOST: usize = 256;

/// The known word that `word` most likely stands for, if any is near enough to be worth saying.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = match word.chars().count() {
        0..=1 => 0,
        2..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    let lower = word.to_ascii_lowercase();
    let near = known
        .into_iter()
        .take(MOST)
        .filter_map(|k| Some((distance(&lower, &k.to_ascii_lowercase())?, k)));
    near.filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Edit distance with neighbouring letters swapped as one edit (optimal string alignment: Boytsov, "Indexing
/// methods for approximate dictionary searching", 2011, section 2.2); `None` for words too long to compare.
pub(crate) fn distance(a: &str, b: &str) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (
        a.chars().take(LONGEST + 1).collect(),
        b.chars().take(LONGEST + 1).collect(),
    );
    if a.len() > LONGEST || b.len() > LONGEST {
        return None;
    }
    let (mut two, mut one) = (vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<usize>>());
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            let kept = one[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = kept.min(one[j] + 1).min(row[j - 1] + 1);
            if swap {
                row[j] = row[j].min(two[j - 2] + 1);
            }
        }
        two = std::mem::replace(&mut one, row);
    }
    one.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word() {
        let keys = ["dialect", "base_url", "credentials", "models"];
        for (typo, want) in [
            ("base_ulr", Some("base_url")),
            ("Dialect", Some("dialect")),
            ("credential", Some("credentials")),
            ("zzz", None),
            ("m", None),
            ("", None),
        ] {
            assert_eq!(nearest(typo, keys), want, "{typo}");
        }
    }

    #[test]
    fn a_word_of_any_length_is_compared_in_bounded_time() {
        assert_eq!(distance(&"a".repeat(1 << 20), "b"), None);
        assert_eq!(distance("kitten", "sitting"), Some(3));
    }
}
