//! Looks for words in what is asked and in what is answered, and refuses, masks or counts what it finds.

mod answer;
mod filter;
mod fold;
mod literals;
mod prefilter;
mod request;
mod rules;
mod search;
mod service;
mod text;
mod whole;

#[cfg(test)]
mod tests;

pub use self::{
    answer::ResponseBody,
    filter::Filter,
    rules::{Action, ApplyTo, Rule, Unfit},
    service::{ResponseFuture, WordFilter, WordFilterLayer},
};
