//! Which members of an answer are text that was generated, and which of them are one text.
//!
//! | dialect | texts of an event, or of a document |
//! |---|---|
//! | OpenAI chat, completions | of each choice: content, refusal, reasoning under its several names, the transcript of audio, the arguments of each call |
//! | OpenAI Responses | what deltas bring: text, refusals, reasoning and its summary, transcripts, arguments, code; what items, parts and `done` say of it again |
//! | Anthropic | of each block: text, thinking, the input of a tool |
//! | Gemini | of each candidate: parts, thoughts, arguments of calls, code and what it printed |
//! | Ollama, Cohere | content, thinking, plan, arguments |
//! | Bedrock | Converse's blocks; behind InvokeModel what the dialects above say, and the plain members of other models |
//!
//! In a stream a text ends with its block, its finish reason or the message. In a document parts that stand side by side are one
//! text.

use std::ops::Range;

use super::{Dialect, Operation, Surface};
use crate::json::{Cursor, Kind};

mod anthropic;
mod bedrock;
mod cohere;
mod gemini;
mod ollama;
mod openai;
mod responses;

/// Reads one answer, event by event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    words: Words,
    /// The whole answer is one document.
    document: bool,
}

/// Something that an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A piece of a text, or all of it.
    Text(Text),
    /// What goes on in no other event.
    Ends(Whose),
    /// A value that tells the tokens of texts in this event.
    Logprobs(Range<usize>),
}

/// A string that is text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// Which text it is part of.
    pub(crate) key: Key,
    /// Where it lies in the event's data, quotes included.
    pub(crate) span: Range<usize>,
    pub(crate) form: Form,
    /// A signature of the provider's is over it.
    pub(crate) signed: bool,
    pub(crate) told: Times,
}

/// Which text of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The choice, the candidate, the item.
    pub(crate) choice: u64,
    /// The block, the call, the part.
    pub(crate) part: u64,
    pub(crate) sort: Sort,
}

/// What a text is to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Arguments,
    Code,
    Content,
    /// Reasoning by the names that providers have for it; some tell it by two of them.
    Reasoning(Names),
    Refusal,
    /// What continues a bare prompt.
    Text,
    Transcript,
}

/// The member that tells reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Content,
    Details,
    Plain,
    Summary,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As a string.
    Plain,
    /// As a string that holds JSON, in which string values are text.
    Json,
    /// As a string inside of an object that is arguments.
    Value,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// This is the next piece of it.
    Piece,
    /// All of it, and here only.
    Whole,
    /// All of it, which other events told in pieces.
    Again,
    /// All of it so far, beside the next piece.
    SoFar,
}

/// Texts that end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// All.
    All,
    /// Those of one choice.
    Choice(u64),
    /// Those of one choice, for which a reason to finish was given. Some providers give one with every piece, so they may go on.
    Finished(u64),
    /// Those of one part of one choice.
    Part(u64, u64),
    /// One.
    Key(Key),
}

/// Whose words to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    OpenAi,
    Responses,
    Anthropic,
    Gemini,
    Ollama,
    Cohere,
    Bedrock,
}

/// What is found while an event is read.
type Out = Vec<Told>;

// ===== impl Reader =====

impl Reader {
    /// Before the first event of an answer; none if answers there carry no text that is generated, or nobody knows where.
    pub(crate) fn new(surface: &Surface) -> Option<Self> {
        use Operation as O;
        let words = match (surface.dialect, surface.operation) {
            (
                _,
                O::Embeddings
                | O::Rerank
                | O::Moderations
                | O::CountTokens
                | O::Images
                | O::ImageEdits
                | O::ImageVariations
                | O::Speech
                | O::Models
                | O::Model,
            )
            | (Dialect::Raw, _) => return None,
            (Dialect::OpenAi | Dialect::Azure | Dialect::Mock, O::Responses) => Words::Responses,
            (Dialect::OpenAi | Dialect::Azure | Dialect::Mock, _) => Words::OpenAi,
            (Dialect::Anthropic, _) => Words::Anthropic,
            (Dialect::Gemini, _) => Words::Gemini,
            (Dialect::Ollama, _) => Words::Ollama,
            (Dialect::Cohere, _) => Words::Cohere,
            (Dialect::Bedrock, _) => Words::Bedrock,
        };
        Some(Self {
            words,
            document: false,
        })
    }

    /// The same, of an answer that is one document.
    pub(crate) fn of_document(self) -> Self {
        Self {
            document: true,
            ..self
        }
    }

