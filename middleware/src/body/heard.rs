//! Law 4, as the tests of the layers call it.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::Body;
use tollgate_testing::{
    body::Script,
    laws::{self, Ending as Way},
};

use super::{Ending, Guard, Guarded};
use crate::error::BoxError;

/// A guard that writes down what it is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    ends: Vec<&'static str>,
}

impl Heard {
    pub(crate) fn ends(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().ends.clone()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }
}

impl<E> Guard<E> for Heard {
    fn frame(&mut self, data: &Bytes, _: bool) {
        self.0.lock().unwrap().bytes.extend_from_slice(data);
    }

    fn end(self, ending: Ending<'_, E>) {
        let word = match ending {
            Ending::Complete => "complete",
            Ending::Error(_) => "error",
            Ending::Dropped => "dropped",
        };
        self.0.lock().unwrap().ends.push(word);
    }
}

/// A scripted body that is listened to.
pub(crate) type Listened = Guarded<Script, Heard>;

/// The law for the body of a layer, which `wrap` puts around one of a script: who is inside of it and who is outside hear of
/// each ending once, at the same moment, and by the same name.
pub(crate) async fn passes_each_ending<B>(wrap: impl Fn(Listened) -> B)
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let inside = |script| {
        let heard = Heard::default();
        (wrap(Guarded::new(script, heard.clone())), heard)
    };
    let outside = |script| {
        let heard = Heard::default();
        let body = wrap(Guarded::new(script, Heard::default()));
        (Guarded::new(body, heard.clone()), heard)
    };
    for told in [
        laws::endings(inside, Heard::ends).await,
        laws::endings(outside, Heard::ends).await,
    ] {
        for (way, word) in told {
            let expected = match way {
                Way::Drop => "dropped",
                Way::Error => "error",
                Way::Empty | Way::Hint | Way::None | Way::Trailers => "complete",
            };
            assert_eq!(word, expected, "{way:?}");
        }
    }
}

/// What is there without a wait.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}
