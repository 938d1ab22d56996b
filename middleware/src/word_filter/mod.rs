//! Looks for words in what is asked and in what is answered, and refuses, masks or counts what it finds.

mod answer;
mod fold;
mod literals;
mod prefilter;
mod rules;
mod search;
mod text;
mod whole;

#[cfg(test)]
mod tests;

pub use self::answer::ResponseBody;
pub use self::rules::{Action, ApplyTo, Rule, Rules, Unfit};
