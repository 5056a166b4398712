//! Which addresses are the public internet's, after the special-purpose registries of IANA (RFC 6890).
//!
//! Everything else is the node's surroundings: itself, its network, its cloud's metadata service.
//! Addresses that carry an IPv4 address inside are judged by that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a function may be connected to `address` although its manifest does not name it.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Whether `address` is where clouds keep what they tell a machine about itself, its credentials among it, or another
/// that only this machine's own link can mean. A name is never believed to stand for one of these, since whoever
/// answers for the name would choose what is called; a manifest has to write the address itself.
pub(crate) fn is_metadata(address: IpAddr) -> bool {
    let address = match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => match inner_v4(address) {
            Some(inner) => inner,
            None => return is_metadata_v6(address),
        },
    };
    // Link-local, where most clouds have it; Alibaba's, Oracle's and Azure's other ones.
    address.is_link_local() || matches!(address.octets(), [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16])
}

fn is_metadata_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [first, ..] if first & 0xffc0 == 0xfe80 => true,
        // Amazon's, Google's.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => true,
        _ => false,
    }
}

/// The IPv4 address inside an IPv6 one: mapped, compatible, NAT64, 6to4.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            from(high, low)
        }
        _ => None,
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0 // "this network"
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local() // with the metadata service, 169.254.169.254
        || (a == 100 && b & 0b1100_0000 == 64) // shared by carriers; also metadata of some clouds
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 192 && b == 88 && c == 99) // 6to4 relays, withdrawn
        || address.is_documentation()
        || (a == 198 && b & 0b1111_1110 == 18) // benchmarks
        || address.is_multicast()
        || a >= 240; // reserved, and broadcast
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let tail = Ipv4Addr::from(u32::from(segments[6]) << 16 | u32::from(segments[7]));
    match segments {
        // Unspecified, loopback, IPv4-compatible.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => false,
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] => is_public_v4(tail),
        // NAT64, and its local form.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => is_public_v4(tail),
        [0x64, 0xff9b, 1, ..] => false,
        // 6to4 has the IPv4 address behind its prefix.
        [0x2002, high, low, ..] => is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        // Teredo, ORCHID, benchmarks and the other protocol assignments; documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast is 2000::/3. Outside it: local, link-local, multicast, not assigned.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surroundings_are_not_public() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn metadata_services_are_known_however_they_are_written() {
        let is = |text: &str| is_metadata(text.parse().unwrap());
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
        ] {
            assert!(is(text), "{text}");
        }
        for text in ["127.0.0.1", "10.0.0.1", "168.63.129.17", "::1", "fd00::1", "1.1.1.1", "2606:4700::1111"] {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn the_internet_is() {
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
