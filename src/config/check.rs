//! Walks the tree along the schema and reports everything that does not fit, all at once.

use super::kind::{Built, Key, Kind};
use super::mask::is_secret_key;
use super::nearest::nearest;
use super::problem::{At, Fault, Report};
use super::tree::{Entry, Node, Origin, Value};
use super::value::{push_key, shown, shown_scalar};

const SECRET_FORMS: &str = "a secret is text, `{ env: NAME }` or `{ file: PATH }`";

/// Reports every place where the tree is not what `keys` allow.
pub(crate) fn check(root: &Node, keys: &'static [Key], report: &mut Report<'_>) {
    let mut walk = Walk {
        report,
        path: String::new(),
        all_built: false,
    };
    walk.map(
        root,
        keys,
        At {
            line: 1,
            column: 1,
            width: 1,
        },
    );
}

/// The same, as if everything were built: what the finished program would say.
#[cfg(test)]
pub(crate) fn check_all_built(root: &Node, keys: &'static [Key], report: &mut Report<'_>) {
    let mut walk = Walk {
        report,
        path: String::new(),
        all_built: true,
    };
    walk.map(
        root,
        keys,
        At {
            line: 1,
            column: 1,
            width: 1,
        },
    );
}

/// Whether a map seems to have the key, but with a typo, which is reported already.
pub(crate) fn is_misspelt(node: &Node, key: &str) -> bool {
    let mut few = node.entries().iter().take(64);
    few.any(|e| e.key != key && nearest(&e.key, [key]).is_some())
}

struct Walk<'r, 's> {
    report: &'r mut Report<'s>,
    path: String,
    all_built: bool,
}

impl Walk<'_, '_> {
    /// `at` is where a missing member is reported: the key of the map.
    fn map(&mut self, node: &Node, keys: &'static [Key], at: At) {
        if !matches!(node.value, Value::Map(_)) && !node.is_null() {
            return self.mismatch(&Kind::Map(keys), node, "");
        }
        for entry in node.entries() {
            let end = self.path.len();
            push_key(&mut self.path, &entry.key);
            match keys.iter().find(|k| k.name == entry.key) {
                Some(key) => self.member(key, entry),
                None => self.unknown(entry, keys),
            }
            self.path.truncate(end);
        }
        let lacks =
            |k: &&Key| k.needed && node.member(k.name).is_none() && !is_misspelt(node, k.name);
        for key in keys.iter().filter(lacks) {
            let place = if self.path.is_empty() {
                "the file".to_owned()
            } else {
                format!("`{}`", self.path)
            };
            let fault = Fault::new(at, &self.path, format!("{place} has no `{}`", key.name));
            self.report
                .error(fault.remedy(format!("add `{}`", key.name)));
        }
    }

    fn member(&mut self, key: &Key, entry: &Entry) {
        match key.built {
            Built::Misplaced(reason) => self.error(
                entry.at,
                format!("`{}` has no place here", self.path),
                reason,
            ),
            Built::Not { inert } if !self.all_built => {
                let inert = inert.or_else(|| matches!(key.kind, Kind::Layer(_)).then_some("off"));
                if inert.is_none() || entry.value.text() != inert {
                    let remedy = inert.map_or_else(
                        || "remove it".to_owned(),
                        |word| format!("remove it, or write `{word}`"),
                    );
                    self.error(
                        entry.at,
                        format!("`{}` is not built yet", self.path),
                        &remedy,
                    );
                }
            }
            _ => self.value(&key.kind, &entry.value, entry.at),
        }
    }

    fn unknown(&mut self, entry: &Entry, keys: &[Key]) {
        let near = if self.report.is_crowded() {
            None
        } else {
            nearest(&entry.key, keys.iter().map(|k| k.name))
        };
        let built = keys
            .iter()
            .filter(|k| matches!(k.built, Built::Yes))
            .map(|k| k.name);
        let fault = Fault::new(
            entry.at,
            &self.path,
            format!("unknown key {}", shown(&entry.key)),
        )
        .remedy(
            near.map(|n| format!("did you mean `{n}`?"))
                .unwrap_or_default(),
        )
        .note(format!(
            "keys here: {}",
            built.collect::<Vec<_>>().join(", ")
        ));
        self.report.error(fault);
    }

