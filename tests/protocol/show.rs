//! A server's messages as readable lines, without what differs between two healthy servers.

use std::fmt::Write as _;

use crate::support::raw::{Message, field, values};

/// One line for one message.
pub(crate) fn show(message: &Message) -> String {
    let body = &message.body;
    let text = || String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned();
    match message.tag {
        b'1' => "ParseComplete".to_owned(),
        b'2' => "BindComplete".to_owned(),
        b'3' => "CloseComplete".to_owned(),
        b'A' => "NotificationResponse".to_owned(),
        b'C' => format!("CommandComplete {}", text()),
        b'D' => {
            let values: Vec<String> = values(body).iter().map(|v| value(v.as_deref())).collect();
            format!("DataRow {}", values.join(" "))
        }
        b'E' => format!("ErrorResponse {}", fields(message)),
        b'N' => format!("NoticeResponse {}", fields(message)),
        b'G' => format!("CopyInResponse {}", hex(body)),
        b'H' => format!("CopyOutResponse {}", hex(body)),
        b'I' => "EmptyQueryResponse".to_owned(),
        b'S' => format!("ParameterStatus {}", text().replace('\0', "=")),
        b'T' => format!("RowDescription {}", columns(body)),
        b'Z' => format!("ReadyForQuery {}", text()),
        b'c' => "CopyDone".to_owned(),
        b'd' => format!("CopyData {}", value(Some(body))),
        b'n' => "NoData".to_owned(),
        b's' => "PortalSuspended".to_owned(),
        b't' => format!("ParameterDescription {}", hex(body)),
        tag => format!("{} {}", char::from(tag), hex(body)),
    }
}

/// Everything but file, line and routine.
fn fields(message: &Message) -> String {
    let mut line = field(message, b'S');
    for code in b"VCMDHPpqWstcdn" {
        let mut value = field(message, *code);
        // A statement that a client calls s1 has a name of the proxy's on the shard.
        if let Some((before, after)) = value.split_once("prepared statement \"pgmeridian_") {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            value = format!("{before}prepared statement \"s1{after}");
        }
        if message.tag == b'N' && value.contains(" ms") {
            value = without_times(&value);
        }
        let again = *code == b'V' && value == line;
        if !value.is_empty() && !again {
            let _ = write!(line, " {}={value:?}", char::from(*code));
        }
    }
    line
}

/// How long something took is not to be compared.
fn without_times(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.parse::<f64>() {
        Ok(_) => "…",
        Err(_) => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Name, whether it is a table's column, its number there, type, size, modifier, format.
fn columns(body: &[u8]) -> String {
    let mut shown = Vec::new();
    let mut rest = &body[2..];
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let name = String::from_utf8_lossy(&rest[..end]).into_owned();
        let fixed = &rest[end + 1..end + 19];
        let word = |at: usize| i32::from_be_bytes(fixed[at..at + 4].try_into().unwrap());
        let half = |at: usize| i16::from_be_bytes(fixed[at..at + 2].try_into().unwrap());
        let table = if word(0) == 0 { String::new() } else { format!("@{}", half(4)) };
        shown.push(format!("{name}{table}:{}/{}/{}/{}", word(6), half(10), word(12), half(16)));
        rest = &rest[end + 19..];
    }
    if shown.len() > 20 {
        return format!("{} columns, {:016x}", shown.len(), checksum(shown.join(" ").as_bytes()));
    }
    shown.join(" ")
}

fn value(value: Option<&[u8]>) -> String {
    match value {
        None => "null".to_owned(),
        Some(long) if long.len() > 200 => {
            format!("<{} bytes, {:016x}>", long.len(), checksum(long))
        }
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => {
                format!("{text:?}")
            }
            _ => hex(bytes),
        },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("\\x"), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
