//! A connection whose messages are looked at one by one: what workspaces and COPY over several shards need.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::BytesMut;

use super::answer::Asked;
use super::io::with_read_buffer;
use super::parts::{self, Parts};
use super::scatter::Trouble;
use crate::map::ShardId;
use crate::wire::backend::tag;
use crate::wire::{self, frame, response};

/// Rows that were taken apart go to the host in pieces of this size.
pub(super) const PART_BYTES: usize = 64 << 10;

/// A connection with what was read of it and not yet looked at.
pub(super) struct Line {
    pub(super) asked: Asked,
    pub(super) inbox: BytesMut,
    /// An answer is not yet read to its end.
    pub(super) open: bool,
    /// Its tables' rows come in one COPY, and are taken apart.
    pub(super) parts: Option<Parts>,
    /// A transaction of the client's is open.
    pub(super) within: bool,
    /// How many of them were taken.
    pub(super) taken: usize,
    /// When its last rows were taken.
    pub(super) done: Option<Instant>,
}

impl Line {
    pub(super) fn of(asked: Asked) -> Self {
        Self {
            asked,
            inbox: BytesMut::new(),
            open: false,
            parts: None,
            within: false,
            taken: 0,
            done: None,
        }
    }

    pub(super) fn shard(&self) -> ShardId {
        self.asked.shard()
    }

    /// Sends what one `ReadyForQuery` will answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<(), Trouble> {
        self.open = true;
        if self.asked.ask(request).await { Ok(()) } else { Err(Trouble::Lost(self.shard())) }
    }

    /// Sends data that belongs to what was asked.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let sent = self.asked.held.lease.send_all(bytes).await;
        sent.map_err(|_| Trouble::Lost(self.shard()))
    }

    pub(super) async fn read(&mut self) -> Result<(), Trouble> {
        let (asked, inbox) = (&mut self.asked, &mut self.inbox);
        let alive = poll_fn(|cx| {
            with_read_buffer(|buffer| {
                let alive = ready!(asked.poll_read(cx, buffer));
                inbox.extend_from_slice(buffer.filled());
                Poll::Ready(alive)
            })
        });
        if alive.await { Ok(()) } else { Err(Trouble::Lost(self.shard())) }
    }

    /// The next message: its tag and body. Those that may come at any time are seen to.
    pub(super) async fn message(&mut self) -> Result<(u8, BytesMut), Trouble> {
        loop {
            let header = frame::header(&self.inbox).map_err(|_| Trouble::Lost(self.shard()))?;
            let Some((kind, length)) = header.filter(|(_, length)| *length <= self.inbox.len())
            else {
                self.read().await?;
                continue;
            };
            let mut body = self.inbox.split_to(length);
            let _ = body.split_to(frame::HEADER_BYTES);
            match kind {
                tag::NOTICE => {}
                tag::PARAMETER_STATUS => {
                    if let Ok((name, value)) = response::parameter_status(&body) {
                        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                        self.asked.held.lease.note_parameter(&text(name), &text(value));
                    }
                }
                tag::READY_FOR_QUERY => {
                    self.open = false;
                    return Ok((kind, body));
                }
                _ => return Ok((kind, body)),
            }
        }
    }

    /// Reads on until nothing more is expected; the first error that comes is returned then.
    pub(super) async fn finish(&mut self) -> Result<(), Trouble> {
        let mut error = None;
        while self.open {
            let (kind, body) = self.message().await?;
            if kind == tag::ERROR {
                error.get_or_insert(body);
            }
        }
        error.map_or(Ok(()), |body| Err(Trouble::Server(body.to_vec())))
    }

    /// Waits for a message of this kind within the answers to a query string.
    pub(super) async fn until(&mut self, wanted: u8) -> Result<(), Trouble> {
        loop {
            let (kind, body) = self.message().await?;
            match kind {
                kind if kind == wanted => return Ok(()),
                tag::ERROR => return Err(Trouble::Server(body.to_vec())),
                tag::READY_FOR_QUERY => return Err(Trouble::Lost(self.shard())),
                _ => {}
            }
        }
    }

    /// Reads one COPY and takes its rows apart; how many bytes there may still be afterwards.
    pub(super) async fn take_apart(&mut self, mut left: u64) -> Result<u64, Trouble> {
        self.until(tag::COPY_OUT).await?;
        loop {
            let (kind, body) = self.message().await?;
            match kind {
                tag::COPY_DATA => {
                    left = left.checked_sub(body.len() as u64).ok_or(Trouble::TooMuch)?;
                    let fed = self.parts.as_mut().map(|parts| parts.feed(&body));
                    if matches!(fed, Some(Err(_))) {
                        return Err(Trouble::Lost(self.shard()));
                    }
                }
                tag::COPY_DONE => return Ok(left),
                tag::ERROR => return Err(Trouble::Server(body.to_vec())),
                _ => return Err(Trouble::Lost(self.shard())),
            }
        }
    }

    /// Gives the rows of the next table to another connection.
    pub(super) async fn part_to(&mut self, host: &mut Self) -> Result<(), Trouble> {
        let query = self.taken;
        self.taken += 1;
        let rows = self.parts.as_mut().map(|parts| parts.take(query)).unwrap_or_default();
        let chunks = rows.chunks(PART_BYTES);
        for chunk in std::iter::once(&parts::HEADER[..]).chain(chunks).chain([&parts::TRAILER[..]])
        {
            let mut data = Vec::with_capacity(chunk.len() + frame::HEADER_BYTES);
            frame::append(&mut data, tag::COPY_DATA, chunk);
            host.send(&data).await?;
        }
        let mut done = Vec::new();
        wire::frontend::copy_done_into(&mut done);
        host.send(&done).await
    }

    /// Moves the data of one COPY to another connection; how many bytes there may still be afterwards.
    pub(super) async fn copy_to(&mut self, host: &mut Self, mut left: u64) -> Result<u64, Trouble> {
        self.until(tag::COPY_OUT).await?;
        loop {
            let mut whole = 0;
            let mut end = None;
            while let Ok(Some((kind, length))) =
                frame::header(self.inbox.get(whole..).unwrap_or_default())
            {
                if kind != tag::COPY_DATA {
                    end = Some(kind);
                    break;
                }
                if length as u64 > left {
                    return Err(Trouble::TooMuch);
                }
                if whole + length > self.inbox.len() {
                    break;
                }
                left -= length as u64;
                whole += length;
            }
            if whole > 0 {
                let data = self.inbox.split_to(whole);
                host.send(&data).await?;
            }
            if end.is_some() {
                let (kind, body) = self.message().await?;
                match kind {
                    tag::COPY_DONE => break,
                    // Something else came in between.
                    tag::COPY_DATA => {
                        let length = body.len() as u64;
                        left = left.checked_sub(length).ok_or(Trouble::TooMuch)?;
                        host.send(&frame::of(tag::COPY_DATA, &body)).await?;
                        continue;
                    }
                    tag::ERROR => return Err(Trouble::Server(body.to_vec())),
                    _ => return Err(Trouble::Lost(self.shard())),
                }
            }
            self.read().await?;
        }
        let mut done = Vec::new();
        wire::frontend::copy_done_into(&mut done);
        host.send(&done).await?;
        Ok(left)
    }
}
