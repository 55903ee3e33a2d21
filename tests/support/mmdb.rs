//! A small `GeoIP` file of countries, in `MaxMind`'s format (version 2): a binary tree over addresses, whose
//! leaves lead to records.

use std::net::Ipv4Addr;

/// A file in which these networks have these countries.
pub(crate) fn countries(kind: &str, networks: &[(Ipv4Addr, u8, &str)]) -> Vec<u8> {
    /// Where a record leads.
    #[derive(Clone, Copy)]
    enum To {
        Nowhere,
        Node(usize),
        Data(usize),
    }
    let (mut nodes, mut data) = (vec![[To::Nowhere; 2]], Vec::new());
    for (base, length, code) in networks {
        let at = data.len();
        map(&mut data, 1);
        text(&mut data, "country");
        map(&mut data, 1);
        text(&mut data, "iso_code");
        text(&mut data, code);
        let mut node = 0;
        for bit in 0..*length {
            let side = usize::try_from(base.to_bits() >> (31 - bit) & 1).unwrap();
            if bit + 1 == *length {
                nodes[node][side] = To::Data(at);
            } else if let To::Node(next) = nodes[node][side] {
                node = next;
            } else {
                nodes.push([To::Nowhere; 2]);
                nodes[node][side] = To::Node(nodes.len() - 1);
                node = nodes.len() - 1;
            }
        }
    }
    let mut file = Vec::new();
    for record in nodes.iter().flatten() {
        let value = match *record {
            To::Nowhere => nodes.len(),
            To::Node(node) => node,
            To::Data(at) => nodes.len() + 16 + at,
        };
        file.extend_from_slice(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
    }
    file.extend_from_slice(&[0; 16]);
    file.append(&mut data);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    map(&mut file, 9);
    for (name, ty, value) in [
        ("binary_format_major_version", 5, 2),
        ("binary_format_minor_version", 5, 0),
        ("ip_version", 5, 4),
        ("record_size", 5, 24),
        ("node_count", 6, nodes.len()),
    ] {
        text(&mut file, name);
        file.push(ty << 5 | 4);
        if ty == 5 {
            *file.last_mut().unwrap() = ty << 5 | 2;
            file.extend_from_slice(&u16::try_from(value).unwrap().to_be_bytes());
        } else {
            file.extend_from_slice(&u32::try_from(value).unwrap().to_be_bytes());
        }
    }
    text(&mut file, "build_epoch");
    // Types past seven stand in a byte of their own: here uint64 and, below, an array.
    file.extend_from_slice(&[4, 2, 0x60, 0, 0, 0]);
    text(&mut file, "database_type");
    text(&mut file, kind);
    text(&mut file, "languages");
    file.extend_from_slice(&[0, 4]);
    text(&mut file, "description");
    map(&mut file, 0);
    file
}

fn map(into: &mut Vec<u8>, pairs: u8) {
    into.push(7 << 5 | pairs);
}

fn text(into: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 29 + 200);
    if length < 29 {
        into.push(2 << 5 | length);
    } else {
        into.extend_from_slice(&[0x5d, length - 29]);
    }
    into.extend_from_slice(text.as_bytes());
}
