//! tower layers for LLM traffic over raw HTTP.

pub mod body;
pub mod clock;
pub mod conn;
pub mod dialect;
pub mod error;
pub mod executor;
pub mod facts;
pub mod json;
pub mod record;
pub mod sse;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "peek")]
pub mod peek;
#[cfg(feature = "respond")]
pub mod respond;
#[cfg(feature = "route")]
pub mod route;
#[cfg(feature = "seal")]
pub mod seal;
#[cfg(feature = "timeout")]
pub mod timeout;
#[cfg(feature = "truncation")]
pub mod truncation;
#[cfg(feature = "upstream")]
pub mod upstream;
#[cfg(feature = "wire")]
pub mod wire;
