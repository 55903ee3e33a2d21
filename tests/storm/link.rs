//! A connection that speaks bytes without blocking a thread: thousands of them fit one process.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::raw::{Message, field, frame, query, startup};

/// Whoever waits longer for an answer is stuck.
pub(crate) const STUCK: Duration = Duration::from_secs(180);

/// What ends a client's life in a test: words for people.
pub(crate) type Fault = String;

/// A logged-in connection.
pub(crate) struct Link {
    socket: TcpStream,
    input: Vec<u8>,
    at: usize,
    /// `BackendKeyData`.
    key: (i32, i32),
    address: SocketAddr,
    /// What `ParameterStatus` has said last.
    pub(crate) parameters: HashMap<String, String>,
    /// Notifications, as `channel:payload`.
    pub(crate) heard: VecDeque<String>,
    /// Of the last `ReadyForQuery`.
    pub(crate) status: u8,
}

/// What came back, up to `ReadyForQuery` or the end.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) messages: Vec<Message>,
    /// The server closed the connection instead of becoming ready.
    pub(crate) ended: bool,
}

impl Reply {
    /// The first error's SQLSTATE, or nothing.
    pub(crate) fn code(&self) -> String {
        crate::support::raw::sqlstate(&self.messages)
    }

    /// The first error in words.
    pub(crate) fn words(&self) -> String {
        let error = self.messages.iter().find(|m| m.tag == b'E');
        error.map_or_else(String::new, |m| format!("{} {}", field(m, b'C'), field(m, b'M')))
    }

    /// All rows, NULL as `~`.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let rows = crate::support::raw::rows(&self.messages).into_iter();
        rows.map(|row| row.into_iter().map(|v| v.unwrap_or_else(|| "~".to_owned())).collect())
            .collect()
    }

    /// Command tags, in order.
    pub(crate) fn tags(&self) -> Vec<String> {
        let complete = self.messages.iter().filter(|m| m.tag == b'C');
        complete
            .map(|m| String::from_utf8_lossy(&m.body).trim_end_matches('\0').to_owned())
            .collect()
    }

    /// The types of the messages.
    pub(crate) fn types(&self) -> String {
        self.messages.iter().map(|m| char::from(m.tag)).collect()
    }
}

impl Link {
    /// Logs in by trust as `bot`.
    pub(crate) async fn log_in(address: SocketAddr, application: &str) -> Result<Self, Fault> {
        // The kernel's queue of a listener may be full for a moment.
        let dialled = timeout(STUCK, TcpStream::connect(address)).await;
        let socket =
            dialled.map_err(|_| "stuck in connect")?.map_err(|e| format!("connect: {e}"))?;
        socket.set_nodelay(true).map_err(|e| e.to_string())?;
        let mut link = Self {
            socket,
            input: Vec::new(),
            at: 0,
            key: (0, 0),
            address,
            parameters: HashMap::new(),
            heard: VecDeque::new(),
            status: b'I',
        };
        let parameters = [("user", "bot"), ("database", "bots"), ("application_name", application)];
        link.send(&startup(&parameters)).await?;
        let greeting = link.until_ready().await?;
        let key = greeting.messages.iter().find(|m| m.tag == b'K');
        let Some(key) = key.filter(|_| !greeting.ended) else {
            return Err(format!("not let in: {}", greeting.words()));
        };
        let word = |at: usize| i32::from_be_bytes(key.body[at..at + 4].try_into().unwrap());
        link.key = (word(0), word(4));
        Ok(link)
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let sent = timeout(STUCK, self.socket.write_all(bytes)).await;
        sent.map_err(|_| "stuck: the server does not read")?.map_err(|e| format!("send: {e}"))
    }

