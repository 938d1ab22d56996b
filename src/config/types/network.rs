use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A range of addresses.
///
/// ```
/// use tollgate::config::Network;
///
/// let network: Network = "10.0.0.0/8".parse().unwrap();
/// assert!(network.contains([10, 1, 2, 3].into()));
/// assert!("10.1.2.3/8".parse::<Network>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// 127.0.0.0/8.
    pub(crate) fn loopback() -> Self {
        Self(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8).into())
    }

    /// Whether the address lies in it. An IPv4 address inside IPv6 is the IPv4 address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or one address.
    fn from_str(text: &str) -> Result<Self, String> {
        let one = || text.parse().ok().map(|ip: IpAddr| IpNet::from(ip));
        let net: IpNet = text
            .parse()
            .ok()
            .or_else(one)
            .ok_or("write a range of addresses, as `10.0.0.0/8`, or one address")?;
        if matches!(net, IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some()) {
            return Err("write it as an IPv4 range".to_owned());
        }
        if net != net.trunc() {
            return Err(format!("did you mean `{}`, or one address?", net.trunc()));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_addresses_are_read_and_nothing_else() {
        let read = |text: &str| text.parse::<Network>().map(|it| it.to_string());
        assert_eq!(read("127.0.0.0/8").as_deref(), Ok("127.0.0.0/8"));
        assert_eq!(read("10.1.2.3").as_deref(), Ok("10.1.2.3/32"));
        assert_eq!(read("::1").as_deref(), Ok("::1/128"));
        assert_eq!(read("0.0.0.0/0").as_deref(), Ok("0.0.0.0/0"));
        assert!(read("10.1.2.3/8").is_err_and(|told| told.contains("10.0.0.0/8")));
        assert!(read("::ffff:10.0.0.0/104").is_err_and(|told| told.contains("IPv4")));
        for text in [
            "",
            "10",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "proxy",
            "10.0.0.0/8/8",
            " ::1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!("127.0.0.0/8".parse(), Ok(Network::loopback()));
    }

    #[test]
    fn an_address_inside_ipv6_is_the_ipv4_address() {
        let net: Network = "10.0.0.0/8".parse().expect("a range");
        assert!(net.contains("::ffff:10.1.2.3".parse().expect("an address")));
        assert!(!net.contains("::1".parse().expect("an address")));
    }
}
