//! Promises of the whole: the built program and the gateway in this process, as their users meet them.

mod binary;
mod inside;
mod operations;
mod program;
mod sdk;
mod sources;
mod timing;
