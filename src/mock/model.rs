//! The models, each a behaviour.

use std::time::Duration;

use super::text;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    Count(u32),
    Cut,
    E429,
    E500,
    Echo,
    Long,
    Slow,
}

/// What `models` lists.
pub(super) const LISTED: [&str; 6] = ["echo", "slow", "long", "cut", "e429", "e500"];

impl Model {
    /// The behaviour that the last segment of `name` asks for, if there is one of that name.
    pub(super) fn of(name: &str) -> Option<Self> {
        if name.len() > MAX_NAME {
            return None;
        }
        match name.rsplit('/').next()? {
            "cut" => Some(Self::Cut),
            "e429" => Some(Self::E429),
            "e500" => Some(Self::E500),
            "echo" => Some(Self::Echo),
            "long" => Some(Self::Long),
            "slow" => Some(Self::Slow),
            other => {
                let digits = other.strip_prefix("count-")?;
                let n = digits
                    .bytes()
                    .all(|b| b.is_ascii_digit())
                    .then(|| digits.parse().ok())??;
                (n <= MAX_COUNT).then_some(Self::Count(n))
            }
        }
    }

    /// What the model says to `user`.
    pub(super) fn text(self, user: &str) -> String {
        match self {
            Self::Count(n) => text::numbers(n),
            Self::Cut => text::CUT.to_owned(),
            Self::Long => text::long(),
            Self::E429 | Self::E500 | Self::Echo | Self::Slow => format!("Echo: {user}"),
        }
    }

    /// The time that each word takes.
    pub(super) fn pace(self) -> Duration {
        if self == Self::Slow {
            Duration::from_millis(100)
        } else {
            Duration::ZERO
        }
    }
}

const MAX_COUNT: u32 = 100_000;

/// Every event repeats the model's name, so that a name without end would make an answer without end.
const MAX_NAME: usize = 256;
