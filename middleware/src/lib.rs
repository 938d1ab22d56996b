//! tower layers for LLM traffic over raw HTTP.

pub mod body;
pub mod clock;
pub mod conn;
pub mod error;
pub mod executor;

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "wire")]
pub mod wire;
