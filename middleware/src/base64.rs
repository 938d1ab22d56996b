//! Base64 (RFC 4648), by either of its alphabets.

/// Appends what `text` stands for, without its padding; `last` are the digits for 62 and 63. Says whether that is the only text that
/// stands for it: bits that mean nothing are zero, and no digit is one too many. None if a byte is no digit.
pub(crate) fn decode_into(text: &[u8], last: [u8; 2], out: &mut Vec<u8>) -> Option<bool> {
    out.reserve(text.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            _ if *byte == last[0] => 62,
            _ if *byte == last[1] => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
        bits &= (1 << held) - 1;
    }
    Some(held < 6 && bits == 0)
}

/// Section 4.
pub(crate) const PLAIN: [u8; 2] = *b"+/";
/// Section 5.
#[cfg(any(feature = "jwt", feature = "word_filter"))]
pub(crate) const URL: [u8; 2] = *b"-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_of_a_row_stands_for_its_bytes_and_one_is_the_only_form() {
        // The vectors of section 10, and others that end alike.
        let rows = [
            ("", "", true),
            ("Zg", "f", true),
            ("Zh", "f", false),
            ("Zm8", "fo", true),
            ("Zm9", "fo", false),
            ("Zm9v", "foo", true),
            ("Zm9vYg", "foob", true),
            ("Zm9vYmFy", "foobar", true),
            ("Zm9vA", "foo", false),
            ("Pz8_Pj4-", "???>>>", true),
        ];
        for (text, bytes, only) in rows {
            let mut out = Vec::new();
            let told = decode_into(text.as_bytes(), *b"-_", &mut out);
            assert_eq!((told, &*out), (Some(only), bytes.as_bytes()), "{text}");
        }
        for none in ["Zg=", "Z g", "Pz8/", "é"] {
            assert_eq!(decode_into(none.as_bytes(), *b"-_", &mut Vec::new()), None);
        }
        assert_eq!(decode_into(b"Pz8/Pj4+", PLAIN, &mut Vec::new()), Some(true));
    }
}
