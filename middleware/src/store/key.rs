use std::fmt;

use sha2::{Digest, Sha256};

/// Whose state it is. All keys of one owner lie on one node of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// Nobody's in particular.
    Global,
    /// That of a name, or of a name within others: as many as it takes.
    Named(&'a [&'a str]),
}

/// The name under which an owner's `what` is kept: `tollgate:{owner}:what`.
///
/// Names come from outside: what stands for one is the first half of its SHA-256. `what` is ours, of letters, digits, `-`, `_`, `.`, `:`, `/`.
///
/// ```
/// use tollgate_middleware::store::{Owner, key};
///
/// assert_eq!(&*key(Owner::Global, "rate:60/min"), "tollgate:{global}:rate:60/min");
/// assert_eq!(&*key(Owner::Named(&["team-a"]), "rate"), "tollgate:{706d820f7dd537c1f3afec039810887d}:rate");
/// ```
#[must_use]
pub fn key(owner: Owner<'_>, what: impl fmt::Display) -> Box<str> {
    match owner {
        Owner::Global => format!("{PREFIX}{{global}}:{what}"),
        Owner::Named(names) => {
            let mut digest = Sha256::new();
            for name in names {
                // Each with its length: two names are never one.
                digest.update((name.len() as u64).to_be_bytes());
                digest.update(name);
            }
            let digest = digest.finalize();
            let half = digest.first_chunk().map(|half| u128::from_be_bytes(*half));
            format!("{PREFIX}{{{:032x}}}:{what}", half.unwrap_or_default())
        }
    }
    .into()
}

const PREFIX: &str = "tollgate:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_part_of_a_key() {
        for name in [
            "*",
            "}{",
            "\r\nFLUSHALL\r\n",
            "redis.call('get','a')",
            "",
            "ü",
        ] {
            let key = key(Owner::Named(&[name]), "x");
            let owner = key
                .strip_prefix("tollgate:{")
                .and_then(|it| it.strip_suffix("}:x"));
            let owner = owner.expect("the form of a key");
            assert_eq!(owner.len(), 32);
            assert!(owner.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }

    #[test]
    fn names_within_names_are_told_apart() {
        let of = |names: &[&str]| key(Owner::Named(names), "");
        let all = [
            of(&["ab"]),
            of(&["a", "b"]),
            of(&["", "ab"]),
            of(&["ab", ""]),
            of(&[]),
        ];
        for (at, key) in all.iter().enumerate() {
            assert!(!all[..at].contains(key));
        }
    }

    #[test]
    fn the_owner_is_the_first_half_of_a_digest() {
        // printf '\0\0\0\0\0\0\0\6team-a' | sha256sum
        assert_eq!(
            &*key(Owner::Named(&["team-a"]), "x"),
            "tollgate:{706d820f7dd537c1f3afec039810887d}:x"
        );
    }
}
