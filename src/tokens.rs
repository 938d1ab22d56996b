//! The tokenizer of the process, on a thread of its own.

use std::{sync::LazyLock, thread};

use tollgate_middleware::meter::Tokenizer;

/// The handle that all workers share. The thread begins with the first call, and loads a vocabulary when it first needs one.
pub(crate) fn tokenizer() -> Tokenizer {
    static ONE: LazyLock<Tokenizer> = LazyLock::new(|| {
        let (tokenizer, counting) = Tokenizer::pair();
        let counter = thread::Builder::new().name("tokens".to_owned());
        if let Err(error) = counter.spawn(move || counting.run()) {
            // Nobody counts then, and everything is guessed.
            tracing::warn!(%error, "no thread to count tokens on");
        }
        tokenizer
    });
    ONE.clone()
}
