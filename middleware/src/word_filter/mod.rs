//! Looks for words in what is asked and in what is answered, and refuses, masks or counts what it finds.

mod answer;
mod engine;
mod entities;
mod filter;
mod fold;
mod literals;
mod pattern;
mod patterns;
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
    entities::{Entity, UnknownEntity},
    filter::Filter,
    rules::{Action, ApplyTo, Rule, Unfit},
    service::{ResponseFuture, WordFilter, WordFilterLayer},
};
