//! The limits of `rate_limit` and the permits of `concurrency`, while shuttle chooses which thread runs next: thousands of orders, of
//! which chance alone would seldom find the odd one.
//!
//! ```sh
//! RUSTFLAGS="--cfg shuttle" cargo test -p tollgate-interleavings --target-dir target/shuttle
//! ```
//!
//! Without the flag there is nothing in here.

#[cfg(all(shuttle, test))]
mod limits;
#[cfg(all(shuttle, test))]
mod permits;
#[cfg(all(shuttle, test))]
mod still;
