//! Several tables' rows out of one statement, so that all of them are of one snapshot.
//!
//! Within a READ COMMITTED transaction each statement has a snapshot of its own (manual, "Read Committed Isolation
//! Level"), so that the rows of two tables come from one statement or not from one snapshot. [`joined`] is that
//! statement: a full join on nothing, whose rows have one table's columns each between two marks, and NULLs
//! everywhere else. [`Parts`] takes them apart again: PostgreSQL manual, "COPY", "Binary Format".

/// What a binary COPY begins with: signature, flags, length of the extension.
pub(super) const HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(super) const TRAILER: [u8; 2] = [0xff, 0xff];

/// One query for the rows of several.
pub(super) fn joined(queries: &[&str]) -> String {
    let part = |(n, sql): (usize, &&str)| {
        let end = if n == 0 { "" } else { " ON false" };
        format!("(SELECT {n} AS a, q.*, {n} AS z FROM ({sql}) q) p{n}{end}")
    };
    let parts: Vec<String> = queries.iter().enumerate().map(part).collect();
    format!("SELECT * FROM {}", parts.join(" FULL JOIN "))
}

/// The rows of each query, without header and trailer.
#[derive(Debug)]
pub(super) struct Parts {
    rows: Vec<Vec<u8>>,
    /// What came and is no whole row yet.
    rest: Vec<u8>,
    begun: bool,
}

/// It is no binary COPY of [`joined`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Parts {
    /// Of so many queries.
    pub(super) fn new(queries: usize) -> Self {
        Self { rows: vec![Vec::new(); queries], rest: Vec::new(), begun: false }
    }

    /// Takes a query's rows.
    pub(super) fn take(&mut self, query: usize) -> Vec<u8> {
        self.rows.get_mut(query).map(std::mem::take).unwrap_or_default()
    }

    /// Takes data as it comes.
    pub(super) fn feed(&mut self, data: &[u8]) -> Result<(), Malformed> {
        self.rest.extend_from_slice(data);
        let mut at = 0;
        if !self.begun {
            let Some(header) = self.rest.first_chunk::<19>() else { return Ok(()) };
            if header.get(..11) != HEADER.get(..11) {
                return Err(Malformed);
            }
            let extension = header.last_chunk::<4>().map_or(0, |n| u32::from_be_bytes(*n) as usize);
            if self.rest.len() < HEADER.len() + extension {
                return Ok(());
            }
            at = HEADER.len() + extension;
            self.begun = true;
        }
        while let Some(length) = self.row(at)? {
            at += length;
        }
        self.rest.drain(..at);
        Ok(())
    }

    /// Takes the row that begins here: how long it is; `None` if it is not whole.
    fn row(&mut self, start: usize) -> Result<Option<usize>, Malformed> {
        let data = self.rest.get(start..).unwrap_or_default();
        let Some(count) = data.first_chunk::<2>() else { return Ok(None) };
        let count = i16::from_be_bytes(*count);
        if count < 0 {
            return Ok(Some(2));
        }
        let mut at = 2;
        // The first field that is not NULL, and the last one: their places, and where they begin.
        let mut first: Option<(i16, usize, usize)> = None;
        let mut last = (0, 0);
        for n in 0..count {
            let Some(length) = data.get(at..).and_then(<[u8]>::first_chunk::<4>) else {
                return Ok(None);
            };
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                at += 4;
                continue;
            };
            last = (n, at);
            at += 4 + length;
            if first.is_none() {
                let value = data.get(at - length..at).and_then(|v| v.first_chunk::<4>());
                let Some(value) = value else { return Ok(None) };
                first = Some((n, at, u32::from_be_bytes(*value) as usize));
            }
        }
        if data.len() < at {
            return Ok(None);
        }
        let (begin, body, query) = first.ok_or(Malformed)?;
        let (end, close) = last;
        let columns = (end - begin).checked_sub(1).ok_or(Malformed)?;
        let body = data.get(body..close).ok_or(Malformed)?;
        let out = self.rows.get_mut(query).ok_or(Malformed)?;
        out.extend_from_slice(&columns.to_be_bytes());
        out.extend_from_slice(body);
        Ok(Some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = (fields.len() as i16).to_be_bytes().to_vec();
        for field in fields {
            out.extend(field.map_or(-1, |f| f.len() as i32).to_be_bytes());
            out.extend_from_slice(field.unwrap_or_default());
        }
        out
    }

    #[test]
    fn rows_are_taken_apart_in_any_chunks() {
        let (zero, one) = (&[0u8, 0, 0, 0][..], &[0u8, 0, 0, 1][..]);
        let mut data = HEADER.to_vec();
        // The first query has two columns, the second one has one.
        data.extend(tuple(&[Some(zero), Some(b"a"), None, Some(zero), None, None, None]));
        data.extend(tuple(&[None, None, None, None, Some(one), None, Some(one)]));
        data.extend(tuple(&[None, None, None, None, Some(one), Some(b"xyz"), Some(one)]));
        data.extend(tuple(&[Some(zero), None, None, Some(zero), None, None, None]));
        data.extend(TRAILER);
        for size in 1..data.len() {
            let mut parts = Parts::new(2);
            for chunk in data.chunks(size) {
                parts.feed(chunk).unwrap();
            }
            let first = [tuple(&[Some(b"a"), None]), tuple(&[None, None])].concat();
            assert_eq!(parts.take(0), first, "chunks of {size}");
            assert_eq!(parts.take(1), [tuple(&[None]), tuple(&[Some(b"xyz")])].concat());
        }
        assert_eq!(Parts::new(1).feed(&[0; 30]), Err(Malformed));
    }

    #[test]
    fn it_is_one_statement() {
        assert_eq!(
            joined(&["SELECT 1", "SELECT 2"]),
            "SELECT * FROM (SELECT 0 AS a, q.*, 0 AS z FROM (SELECT 1) q) p0 FULL JOIN (SELECT 1 AS a, q.*, 1 AS z FROM (SELECT 2) q) p1 ON false"
        );
    }
}