    /// Tells what an event says, in its order. What is no JSON says nothing; of what is malformed somewhere, what stands
    /// before that is told.
    pub(crate) fn read(self, name: &[u8], data: &[u8], out: &mut Out) {
        let at = &mut Cursor::new(data);
        let document = self.document;
        // What ends the walk early is a fault in the event.
        let _ = match self.words {
            Words::OpenAi if data.trim_ascii() == b"[DONE]" => {
                out.push(Told::Ends(Whose::All));
                Some(())
            }
            Words::OpenAi => openai::event(at, document, out),
            Words::Responses => responses::event(at, document, out),
            Words::Anthropic => anthropic::event(at, document, out),
            Words::Gemini => gemini::event(at, document, out),
            Words::Ollama => ollama::event(at, out),
            Words::Cohere => cohere::event(at, document, out),
            Words::Bedrock => bedrock::event(name, at, document, out),
        };
        if document {
            out.push(Told::Ends(Whose::All));
        }
    }
}

// ===== impl Key =====

impl Key {
    const fn new(sort: Sort) -> Self {
        Self {
            choice: 0,
            part: 0,
            sort,
        }
    }
}

/// A string that is the next piece of a text; what is no string is passed.
fn piece(at: &mut Cursor<'_>, sort: Sort, out: &mut Out) -> Option<()> {
    text(at, sort, Form::Plain, Times::Piece, out)
}

/// Arguments: JSON in a string, of which this is the next piece, or an object of which each string is a text.
fn arguments(at: &mut Cursor<'_>, times: Times, out: &mut Out) -> Option<()> {
    match at.kind()? {
        Kind::String => text(at, Sort::Arguments, Form::Json, times, out),
        Kind::Array | Kind::Object => {
            let from = out.len();
            values(at, Sort::Arguments, NESTING, out)?;
            if out.len() > from {
                out.push(Told::Ends(Whose::Key(Key::new(Sort::Arguments))));
            }
            Some(())
        }
        _ => at.value().map(drop),
    }
}

fn text(at: &mut Cursor<'_>, sort: Sort, form: Form, told: Times, out: &mut Out) -> Option<()> {
    let value = at.value()?;
    let span = value.span();
    if value.kind() == Kind::String && (span.len() > 2 || told != Times::Piece) {
        out.push(Told::Text(Text {
            key: Key::new(sort),
            span,
            form,
            signed: false,
            told,
        }));
    }
    Some(())
}

/// Every string value of an object or array, names left out, down to some depth.
fn values(at: &mut Cursor<'_>, sort: Sort, room: u8, out: &mut Out) -> Option<()> {
    match at.kind()? {
        Kind::String => text(at, sort, Form::Value, Times::Piece, out),
        Kind::Array if room > 0 => at.array(|at| values(at, sort, room - 1, out)),
        Kind::Object if room > 0 => at.object(|at, _| values(at, sort, room - 1, out)),
        _ => at.value().map(drop),
    }
}

/// A number that says which; what is none stands for the first.
fn index(at: &mut Cursor<'_>) -> Option<u64> {
    Some(at.value()?.as_u64().unwrap_or(0))
}

/// Changes the keys of what was told since.
fn rekey(out: &mut [Told], change: impl Fn(&mut Key)) {
    for told in out {
        match told {
            Told::Text(text) => change(&mut text.key),
            Told::Ends(Whose::Key(key)) => change(key),
            Told::Ends(_) | Told::Logprobs(_) => {}
        }
    }
}

/// What was told since is under a signature.
fn sign(out: &mut [Told]) {
    for told in out {
        if let Told::Text(text) = told {
            text.signed = true;
        }
    }
}

/// What was told since is told so often.
fn times(out: &mut [Told], times: Times) {
    for told in out {
        if let Told::Text(text) = told {
            text.told = times;
        }
    }
}

/// Numbers the runs of parts of one sort, in a list of parts: parts side by side are one text.
#[derive(Default)]
struct Runs {
    last: Option<Sort>,
    run: u64,
}

impl Runs {
    /// Keys what one part has told: `out` from `from` on. A part that told nothing stands between two texts as well.
    fn part(&mut self, out: &mut [Told]) {
        let sort = out.iter().find_map(|told| match told {
            Told::Text(text) => Some(text.key.sort),
            _ => None,
        });
        if self.last.is_none() || sort != self.last || sort == Some(Sort::Arguments) {
            self.run += 1;
        }
        self.last = sort;
        let run = self.run - 1;
        rekey(out, |key| key.part += run);
    }
}

/// How deep texts are looked for: as deep as a body may nest by default.
const NESTING: u8 = 128;

#[cfg(test)]
mod tests;
