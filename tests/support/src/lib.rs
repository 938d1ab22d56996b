//! What the tests of this workspace stand on: a scripted upstream, a raw client, scripted bodies, the laws every layer keeps,
//! recorded provider traffic and, where it is installed, a Redis.
//!
//! Nothing here sleeps on a real clock to wait for something: tests hold an upstream at a [`Gate`](upstream::Gate), wait for what
//! it saw, and have a deadline that a passing test never meets.
//!
//! Sockets and a paused clock do not go together, save where the test gives a longer deadline than any wait of the script.
//!
//! ```
//! use tollgate_testing::{
//!     client::{Conn, Ended, request},
//!     upstream::{Gate, ID, Script, Upstream},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let upstream = Upstream::start().await;
//! let gate = Gate::new("after the first event");
//! upstream.serve_default(Script::events(["data: 1\n\n"]).wait(&gate).rst());
//!
//! let conn = Conn::open(upstream.addr()).await;
//! conn.send(request("POST", "/v1/chat/completions", &[(ID, "one")], "{}")).await?;
//! assert!(conn.until(|message| message.body == b"data: 1\n\n").await);
//!
//! gate.open();
//! assert_eq!(conn.response().await.ended, Some(Ended::Reset));
//! assert_eq!(upstream.finished("one", 1).await.wrote, 9);
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

pub use needs::long;

/// How long a wait may take before the test fails. Long, because it is met only by a failing test.
pub const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(feature = "alloc")]
pub mod alloc;
pub mod body;
pub mod canary;
pub mod client;
pub mod http1;
pub mod laws;
pub mod needs;
pub mod recordings;
#[cfg(unix)]
pub mod redis;
mod script;
pub mod splits;
pub mod tls;
pub mod upstream;
