//! Numbers that check themselves.

/// A payment card: issuer, length, last digit.
pub(super) fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = digits(text).collect();
    let first = |count: usize| {
        digits
            .iter()
            .take(count)
            .fold(0, |all, digit| all * 10 + digit)
    };
    // The ranges that the networks publish; ISO/IEC 7812 says who has which.
    let lengths = match (first(2), first(3), first(4)) {
        // American Express.
        (34 | 37, ..) => 15..=15,
        // Diners Club.
        (36 | 38 | 39, ..) | (_, 300..=305, _) => 14..=19,
        // JCB.
        (.., 3528..=3589) => 16..=19,
        // Visa.
        (40..=49, ..) if [13, 16, 19].contains(&digits.len()) => 13..=19,
        // Mastercard.
        (51..=55, ..) | (.., 2221..=2720) => 16..=16,
        // Maestro.
        (.., 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763) => 13..=19,
        // Discover; UnionPay.
        (62 | 65, ..) | (_, 644..=649, _) | (.., 6011) => 16..=19,
        _ => return false,
    };
    lengths.contains(&digits.len()) && luhn(&digits)
}

/// From the right, every second digit counts double, and the sum is whole tens.
fn luhn(digits: &[u32]) -> bool {
    let sum = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match at % 2 {
            0 => *digit,
            _ => digit * 2 / 10 + digit * 2 % 10,
        });
    sum.sum::<u32>() % 10 == 0
}

/// An IBAN: the length of its country, and the number with its beginning put last leaves 1 by 97.
pub(super) fn is_iban(text: &str) -> bool {
    let chars: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    let country = LENGTHS
        .iter()
        .find(|(country, _)| chars.starts_with(country.as_bytes()));
    if country.is_none_or(|(_, length)| chars.len() != *length) {
        return false;
    }
    let turned = chars[4..].iter().chain(&chars[..4]);
    let left = turned.fold(0, |left, char| match char {
        b'0'..=b'9' => (left * 10 + u32::from(char - b'0')) % 97,
        char => (left * 100 + u32::from(char - b'A') + 10) % 97,
    });
    left == 1
}

/// A number with `+`: 7 to 15 digits.
pub(super) fn is_world_phone(text: &str) -> bool {
    (7..=15).contains(&digits(text).count())
}

/// A social security number: neither area nor group nor serial is one that is not given out.
pub(super) fn is_ssn(text: &str) -> bool {
    let (area, group, serial) = (&text[..3], &text[4..6], &text[7..]);
    !["000", "666"].contains(&area) && group != "00" && serial != "0000"
}

fn digits(text: &str) -> impl Iterator<Item = u32> {
    text.chars().filter_map(|char| char.to_digit(10))
}

/// Countries, and how many characters an IBAN of theirs has: SWIFT's IBAN registry, release 99.
const LENGTHS: [(&str, usize); 89] = [
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BI", 27),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DJ", 27),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FK", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HN", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MN", 20),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NI", 28),
    ("NL", 18),
    ("NO", 15),
    ("OM", 23),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("RU", 33),
    ("SA", 24),
    ("SC", 31),
    ("SD", 18),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("SO", 23),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
    ("YE", 30),
];
