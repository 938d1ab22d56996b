use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer: relayed from inside, or a short text of our own.
    #[derive(Debug)]
    pub struct Reply<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<B> {
        Relayed { #[pin] body: B },
        Own { text: Option<Bytes> },
    }
}

impl<B> Reply<B> {
    /// An answer from inside.
    pub fn relayed(body: B) -> Self {
        Self {
            kind: Kind::Relayed { body },
        }
    }

    /// An answer of ours; an empty text is an empty body.
    pub fn own(text: impl Into<Bytes>) -> Self {
        Self {
            kind: Kind::Own {
                text: Some(text.into()).filter(|text| !text.is_empty()),
            },
        }
    }
}

impl<B> Body for Reply<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Relayed { body } => body.poll_frame(cx),
            KindProj::Own { text } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Relayed { body } => body.is_end_stream(),
            Kind::Own { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Relayed { body } => body.size_hint(),
            Kind::Own { text } => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}
