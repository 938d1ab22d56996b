//! Names of providers: looked up again within seconds, and for a while remembered where nobody answers.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A change of an address is seen by connections that are made after this.
const FRESH: Duration = Duration::from_secs(10);
/// So long an old answer serves where there is no new one.
const STALE: Duration = Duration::from_secs(300);

/// So long somebody is asked where an old answer would serve.
const PATIENCE: Duration = Duration::from_secs(1);

/// What asks for the addresses of a name.
pub(crate) type Lookup =
    dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync;

/// Addresses by name. Clones share what is known.
#[derive(Clone)]
pub(crate) struct Names {
    lookup: Arc<Lookup>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

struct Known {
    addresses: Vec<IpAddr>,
    at: Instant,
}

impl Names {
    /// As the system knows them.
    pub(crate) fn of_system() -> Self {
        Self::of(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        })
    }

    /// As somebody else knows them.
    pub(crate) fn of(
        lookup: impl Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            lookup: Arc::new(lookup),
            known: Arc::default(),
        }
    }

    /// The addresses of a host and this port: at most 10 seconds old, or, where nobody can be asked, at most 5 minutes.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return Ok(vec![(ip, port).into()]);
        }
        let with_port = |all: &[IpAddr]| all.iter().map(|ip| (*ip, port).into()).collect();
        if let Some(fresh) = self.known(host, FRESH) {
            return Ok(with_port(&fresh));
        }
        let lookup = (self.lookup)(host.to_owned());
        let found = match self.known(host, STALE) {
            None => lookup.await,
            // An old answer is better than none within the time of a connection.
            Some(_) => tokio::time::timeout(PATIENCE, lookup)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        match found {
            Ok(found) if !found.is_empty() => {
                let addresses = with_port(&found);
                let known = Known {
                    addresses: found,
                    at: Instant::now(),
                };
                self.lock().insert(host.to_owned(), known);
                Ok(addresses)
            }
            failed => {
                let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                let error = failed.err().unwrap_or_else(none);
                let stale = self.known(host, STALE).ok_or(error)?;
                Ok(with_port(&stale))
            }
        }
    }

    fn known(&self, host: &str, within: Duration) -> Option<Vec<IpAddr>> {
        let known = self.lock();
        let known = known.get(host)?;
        (known.at.elapsed() < within).then(|| known.addresses.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the test answers, and how often somebody asked. No answer hangs.
    type Answer = Arc<Mutex<(Option<io::Result<Vec<IpAddr>>>, usize)>>;

    fn given() -> (Names, Answer) {
        let answer = Answer::new(Mutex::new((Some(Ok(Vec::new())), 0)));
        let shared = answer.clone();
        let names = Names::of(move |_| {
            let mut answer = shared.lock().unwrap();
            answer.1 += 1;
            let found = answer.0.as_ref().map(|found| match found {
                Ok(found) => Ok(found.clone()),
                Err(error) => Err(error.kind().into()),
            });
            Box::pin(async move {
                match found {
                    Some(found) => found,
                    None => std::future::pending().await,
                }
            })
        });
        (names, answer)
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// Row X06: another address is seen within thirty seconds; a resolver that is down is survived for five minutes.
    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_in_time_and_an_old_answer_serves_for_a_while() {
        let (names, answer) = given();
        let ask = async || names.addresses("api.example", 443).await;
        let set = |to| answer.lock().unwrap().0 = Some(to);
        set(Ok(vec![ip(1)]));
        assert_eq!(ask().await.unwrap(), [(ip(1), 443).into()]);
        set(Ok(vec![ip(2), ip(3)]));
        assert_eq!(
            ask().await.unwrap(),
            [(ip(1), 443).into()],
            "it was just asked"
        );
        assert_eq!(answer.lock().unwrap().1, 1);
        tokio::time::advance(Duration::from_secs(30)).await;
        let both = [(ip(2), 443).into(), (ip(3), 443).into()];
        assert_eq!(ask().await.unwrap(), both);
        answer.lock().unwrap().0 = None;
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(ask().await.unwrap(), both, "a resolver that is slow");
        set(Err(io::ErrorKind::TimedOut.into()));
        tokio::time::advance(Duration::from_secs(198)).await;
        assert_eq!(ask().await.unwrap(), both);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ask().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        set(Ok(Vec::new()));
        assert_eq!(ask().await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_asked_of_nobody() {
        let (names, answer) = given();
        for (host, address) in [("127.0.0.1", "127.0.0.1:9"), ("[::1]", "[::1]:9")] {
            let found = names.addresses(host, 9).await.unwrap();
            assert_eq!(found, [address.parse().unwrap()]);
        }
        assert_eq!(answer.lock().unwrap().1, 0);
    }
}
