//! OpenAI's embeddings: unit vectors that depend on the text alone.

use serde_json::{Value, json};

use super::{prompt, refusal::Refusal};

/// One vector for each text, of 8 numbers or as many as `dimensions` says.
pub(super) fn document(request: &Value, model: &str) -> Result<Value, Refusal> {
    let dimensions = match request["dimensions"].as_u64() {
        None => 8,
        Some(n) if (1..=MAX_DIMENSIONS).contains(&n) => n as usize,
        Some(_) => {
            return Err(Refusal::Malformed(format!(
                "`dimensions` is not in 1..={MAX_DIMENSIONS}"
            )));
        }
    };
    let input = &request["input"];
    let texts = match input {
        // A list of numbers is one text, given in tokens.
        Value::Array(texts) if !texts.iter().all(Value::is_number) => texts.as_slice(),
        one => std::slice::from_ref(one),
    };
    if texts.len() > MAX_TEXTS {
        return Err(Refusal::Malformed(format!(
            "`input` has more than {MAX_TEXTS} texts"
        )));
    }
    let base64 = request["encoding_format"] == "base64";
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = vector(text.as_str().unwrap_or(&text.to_string()), dimensions);
            let embedding = if base64 {
                json!(in_base64(&vector))
            } else {
                json!(vector)
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let words = prompt::words(request);
    let usage = json!({ "prompt_tokens": words, "total_tokens": words });
    Ok(json!({ "object": "list", "data": data, "model": model, "usage": usage }))
}

/// FNV-1a of the text seeds SplitMix64, which gives the numbers.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let numbers: Vec<f32> = (0..dimensions)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            // The upper 24 bits, which a f32 holds exactly, to [-1, 1).
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    let length = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        numbers.iter().map(|x| x / length).collect()
    } else {
        numbers
    }
}

/// The numbers' bytes, little end first, in base64 (RFC 4648, section 4).
fn in_base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let sextet = (bits >> (18 - 6 * i)) & 63;
            text.push(if i <= three.len() {
                ALPHABET[sextet as usize] as char
            } else {
                '='
            });
        }
    }
    text
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The most that OpenAI takes in one request.
const MAX_TEXTS: usize = 2048;

/// The most of OpenAI's models has 3072.
const MAX_DIMENSIONS: u64 = 3072;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_a_recorded_embedding_s_first_numbers() {
        // The first 12 bytes of a recorded answer of OpenAI, "UlenPPk5k71fcBc+": 0x3ca75752, 0xbd9339f9, 0x3e17705f.
        let vector = [0x3ca7_5752, 0xbd93_39f9, 0x3e17_705f_u32].map(f32::from_bits);
        assert_eq!(in_base64(&vector), "UlenPPk5k71fcBc+");
        assert_eq!(in_base64(&vector[..1]), "UlenPA==");
        assert_eq!(in_base64(&vector[..2]), "UlenPPk5k70=");
    }

    #[test]
    fn vectors_are_of_unit_length_and_differ_by_text() {
        let (one, two) = (vector("one", 256), vector("two", 256));
        assert_ne!(one, two);
        assert_eq!(one, vector("one", 256));
        let length: f32 = one.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-3, "{length}");
    }
}
