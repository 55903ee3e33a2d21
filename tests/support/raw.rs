//! A client that speaks bytes: it can say what no driver would, and shows every message it gets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Whoever waits longer for an answer has found a hang.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The start-up parameters of the role and database of scratch clusters.
pub(crate) const BOT: [(&str, &str); 2] = [("user", "bot"), ("database", "bots")];

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The server closed the connection.
    End,
    /// Nothing came in time.
    Hang,
}

/// A connection.
pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    input: Vec<u8>,
    /// `BackendKeyData`.
    pub(crate) key: (i32, i32),
    address: SocketAddr,
}

impl Raw {
    /// A connection that has said nothing yet.
    pub(crate) fn dial(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, input: Vec::new(), key: (0, 0), address }
    }

    /// The same connection again, to read while the other one writes.
    pub(crate) fn second_hand(&self) -> Self {
        let socket = self.socket.try_clone().unwrap();
        Self { socket, input: Vec::new(), key: self.key, address: self.address }
    }

    /// A connection that is logged in (by trust), and what it was told on the way.
    pub(crate) fn log_in(address: SocketAddr, parameters: &[(&str, &str)]) -> (Self, Vec<Message>) {
        let mut raw = Self::dial(address);
        raw.send(&startup(parameters));
        let mut told = Vec::new();
        loop {
            let message = raw.receive().unwrap_or_else(|why| panic!("{why:?} after {told:?}"));
            if message.tag == b'K' {
                let word =
                    |at: usize| i32::from_be_bytes(message.body[at..at + 4].try_into().unwrap());
                raw.key = (word(0), word(4));
            }
            let last = matches!(message.tag, b'Z' | b'E');
            told.push(message);
            if last {
                return (raw, told);
            }
        }
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes that the server may not want any more.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.set_write_timeout(Some(ANSWER_MAX)).unwrap();
        self.socket.write_all(bytes)
    }

    /// The next message.
    pub(crate) fn receive(&mut self) -> Result<Message, Silence> {
        self.receive_within(ANSWER_MAX)
    }

    /// The next message, if it comes soon.
    pub(crate) fn receive_within(&mut self, patience: Duration) -> Result<Message, Silence> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(message) = self.take() {
                return Ok(message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Silence::Hang);
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut buffer = vec![0; 65536];
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(Silence::End),
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(Silence::Hang);
                }
                Err(_) => return Err(Silence::End),
            }
        }
    }

    fn take(&mut self) -> Option<Message> {
        let header = self.input.first_chunk::<5>()?;
        let length = u32::from_be_bytes(header[1..5].try_into().unwrap()) as usize;
        let tag = header[0];
        let body = self.input.get(5..length + 1)?.to_vec();
        self.input.drain(..=length);
        Some(Message { tag, body })
    }

    /// A simple query's answers, up to `ReadyForQuery`.
    pub(crate) fn query(&mut self, sql: &str) -> Vec<Message> {
        self.send(&query(sql));
        self.until_ready()
    }

    /// Everything up to `ReadyForQuery`, or the end.
    pub(crate) fn until_ready(&mut self) -> Vec<Message> {
        let mut answers = Vec::new();
        loop {
            match self.receive() {
                Ok(message) => {
                    let ready = message.tag == b'Z';
                    answers.push(message);
                    if ready {
                        return answers;
                    }
                }
                Err(Silence::End) => return answers,
                Err(Silence::Hang) => {
                    let tags: String = answers.iter().map(|m| char::from(m.tag)).collect();
                    panic!("no ReadyForQuery came; before that: {tags}, {:?}", answers.last())
                }
            }
        }
    }

    /// Asks for this connection's statement to be cancelled.
    pub(crate) fn cancel(&self) {
        let mut packet = 16_i32.to_be_bytes().to_vec();
        packet.extend_from_slice(&80_877_102_i32.to_be_bytes());
        packet.extend_from_slice(&self.key.0.to_be_bytes());
        packet.extend_from_slice(&self.key.1.to_be_bytes());
        let mut other = Self::dial(self.address);
        other.send(&packet);
        // The server closes when it has done what it will do.
        let _ = other.receive();
    }
}

/// A frame.
pub(crate) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![tag];
    frame.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// Query.
pub(crate) fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// A start-up packet for protocol 3.0.
pub(crate) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_i32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut packet = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    packet.extend_from_slice(&body);
    packet
}

/// A field of an `ErrorResponse` or `NoticeResponse`.
pub(crate) fn field(message: &Message, code: u8) -> String {
    let fields = message.body.split(|byte| *byte == 0);
    let found = fields.filter_map(|field| field.split_first()).find(|(own, _)| **own == code);
    found.map_or(String::new(), |(_, value)| String::from_utf8_lossy(value).into_owned())
}

/// The SQLSTATE of the first error among messages.
pub(crate) fn sqlstate(messages: &[Message]) -> String {
    messages.iter().find(|m| m.tag == b'E').map_or(String::new(), |m| field(m, b'C'))
}

/// The values of all rows, as text.
pub(crate) fn rows(messages: &[Message]) -> Vec<Vec<Option<String>>> {
    messages
        .iter()
        .filter(|m| m.tag == b'D')
        .map(|m| values(&m.body))
        .map(|row| {
            row.into_iter().map(|v| v.map(|v| String::from_utf8_lossy(&v).into_owned())).collect()
        })
        .collect()
}

/// A `DataRow`'s values.
pub(crate) fn values(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut values = Vec::new();
    let mut rest = &body[2..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        if let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) {
            values.push(Some(after[..length].to_vec()));
            rest = &after[length..];
        } else {
            values.push(None);
            rest = after;
        }
    }
    values
}
