//! Why a gateway cannot start.

use std::{error::Error, fmt, io};

use crate::{admin, connect::TlsError, jwks, server, spool, telemetry::webhook};

/// A gateway that cannot start. The text says what to do.
#[derive(Debug)]
pub enum StartError {
    /// The admin listener.
    Admin(admin::StartError),
    /// What callers' tokens are checked with.
    Keys(jwks::StartError),
    /// The request log.
    Log(io::Error),
    /// What keeps budgets that several gateways share.
    Budgets(io::Error),
    /// The data listeners or their workers.
    Server(server::StartError),
    /// What keeps what was spent.
    Spool(spool::StartError),
    /// A certificate or key, of a provider or of the data listeners.
    Tls(TlsError),
    /// What tells others of requests.
    Webhook(webhook::StartError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(error) => error.fmt(f),
            Self::Budgets(error) => write!(f, "shared budgets cannot be kept: {error}"),
            Self::Keys(error) => error.fmt(f),
            Self::Log(error) => write!(f, "the request log cannot be opened: {error}"),
            Self::Server(error) => error.fmt(f),
            Self::Spool(error) => error.fmt(f),
            Self::Tls(error) | Self::Webhook(webhook::StartError::Tls(error)) => error.fmt(f),
            Self::Webhook(webhook::StartError::Thread(error)) => {
                write!(f, "the webhook cannot be served: {error}")
            }
        }
    }
}

impl Error for StartError {}
