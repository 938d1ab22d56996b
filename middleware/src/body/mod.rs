//! Bodies that the layers share: request bodies that can be held, edited and sent again, and
//! response bodies whose ending is told exactly once.

mod gather;
mod guarded;
mod held;
mod reply;
mod room;

pub use self::{
    gather::Gather,
    guarded::{Ending, Guard, Guarded},
    held::{Held, Spare},
    reply::Reply,
    room::{Room, Taken},
};

#[cfg(test)]
pub(crate) mod heard;
#[cfg(test)]
mod tests;
