//! The whole gateway over real sockets: what clients send and providers answer, how answers end, and what happens at the edges.

mod allocations;
mod edges;
mod endings;
mod harness;
mod relay;
