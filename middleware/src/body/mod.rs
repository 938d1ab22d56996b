//! Bodies that the layers share: request bodies that can be held, edited and sent again, and
//! response bodies whose ending is told exactly once.

mod guarded;
mod held;
mod reply;

pub use self::{
    guarded::{Ending, Guard, Guarded},
    held::{Gather, Held},
    reply::Reply,
};

#[cfg(test)]
mod tests;
