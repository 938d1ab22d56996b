//! The promises of the whole, over real sockets: one module per promise.

mod allocations;
mod binary;
mod budget;
mod callers;
mod configs;
mod dependencies;
mod edges;
mod endings;
mod fuzzed;
mod harness;
mod inside;
mod load;
mod metering;
mod operations;
mod program;
mod relay;
mod reload;
mod sdk;
mod sources;
mod timing;
#[cfg(feature = "tokenizer")]
mod tokens;
mod wire;
