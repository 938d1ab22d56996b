//! What the layers know of a request: typed values in its extensions, one writer each.
//!
//! | fact | writer | absent means |
//! |---|---|---|
//! | [`Record`](crate::record::Record) | `record` | nobody keeps a record: write nothing |
//! | [`Conn`](crate::conn::Conn) | the server | the transport acknowledges nothing |
//! | [`Intent`] | `peek` | the body was not read, or cannot be: compressed, not JSON, no body |
//! | [`Route`] | `route` | the request was not routed: keep its model |
//!
//! Facts are answers, not handles to services; they are cheap to clone. A guard is never a fact.

use std::{ops::Range, sync::Arc};

use crate::dialect::{Asked, Surface};

/// What the body asks for.
///
/// Spans are places in the body as it arrived, as [`Held::edit`](crate::body::Held::edit) takes them.
#[derive(Clone, Debug)]
pub struct Intent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    surface: Surface,
    model: Option<Box<str>>,
    asked: Asked,
    object: Option<Range<usize>>,
}

impl Intent {
    /// What was found in a JSON body whose outermost object lies at `object`. `model` is decoded,
    /// and stands in the body or in the path.
    pub fn new(
        surface: Surface,
        model: Option<Box<str>>,
        asked: Asked,
        object: Option<Range<usize>>,
    ) -> Self {
        Self(Arc::new(Inner { surface, model, asked, object }))
    }

    /// The surface that was asked.
    pub fn surface(&self) -> &Surface {
        &self.0.surface
    }

    /// The model that was asked for, decoded.
    pub fn model(&self) -> Option<&str> {
        self.0.model.as_deref()
    }

    /// Whether a streamed answer was asked for.
    pub fn stream(&self) -> bool {
        self.0.asked.stream
    }

    /// Everything else that was asked for, with its spans.
    pub fn asked(&self) -> &Asked {
        &self.0.asked
    }

    /// Where the JSON object of the body lies; `None` if the body is not JSON.
    pub fn object(&self) -> Option<Range<usize>> {
        self.0.object.clone()
    }
}

/// Which route took the request, and for which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The route's name; `None` for an implicit route.
    pub name: Option<Arc<str>>,
    /// The model after aliases and `provider/model` were resolved.
    pub model: Option<Arc<str>>,
}
