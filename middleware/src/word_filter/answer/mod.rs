//! The filter of answers: what is withheld of them, and what becomes of it.
//!
//! ```text
//! frames ── units ── texts ── search
//!    │        cut      │         decided up to …
//!    └── wait ─────────┴── changed, or as they came ── out
//! ```
//!
//! Frames are cut into [units](crate::dialect::units), one event each. The [texts](crate::dialect::said) of a unit are decoded,
//! tool arguments twice, and searched piece by piece. A unit waits until nothing that follows could complete a match that begins
//! in it; what stands behind it waits too. What nobody waits for goes on as the very frame that came.

mod alike;
mod body;
mod bounds;
mod frames;
mod future;
mod hold;
mod splice;
mod texts;
mod tokens;
mod waiting;
mod walk;
mod watch;

#[cfg(test)]
mod tests;

pub use self::body::ResponseBody;
pub(super) use self::{
    bounds::Limits,
    future::{Answering, Asked, Policy},
};
