//! The promises of the whole, over real sockets: one module per promise.

mod allocations;
mod binary;
mod budget;
mod callers;
mod choice;
mod circuits;
mod configs;
mod dependencies;
mod edges;
mod endings;
mod fuzzed;
mod harness;
mod inside;
mod jwt;
mod load;
mod matching;
mod metering;
mod operations;
mod program;
mod relay;
mod reload;
mod sdk;
mod shared;
mod sources;
mod timing;
#[cfg(feature = "tokenizer")]
mod tokens;
mod wire;
mod words;
