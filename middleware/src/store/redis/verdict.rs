//! What an error says of the server, and of the call.

use std::fmt;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It could not be reached, or the connection broke.
    Connection,
    /// It did not answer in time.
    Timeout,
    /// It does not know us, or does not let us do what we have to.
    Permission,
    /// It is reading its data.
    Loading,
    /// It takes no writes: a replica, or one that cannot keep what is written.
    ReadOnly,
    /// It has no memory left.
    Memory,
    /// Its cluster is down, or the keys are elsewhere.
    Cluster,
    /// It answers what no Redis answers, or is too old.
    Protocol,
}

impl Cause {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Permission => "permission",
            Self::Loading => "loading",
            Self::ReadOnly => "read_only",
            Self::Memory => "memory",
            Self::Cluster => "cluster",
            Self::Protocol => "protocol",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection is of no use any more. What was sent may have run.
    Lost,
    /// The server answered that it serves nobody like this.
    Unfit(Cause),
    /// The server answered that this call is wrong.
    Wrong,
    /// The script has to be sent whole.
    NoScript,
}

pub(super) fn verdict(error: &RedisError) -> Verdict {
    use ServerErrorKind as Kind;
    match error.kind() {
        ErrorKind::Server(kind) => match kind {
            Kind::NoScript => Verdict::NoScript,
            Kind::BusyLoading => Verdict::Unfit(Cause::Loading),
            Kind::ReadOnly | Kind::MasterDown => Verdict::Unfit(Cause::ReadOnly),
            Kind::ClusterDown | Kind::Moved | Kind::Ask | Kind::TryAgain => {
                Verdict::Unfit(Cause::Cluster)
            }
            Kind::NoPerm => Verdict::Unfit(Cause::Permission),
            _ => Verdict::Wrong,
        },
        ErrorKind::Extension => match error.code() {
            Some("OOM") => Verdict::Unfit(Cause::Memory),
            // It cannot save, or too few replicas follow.
            Some("MISCONF" | "NOREPLICAS") => Verdict::Unfit(Cause::ReadOnly),
            // Another script runs on and on.
            Some("BUSY") => Verdict::Unfit(Cause::Timeout),
            Some("NOAUTH" | "WRONGPASS") => Verdict::Unfit(Cause::Permission),
            _ => Verdict::Wrong,
        },
        ErrorKind::AuthenticationFailed => Verdict::Unfit(Cause::Permission),
        ErrorKind::UnexpectedReturnType => Verdict::Wrong,
        _ => Verdict::Lost,
    }
}

/// The words of an error, for a log: on one line, and no longer than one.
pub(super) fn words(error: &RedisError) -> Box<str> {
    let words = error.to_string();
    let words = words.chars().filter(|it| !it.is_control());
    words.take(200).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_is_told_from_what_it_says_of_a_call() {
        let of = |line: &str| {
            let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
            let error = value.and_then(redis::Value::extract_error);
            verdict(&error.expect_err("an error"))
        };
        for (line, expected) in [
            (
                "LOADING Redis is loading the dataset",
                Verdict::Unfit(Cause::Loading),
            ),
            ("READONLY You can't write", Verdict::Unfit(Cause::ReadOnly)),
            ("MASTERDOWN Link is down", Verdict::Unfit(Cause::ReadOnly)),
            (
                "MISCONF Errors writing to the AOF",
                Verdict::Unfit(Cause::ReadOnly),
            ),
            ("OOM command not allowed", Verdict::Unfit(Cause::Memory)),
            (
                "NOAUTH Authentication required.",
                Verdict::Unfit(Cause::Permission),
            ),
            ("NOPERM no access", Verdict::Unfit(Cause::Permission)),
            (
                "CLUSTERDOWN Hash slot not served",
                Verdict::Unfit(Cause::Cluster),
            ),
            ("MOVED 3999 127.0.0.1:6381", Verdict::Unfit(Cause::Cluster)),
            (
                "BUSY Redis is busy running a script",
                Verdict::Unfit(Cause::Timeout),
            ),
            ("NOSCRIPT No matching script", Verdict::NoScript),
            ("WRONGTYPE Operation against a key", Verdict::Wrong),
            ("ERR Error running script", Verdict::Wrong),
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(verdict(&io.into()), Verdict::Lost);
    }
}
