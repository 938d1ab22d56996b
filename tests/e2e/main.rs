//! The promises of the whole, over real sockets: one module per promise.

mod configs;
