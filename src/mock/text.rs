//! Words, and JSON strings made of them.

/// The first word of `text` and the white space before and behind it.
pub(super) fn first_word(text: &str) -> &str {
    let word = text
        .find(|c: char| !c.is_whitespace())
        .unwrap_or(text.len());
    let space = text[word..]
        .find(char::is_whitespace)
        .map_or(text.len(), |n| word + n);
    let next = text[space..].find(|c: char| !c.is_whitespace());
    &text[..next.map_or(text.len(), |n| space + n)]
}

/// How many pieces [`first_word`] cuts a text into that does not consist of white space alone.
pub(super) fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// `text` as a JSON string, quotes included.
pub(super) fn json(text: &str) -> String {
    serde_json::to_string(text).expect("a str has a JSON form")
}

/// 400 words for the model `long`.
pub(super) fn long() -> String {
    let mut text = SENTENCE.repeat(400 / 25);
    text.truncate(text.trim_end().len());
    text
}

/// The numbers from 1 to `n`.
pub(super) fn numbers(n: u32) -> String {
    let mut text = String::new();
    for i in 1..=n {
        if i > 1 {
            text.push(' ');
        }
        text.push_str(&i.to_string());
    }
    text
}

/// 25 words.
const SENTENCE: &str = "Whoever comes to the gate pays the toll, is written into the book, and walks on, \
     while the keeper counts the coins until evening falls. ";

/// What the model `cut` would say; longer than the events it gets to send.
pub(super) const CUT: &str =
    "This answer breaks off in its middle, as if the provider had died while speaking.";
