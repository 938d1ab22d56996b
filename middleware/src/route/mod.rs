//! Decides which route takes a request, and for which model.
//!
//! Contract
//! - *Reads*: [`Intent`](crate::facts::Intent), [`Caller`](crate::facts::Caller) (absent: any model, and no rule that is for callers) and [`Record`](crate::record::Record) (or the head itself).
//! - *Writes*: [`Route`](crate::facts::Route), into the request; the route's name into the `Record`.
//! - *Refuses*: [`ModelNotFound`](crate::error::Reason::ModelNotFound), [`NotFound`](crate::error::Reason::NotFound),
//!   [`UnsupportedCoding`](crate::error::Reason::UnsupportedCoding) for a body that hides its model.
//! - *Bodies*: untouched.
//! - *Ready*: always; the chosen service is made ready inside the future.
//! - *Place*: inside `peek`, outside all that differs from route to route.
//!
//! One inner service exists per route, all of one type, in a list. [`Table`] is the pure decision:
//!
//! 1. **The name.** A model that some provider lists exactly is itself. Else an alias is replaced,
//!    as often as it takes. Else `provider/model` pins the provider that it names. Else it stays.
//! 2. **The route.** The first rule whose conditions all hold. A pinned request matches only a rule
//!    with a target at that provider. Without rules, the first provider that lists the model.
//! 3. **The model.** What the rule's target does not serve is refused: an unknown model, or one
//!    that this caller may not use, is never another model.
//!
//! A rule without a path takes what has a known surface, and what is behind an API prefix without
//! naming a model (files, batches); anything else only if the rule names a path, or leads to
//! providers whose answers nobody reads.
//!
//! A rule may ask for members of the request's metadata ([`METADATA`]), and for what the user says ([`Prompt`]): that needs the texts in the
//! `Intent`, which `peek` keeps if it is told to, and holds for no body without them.
//!
//! ```
//! use tollgate_middleware::route::{Ask, Catalogue, Models, Rule, Table};
//!
//! let table = Table::new(
//!     [Catalogue::new("openai", Models::listed(["gpt-4o*"]))],
//!     [("gpt-4".to_owned(), "gpt-4o".to_owned())],
//!     [Rule::new("all").to("openai", None)],
//! );
//! let chosen = table.choose(&Ask::chat("gpt-4")).expect("the alias is listed");
//! assert_eq!((chosen.index, chosen.model.as_deref()), (0, Some("gpt-4o")));
//! assert!(table.choose(&Ask::chat("claude")).is_err());
//! ```

mod conditions;
mod matcher;
mod models;
mod service;
mod table;

#[cfg(test)]
mod tests;

pub use self::{
    conditions::{METADATA, Prompt, Taken},
    matcher::{Matcher, Pattern},
    models::{Catalogue, Models},
    service::{ResponseFuture, Router},
    table::{Ask, Choice, Rule, Table},
};
