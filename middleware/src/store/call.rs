use std::fmt::Write;

/// A script: what a store does as one step. The source is Lua as Redis runs it, and a constant: nothing that came from outside is ever part
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    name: &'static str,
    source: &'static str,
}

/// A script with what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What runs.
    pub script: &'static Script,
    /// What it reads and writes: see [`key`](super::key).
    pub keys: Vec<Box<str>>,
    /// What it is told.
    pub args: Vec<Arg>,
}

/// One thing that a script is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A number. Scripts count in 64-bit floating point: beyond 2^53 it is no longer exact there.
    Int(i64),
    /// A text.
    Text(Box<str>),
}

impl Script {
    /// A script; its name is for whoever reads logs.
    #[must_use]
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source }
    }

    /// What it is called.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What it does.
    #[must_use]
    pub const fn source(&self) -> &'static str {
        self.source
    }
}

impl Call {
    /// A call without keys and arguments.
    #[must_use]
    pub const fn new(script: &'static Script) -> Self {
        Self {
            script,
            keys: Vec::new(),
            args: Vec::new(),
        }
    }

    /// One key more.
    #[must_use]
    pub fn key(mut self, key: impl Into<Box<str>>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// One argument more.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(arg.into());
        self
    }
}

impl Arg {
    /// The number, if it is one.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Text(_) => None,
        }
    }

    /// As it is sent.
    pub fn write(&self, to: &mut String) {
        match self {
            Self::Int(number) => {
                _ = write!(to, "{number}");
            }
            Self::Text(text) => to.push_str(text),
        }
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}
