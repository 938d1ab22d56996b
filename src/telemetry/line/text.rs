//! The writing of a line: members with their names, and moments.

use std::{
    cell::Cell,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use tollgate_middleware::json;

/// Longest text of the caller's, in bytes.
const LONGEST: usize = 512;
const DEL: u8 = 0x7f;
/// The first byte of U+0080 to U+009F, and of others, in UTF-8.
const C1: u8 = 0xc2;

/// A line being written. Names come with their quotes, comma and colon: this runs for every request,
/// and takes no formatter's detour.
pub(super) struct Line<'a>(pub(super) &'a mut Vec<u8>);

impl Line<'_> {
    pub(super) fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn text(&mut self, name: &str, value: Option<&str>) {
        self.raw(name);
        let Some(value) = value else {
            return self.raw("null");
        };
        let value = &value[..value.floor_char_boundary(LONGEST)];
        let at = self.0.len();
        json::escape_into(value, self.0);
        // JSON lets them stand; a terminal takes them for commands.
        if value.bytes().any(|byte| matches!(byte, DEL | C1)) {
            self.escape_controls(at);
        }
    }

    /// Escapes delete and the controls of eight bits in the text that begins there.
    pub(super) fn escape_controls(&mut self, at: usize) {
        let text = self.0.split_off(at);
        let mut rest = &text[..];
        loop {
            rest = match rest {
                [DEL, rest @ ..] => {
                    self.raw("\\u007f");
                    rest
                }
                [C1, low @ 0x80..=0x9f, rest @ ..] => {
                    self.raw("\\u00");
                    self.0.extend(HEX[usize::from(*low)]);
                    rest
                }
                [byte, rest @ ..] => {
                    self.0.push(*byte);
                    rest
                }
                [] => return,
            };
        }
    }

    /// A list of texts.
    pub(super) fn texts<'t>(&mut self, name: &str, values: impl Iterator<Item = &'t str>) {
        self.raw(name);
        self.raw("[");
        for (at, value) in values.enumerate() {
            self.text(if at == 0 { "" } else { "," }, Some(value));
        }
        self.raw("]");
    }

    pub(super) fn object(&mut self, name: &str, members: &[(Box<str>, Box<str>)]) {
        self.raw(name);
        for (at, (name, text)) in members.iter().enumerate() {
            self.text(if at == 0 { "{" } else { "," }, Some(name));
            self.text(":", Some(text));
        }
        self.raw("}");
    }

    /// A fixed word, or a name that was found harmless: nothing in it needs an escape.
    pub(super) fn word(&mut self, name: &str, value: Option<&str>) {
        self.raw(name);
        match value {
            Some(value) => {
                self.raw("\"");
                self.raw(value);
                self.raw("\"");
            }
            None => self.raw("null"),
        }
    }

    pub(super) fn number(&mut self, name: &str, value: Option<u64>) {
        self.raw(name);
        match value {
            Some(value) => self.decimal(value),
            None => self.raw("null"),
        }
    }

    /// Milliseconds with three decimals.
    pub(super) fn millis(&mut self, name: &str, value: Option<Duration>) {
        self.raw(name);
        let Some(value) = value else {
            return self.raw("null");
        };
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.decimal(micros / 1000);
        self.0
            .extend_from_slice(&thousandths((micros % 1000) as u16));
    }

    pub(super) fn decimal(&mut self, value: u64) {
        self.raw(itoa::Buffer::new().format(value));
    }

    /// 32 digits.
    pub(super) fn hex(&mut self, value: u128) {
        let mut text = [[0; 2]; 16];
        for (two, byte) in text.iter_mut().zip(value.to_be_bytes()) {
            *two = HEX[usize::from(byte)];
        }
        self.0.extend_from_slice(text.as_flattened());
    }
}

/// The two digits of each byte.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn time(out: &mut Vec<u8>, at: SystemTime) {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or(Duration::ZERO);
    let (second, millis) = (since.as_secs(), since.subsec_millis() as u16);
    let text = SECOND.with(|last| {
        let (told, text) = last.get();
        if told == second {
            return text;
        }
        let text = second_text(second);
        last.set((second, text));
        text
    });
    out.push(b'"');
    out.extend_from_slice(&text);
    out.extend_from_slice(&thousandths(millis));
    out.extend_from_slice(b"Z\"");
}

/// A point and three digits.
fn thousandths(value: u16) -> [u8; 4] {
    let digit = |value: u16| b'0' + (value % 10) as u8;
    [b'.', digit(value / 100), digit(value / 10), digit(value)]
}

/// A second as `2006-01-02T15:04:05`.
type SecondText = [u8; 19];

thread_local! {
    /// The second that was told last: a busy worker tells thousands of moments of each.
    static SECOND: Cell<(u64, SecondText)> = const { Cell::new((0, *b"1970-01-01T00:00:00")) };
}

fn second_text(second: u64) -> SecondText {
    const PRINTER: DateTimePrinter = DateTimePrinter::new();
    // A clock beyond the year 9999 tells its end.
    let at = i64::try_from(second).ok();
    let at = at.and_then(|second| Timestamp::from_second(second).ok());
    let text = PRINTER.timestamp_to_string(&at.unwrap_or(Timestamp::MAX));
    let whole = text.as_bytes().first_chunk();
    *whole.expect("a year of four digits makes 19 characters")
}
