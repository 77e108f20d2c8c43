//! Which addresses a notification may be sent to.
//!
//! Guarantee: the address that is checked is the address that is connected to. Names are resolved here, by the client's own
//! resolver, at the moment of connecting, so a name that changes its mind between check and use gains nothing; literal
//! addresses in a URL never reach a resolver and are checked by [`literal`] before the request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A range of addresses: its first one, the length of its prefix in bits, and why it is refused.
type Range<Address> = (Address, u32, &'static str);

const NOT_A_RECEIVER: &str = "not the address of a receiver";
const LINK_LOCAL: &str = "a link-local address, where the cloud's metadata service is";
/// Said of all that is not public: who runs this need not tell them apart.
const NOT_PUBLIC: &str = "a private address, and those are not allowed here";

/// Never a receiver, or somebody who gives away the machine's identity. These and the ranges below are those of the IANA's
/// special-purpose registries that are not globally reachable, with the document that reserves each.
const NEVER_V4: [Range<Ipv4Addr>; 5] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, NOT_A_RECEIVER),  // RFC 791: this network
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL), // RFC 3927
    (Ipv4Addr::new(168, 63, 129, 16), 32, "the address of Azure's own platform service"), // Azure: what is IP address 168.63.129.16
    (Ipv4Addr::new(224, 0, 0, 0), 4, NOT_A_RECEIVER),                                     // RFC 5771: multicast
    (Ipv4Addr::new(255, 255, 255, 255), 32, NOT_A_RECEIVER),                              // RFC 919: broadcast
];

/// See [`NEVER_V4`].
const NEVER_V6: [Range<Ipv6Addr>; 3] = [
    (Ipv6Addr::UNSPECIFIED, 128, NOT_A_RECEIVER),                    // RFC 4291
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, LINK_LOCAL),    // RFC 4291
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, NOT_A_RECEIVER), // RFC 4291: multicast
];

/// Refused unless private networks are allowed.
const PRIVATE_V4: [Range<Ipv4Addr>; 12] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8, NOT_PUBLIC),      // RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10, NOT_PUBLIC),   // RFC 6598: shared by carriers
    (Ipv4Addr::new(127, 0, 0, 0), 8, NOT_PUBLIC),     // RFC 1122: loopback
    (Ipv4Addr::new(172, 16, 0, 0), 12, NOT_PUBLIC),   // RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24, NOT_PUBLIC),    // RFC 6890: protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24, NOT_PUBLIC),    // RFC 5737: documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24, NOT_PUBLIC),  // RFC 7526: relays of 6to4, given up
    (Ipv4Addr::new(192, 168, 0, 0), 16, NOT_PUBLIC),  // RFC 1918
    (Ipv4Addr::new(198, 18, 0, 0), 15, NOT_PUBLIC),   // RFC 2544: benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24, NOT_PUBLIC), // RFC 5737: documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24, NOT_PUBLIC),  // RFC 5737: documentation
    (Ipv4Addr::new(240, 0, 0, 0), 4, NOT_PUBLIC),     // RFC 1112: reserved
];

/// Refused unless private networks are allowed, of the addresses within [`PUBLIC_V6`].
const PRIVATE_V6: [Range<Ipv6Addr>; 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, NOT_PUBLIC), // RFC 2928: protocol assignments; RFC 4380: Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, NOT_PUBLIC), // RFC 3849: documentation
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, NOT_PUBLIC), // RFC 9637: documentation
];

/// The only unicast addresses that are given out for use everywhere (RFC 4291, RFC 3587). Outside are loopback, `64:ff9b:1::/48`
/// (RFC 8215: NAT64 of a network's own), `100::/64` and `100:0:0:1::/64` (RFC 6666, RFC 9780: discarded), `5f00::/16` (RFC 9602:
/// segment routing), `fc00::/7` (RFC 4193: unique local), `fec0::/10` (RFC 3879: site-local, given up), and what is reserved.
const PUBLIC_V6: Range<Ipv6Addr> = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, "");