    /// The next message; `None` at the end of the connection.
    pub(crate) async fn receive(&mut self) -> Result<Option<Message>, Fault> {
        loop {
            if let Some(message) = self.take() {
                match message.tag {
                    b'A' => {
                        let text = String::from_utf8_lossy(&message.body[4..]).into_owned();
                        let mut parts = text.split('\0');
                        let (channel, payload) = (parts.next(), parts.next());
                        self.heard.push_back(format!(
                            "{}:{}",
                            channel.unwrap_or_default(),
                            payload.unwrap_or_default()
                        ));
                        continue;
                    }
                    b'S' => {
                        let text = String::from_utf8_lossy(&message.body).into_owned();
                        let mut parts = text.split('\0').map(str::to_owned);
                        self.parameters.insert(
                            parts.next().unwrap_or_default(),
                            parts.next().unwrap_or_default(),
                        );
                        continue;
                    }
                    b'Z' => self.status = message.body[0],
                    _ => {}
                }
                return Ok(Some(message));
            }
            self.input.drain(..std::mem::take(&mut self.at));
            self.input.reserve(4096);
            match timeout(STUCK, self.socket.read_buf(&mut self.input)).await {
                Err(_) => return Err("stuck: no answer came".to_owned()),
                Ok(Ok(0) | Err(_)) => return Ok(None),
                Ok(Ok(_)) => {}
            }
        }
    }

    fn take(&mut self) -> Option<Message> {
        let rest = self.input.get(self.at..)?;
        let header = rest.first_chunk::<5>()?;
        let length = u32::from_be_bytes(header[1..5].try_into().unwrap()) as usize;
        let body = rest.get(5..length + 1)?.to_vec();
        let tag = header[0];
        self.at += length + 1;
        Some(Message { tag, body })
    }

    /// Everything up to `ReadyForQuery` or the end.
    pub(crate) async fn until_ready(&mut self) -> Result<Reply, Fault> {
        let mut reply = Reply::default();
        while let Some(message) = self
            .receive()
            .await
            .map_err(|e| format!("{e}; before that: {}, {}", reply.types(), reply.words()))?
        {
            let ready = message.tag == b'Z';
            reply.messages.push(message);
            if ready {
                return Ok(reply);
            }
        }
        reply.ended = true;
        Ok(reply)
    }

    /// A simple query and its answer.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Reply, Fault> {
        self.send(&query(sql)).await?;
        self.until_ready().await
    }

    /// A query with text parameters, by the unnamed statement.
    pub(crate) async fn extended(&mut self, sql: &str, values: &[&str]) -> Result<Reply, Fault> {
        let mut out = parse("", sql);
        out.extend(bind("", "", values));
        out.extend(frame(b'D', b"P\0"));
        out.extend(execute("", 0));
        out.extend(frame(b'S', b""));
        self.send(&out).await?;
        self.until_ready().await
    }

    /// Asks for what runs to be cancelled; returns when the server has taken that.
    pub(crate) fn canceller(&self) -> impl Future<Output = ()> + Send + use<> {
        let (key, address) = (self.key, self.address);
        async move {
            let mut packet = 16_i32.to_be_bytes().to_vec();
            packet.extend_from_slice(&80_877_102_i32.to_be_bytes());
            packet.extend_from_slice(&key.0.to_be_bytes());
            packet.extend_from_slice(&key.1.to_be_bytes());
            if let Ok(mut other) = TcpStream::connect(address).await {
                let _ = other.write_all(&packet).await;
                let _ = timeout(STUCK, other.read(&mut [0])).await;
            }
        }
    }

    /// Says good-bye.
    pub(crate) async fn terminate(mut self) {
        let _ = self.send(&frame(b'X', b"")).await;
    }

    /// Closes the socket and keeps the rest, to be replaced.
    pub(crate) async fn hang_up(&mut self, abruptly: bool) {
        if abruptly {
            let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
        let _ = self.socket.shutdown().await;
    }

    /// Ends without a word: by FIN, or by RST when there is something unread.
    pub(crate) fn vanish(self, abruptly: bool) {
        if abruptly {
            let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Parse, without parameter types.
pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Bind with text parameters and results.
pub(crate) fn bind(portal: &str, name: &str, values: &[&str]) -> Vec<u8> {
    let mut body = format!("{portal}\0{name}\0\0\0").into_bytes();
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    frame(b'B', &body)
}

/// Execute.
pub(crate) fn execute(portal: &str, rows_max: u32) -> Vec<u8> {
    frame(b'E', &[portal.as_bytes(), b"\0", &rows_max.to_be_bytes()].concat())
}
