//! The limits of `rate_limit`, the permits of `concurrency` and the accounts of `budget`, while shuttle chooses which thread runs next: thousands of orders, of
//! which chance alone would seldom find the odd one.
//!
//! ```sh
//! RUSTFLAGS="--cfg shuttle" cargo test -p tollgate-interleavings --target-dir target/shuttle
//! ```
//!
//! Without the flag there is nothing in here.

#[cfg(all(shuttle, test))]
mod budget;
#[cfg(all(shuttle, test))]
mod limits;
#[cfg(all(shuttle, test))]
mod permits;
#[cfg(all(shuttle, test))]
mod still;