/// Why `address` must not be connected to; `None` when it may. Link-local addresses (the cloud's metadata service hands out
/// the machine's identity there), Azure's own platform address, the unspecified address and multicast are always refused;
/// loopback, private networks and everything else that is not public unless `private_allowed`. An IPv6 address that stands
/// for an IPv4 one is judged by that one too.
#[must_use]
pub fn refusal(address: IpAddr, private_allowed: bool) -> Option<&'static str> {
    let (v4, v6) = match address {
        IpAddr::V4(v4) => (vec![v4], None),
        IpAddr::V6(v6) => (embedded(v6), Some(v6)),
    };
    let never = v4.iter().find_map(|ip| find(&NEVER_V4, *ip)).or_else(|| find(&NEVER_V6, v6?));
    if never.is_some() || private_allowed {
        return never;
    }
    let private = || v4.iter().find_map(|ip| find(&PRIVATE_V4, *ip));
    private().or_else(|| {
        let v6 = v6.filter(|v6| !stands_for_v4(*v6))?;
        if covers(&PUBLIC_V6, v6) { find(&PRIVATE_V6, v6) } else { Some(NOT_PUBLIC) }
    })
}

/// The reason of the first range that holds the address.
fn find<Address: Into<IpAddr> + Copy>(ranges: &[Range<Address>], address: Address) -> Option<&'static str> {
    ranges.iter().find(|range| covers(range, address)).map(|range| range.2)
}

fn covers<Address: Into<IpAddr> + Copy>((first, bits, _): &Range<Address>, address: Address) -> bool {
    match ((*first).into(), address.into()) {
        (IpAddr::V4(first), IpAddr::V4(ip)) => (first.to_bits() ^ ip.to_bits()).leading_zeros() >= *bits,
        (IpAddr::V6(first), IpAddr::V6(ip)) => (first.to_bits() ^ ip.to_bits()).leading_zeros() >= *bits,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Whether an IPv6 address is nothing but a spelling of an IPv4 one: it is public where that one is.
fn stands_for_v4(v6: Ipv6Addr) -> bool {
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => false,
        // RFC 4291: compatible and mapped; RFC 7915: translated; RFC 6052: NAT64; RFC 3056: 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => true,
        [0x2002, ..] => true,
        _ => false,
    }
}

/// The IPv4 addresses that an IPv6 one leads to, in every way in which it can be read.
fn embedded(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = v6.to_bits();
    // The 32 bits that begin at this one, but for bits 64 to 71, which RFC 6052 leaves out.
    let from = |start: u32| Ipv4Addr::from_bits((bits >> (96 - start)) as u32);
    let around = |start: u32| {
        let without = (bits >> 64 << 64) | ((bits << 8) & u128::from(u64::MAX));
        Ipv4Addr::from_bits((without >> (96 - start)) as u32)
    };
    match v6.segments() {
        [0x2002, ..] => vec![from(16)],
        // RFC 4380: the server, and the client with all bits turned.
        [0x2001, 0, ..] => vec![from(32), Ipv4Addr::from_bits(!from(96).to_bits())],
        // RFC 8215: whoever runs it chooses the length of the prefix, and with it the place.
        [0x64, 0xff9b, 1, ..] => {
            let readings = [around(48), around(56), around(64), from(96)];
            // The others read what is empty.
            readings.into_iter().filter(|ip| ip.octets()[0] != 0).collect()
        }
        // RFC 5214: ISATAP, in any network.
        [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => vec![from(96)],
        _ if stands_for_v4(v6) => vec![from(96)],
        _ => Vec::new(),
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
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
            "::ffff:0:a9fe:a9fe",
            "2001:0:a9fe:a9fe::1",
            "2001:0:808:808::5601:5601",
            "2603:1020::200:5efe:a9fe:a9fe",
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
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "::ffff:0:a00:1",
            "2002:a00:1::1",
            "2603:1020::5efe:a00:1",
            "2001:0:808:808::1",
            "2001:2::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "100:0:0:1::1",
            "5f00::1",
            "4000::1",
        ];
        for ip in private {
            assert!(refusal(ip.parse().unwrap(), true).is_none(), "{ip}");
            assert!(refusal(ip.parse().unwrap(), false).is_some(), "{ip}");
        }
        for ip in [
            "20.50.2.1",
            "172.32.0.1",
            "100.128.0.1",
            "2603:1020::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:200::1",
        ] {
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
        for url in ["http://localhost.example.com/", "http://127.0.0.1.example/", "http://10.0.0.1/"] {
            assert!(!is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
    }
}
