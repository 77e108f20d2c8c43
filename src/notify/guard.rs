//! Which addresses a notification may be sent to.
//!
//! Guarantee: the address that is checked is the address that is connected to. Names are resolved here, by the client's own
//! resolver, at the moment of connecting, so a name that changes its mind between check and use gains nothing; literal
//! addresses in a URL never reach a resolver and are checked by [`literal`] before the request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why `address` must not be connected to; `None` when it may. Link-local addresses (the cloud's metadata service hands out
/// the machine's identity there), Azure's own platform address, the unspecified address and multicast are always refused;
/// loopback and private networks unless `private_allowed`.
#[must_use]
pub fn refusal(address: IpAddr, private_allowed: bool) -> Option<&'static str> {
    let address = match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let always = match address {
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address, where the cloud's metadata service is"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V4(v4) if v4 == Ipv4Addr::new(168, 63, 129, 16) => Some("the address of Azure's own platform service"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.is_broadcast() => Some("not the address of a receiver"),
        _ if address.is_unspecified() || address.is_multicast() => Some("not the address of a receiver"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    always.or_else(|| {
        (!private_allowed && is_private(address)).then_some("a private address, and those are not allowed here")
    })
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, 6to4 or NAT64.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(join(high, low))
        }
        _ => None,
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (b == 18 || b == 19))
                || (a == 192 && b == 0 && c == 0)
                || a >= 240
        }
        // Besides the unique local ones, the old site-local range, which is routed privately where it is routed at all.
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0,
    }
}

/// The address that the URL names literally, if it does.
#[must_use]
pub fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether the URL's host is this machine by its very name: `localhost`, 127.0.0.0/8 or `::1`.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || literal(url).is_some_and(|ip| ip.is_loopback())
}

/// Resolver that yields only addresses that may be connected to.
#[derive(Debug, Clone, Copy)]
pub struct Guarded {
    /// Loopback and private networks too.
    pub private_allowed: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let private_allowed = self.private_allowed;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(permitted(found, private_allowed)?.into_iter()) as Addrs)
        })
    }
}

fn permitted(mut found: Vec<SocketAddr>, private_allowed: bool) -> Result<Vec<SocketAddr>, String> {
    let first = found.first().map(SocketAddr::ip);
    found.retain(|address| refusal(address.ip(), private_allowed).is_none());
    match first {
        None => Err("the name resolves to no address".into()),
        Some(ip) if found.is_empty() => {
            let why = refusal(ip, private_allowed).unwrap_or_default();
            Err(format!("refused: the name resolves to {ip}, {why}"))
        }
        Some(_) => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        let never = [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "fe80::1",
            "168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
        ];
        for ip in never {
            assert!(refusal(ip.parse().unwrap(), true).is_some(), "{ip}");
            assert!(refusal(ip.parse().unwrap(), false).is_some(), "{ip}");
        }
        let private = [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "fd00::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "240.0.0.1",
        ];
        for ip in private {
            assert!(refusal(ip.parse().unwrap(), true).is_none(), "{ip}");
            assert!(refusal(ip.parse().unwrap(), false).is_some(), "{ip}");
        }
        for ip in ["20.50.2.1", "172.32.0.1", "100.128.0.1", "2603:1020::1", "::ffff:8.8.8.8"] {
            assert!(refusal(ip.parse().unwrap(), false).is_none(), "{ip}");
        }
    }

    #[test]
    fn a_name_keeps_its_permitted_addresses_only() {
        let at = |ips: &[&str]| ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect::<Vec<_>>();
        assert_eq!(permitted(at(&["10.0.0.1", "20.1.1.1"]), false), Ok(at(&["20.1.1.1"])));
        assert_eq!(permitted(at(&["10.0.0.1"]), true), Ok(at(&["10.0.0.1"])));
        assert!(permitted(at(&["169.254.169.254"]), true).unwrap_err().contains("metadata"));
        assert!(permitted(at(&[]), true).is_err());
    }

    #[test]
    fn literals_are_seen_however_they_are_written() {
        for url in
            ["http://0x7f.1/", "http://2130706433/", "http://127.0.0.1/", "http://[::1]:80/", "http://LOCALHOST/"]
        {
            assert!(is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
        assert_eq!(
            literal(&Url::parse("http://[::ffff:169.254.169.254]/").unwrap()).unwrap().to_canonical().to_string(),
            "169.254.169.254"
        );
        assert!(!is_loopback(&Url::parse("http://localhost.example.com/").unwrap()));
    }
}