    fn value(&mut self, kind: &Kind, node: &Node, at: At) {
        if node.scalar().is_some_and(|s| s.origin == Origin::Unset) {
            return;
        }
        if !kind.fits(node)
            || (node.is_null() && !matches!(kind, Kind::Any | Kind::Map(_) | Kind::Table(_)))
        {
            return self.mismatch(kind, node, "");
        }
        match kind {
            Kind::Either(kinds) => match kinds
                .iter()
                .find(|k| node.scalar().is_none() && k.fits(node))
            {
                Some(kind) => self.value(kind, node, at),
                None => self.scalar(kind, node),
            },
            Kind::List(kind) => self.items(kind, node),
            Kind::OneOrMany(kind) if matches!(node.value, Value::List(_)) => self.items(kind, node),
            Kind::OneOrMany(kind) => self.value(kind, node, at),
            Kind::Layer(keys) if node.scalar().is_none() => self.map(node, keys, at),
            Kind::Map(keys) => self.map(node, keys, at),
            Kind::Table(kind) => self.table(kind, node),
            Kind::Credential if node.member("key").is_some() || node.member("name").is_some() => {
                self.map(node, super::schema::CREDENTIAL, at);
            }
            Kind::Credential | Kind::Secret if node.scalar().is_none() => self.secret(node),
            Kind::Any => {}
            _ => self.scalar(kind, node),
        }
    }

    fn items(&mut self, kind: &Kind, node: &Node) {
        for (i, item) in node.items().iter().enumerate() {
            let end = self.path.len();
            self.path.push_str(&format!("[{i}]"));
            self.value(kind, item, item.at);
            self.path.truncate(end);
        }
    }

    fn table(&mut self, kind: &Kind, node: &Node) {
        for entry in node.entries() {
            let end = self.path.len();
            push_key(&mut self.path, &entry.key);
            self.value(kind, &entry.value, entry.at);
            self.path.truncate(end);
        }
    }

    fn secret(&mut self, node: &Node) {
        // A variable that is not set has been told already.
        let unset = |e: &Entry| e.value.scalar().is_some_and(|s| s.origin == Origin::Unset);
        let one = |e: &Entry| {
            matches!(e.key.as_str(), "env" | "file")
                && (unset(e) || e.value.text().is_some_and(|t| !t.is_empty()))
        };
        if node.entries().len() != 1 || !node.entries().iter().all(one) {
            let at = node.entries().first().map_or(node.at, |e| e.at);
            self.error(at, format!("`{}` is no secret", self.path), SECRET_FORMS);
        }
    }

    fn scalar(&mut self, kind: &Kind, node: &Node) {
        if let Some(scalar) = node.scalar()
            && let Err(remedy) = kind.judge(&scalar.text, scalar.plain)
        {
            self.mismatch(kind, node, &remedy);
        }
    }

    fn mismatch(&mut self, kind: &Kind, node: &Node, remedy: &str) {
        let remedy = match kind {
            Kind::List(_) if node.text().is_some() => "write it in brackets: `[…]`",
            _ => remedy,
        };
        let name = self.path.rsplit('.').next().unwrap_or_default();
        let found = match node.scalar() {
            Some(s) if !s.is_null() && !is_secret_key(name) => shown_scalar(s),
            _ => node.noun().to_owned(),
        };
        let place = if self.path.is_empty() {
            "the file".to_owned()
        } else {
            format!("`{}`", self.path)
        };
        self.error(
            node.at,
            format!("{place} must be {}, not {found}", kind.noun()),
            remedy,
        );
    }

    fn error(&mut self, at: At, message: String, remedy: &str) {
        self.report
            .error(Fault::new(at, &self.path, message).remedy(remedy));
    }
}
