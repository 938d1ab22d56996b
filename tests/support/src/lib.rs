//! What the tests of this workspace stand on: a scripted upstream, a raw client, scripted bodies, the laws every layer keeps,
//! and recorded provider traffic.
//!
//! Nothing here sleeps on a real clock to wait for something: tests hold an upstream at a [`Gate`](upstream::Gate), wait for what
//! it saw, and have a deadline that a passing test never meets.
//!
//! Sockets and a paused clock do not go together, save where the test gives a longer deadline than any wait of the script.

use std::time::Duration;

/// How long a wait may take before the test fails. Long, because it is met only by a failing test.
pub const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(feature = "alloc")]
pub mod alloc;
pub mod body;
pub mod client;
pub mod http1;
pub mod laws;
pub mod needs;
pub mod recordings;
mod script;
pub mod splits;
pub mod tls;
pub mod upstream;
