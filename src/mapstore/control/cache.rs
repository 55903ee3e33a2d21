//! What was read last from the control database and was good, kept on disk: a proxy starts and runs while
//! that database is away.
//!
//! A file of lines in chunks; each chunk ends with a line that has the SHA-256 of what stands before it, so
//! that a torn end is not read. The first chunk holds everything, later ones what has changed since; now and
//! then the file is written anew. Connection strings are kept as they stand in the table: mode 0600, and
//! references (`${VAR}`, `file:`) stay references. One process at a time writes (a lock file beside it).

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::read::{Snapshot, Version, put_row, shard_row, unescape};
use crate::datum::KeyType;
use crate::map::{Entries, Tables};

/// The first line: what the file is, and the version of its format.
const HEADER: &str = "pgmeridian control cache 1";

/// Changes are appended until they are this share of the file, but for at least so many.
const APPENDED_SHARE: u64 = 4;
const APPENDED_MIN: u64 = 10_000;

/// The file.
pub(super) struct Cache {
    path: PathBuf,
    /// Held as long as this process may write.
    lock: Option<File>,
    /// What the file holds, when this process wrote it.
    kept: Option<Snapshot>,
    appended: u64,
}

impl Cache {
    /// The cache of a map.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, lock: None, kept: None, appended: 0 }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// When it was written last.
    pub(super) fn written(&self) -> Option<SystemTime> {
        fs::metadata(&self.path).and_then(|file| file.modified()).ok()
    }

    /// What the file holds, if it is of this database and this type of key; an error says why it is of no
    /// use.
    pub(super) fn read(&self, database: &str, ty: KeyType) -> io::Result<Snapshot> {
        let snapshot = read_chunks(BufReader::new(File::open(&self.path)?), ty)?;
        if snapshot.tables.database != database {
            return Err(other("it is of another control database"));
        }
        Ok(snapshot)
    }

    /// Keeps what was read and was good.
    pub(super) fn keep(&mut self, snapshot: &Snapshot, ty: KeyType) -> io::Result<()> {
        if !self.may_write()? {
            return Ok(());
        }
        let limit = (snapshot.tables.entries.len() / APPENDED_SHARE).max(APPENDED_MIN);
        let outcome = match self.kept.take() {
            Some(kept) if self.appended < limit && self.path.exists() => {
                self.append(&kept, snapshot)
            }
            _ => self.write_all(snapshot, ty),
        };
        // After a failure nobody knows what the file holds: it is written anew the next time.
        self.kept = outcome.is_ok().then(|| snapshot.clone());
        outcome
    }

    fn may_write(&mut self) -> io::Result<bool> {
        if self.lock.is_none() {
            let mut path = self.path.clone().into_os_string();
            path.push(".lock");
            let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            match lock.try_lock() {
                Ok(()) => self.lock = Some(lock),
                // Another proxy on this machine keeps it.
                Err(fs::TryLockError::WouldBlock) => return Ok(false),
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(true)
    }

    fn write_all(&mut self, snapshot: &Snapshot, ty: KeyType) -> io::Result<()> {
        let mut path = self.path.clone().into_os_string();
        path.push(".new");
        let path = PathBuf::from(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let mut out = Chunk { out: BufWriter::new(file), hash: Sha256::new() };
        let tables = &snapshot.tables;
        out.line(&[HEADER])?;
        out.line(&["database", &escape(Some(&tables.database))])?;
        out.line(&["type", ty.name()])?;
        write_shards(&mut out, tables)?;
        write_freezes(&mut out, tables)?;
        for (key, home) in tables.entries.rows() {
            out.line(&["tenant", &escape(Some(&key.to_string())), &home.to_string()])?;
        }
        let mut file = out.end(snapshot.version.as_ref())?.into_inner().map_err(io::Error::from)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&path, &self.path)?;
        self.appended = 0;
        Ok(())
    }

    fn append(&mut self, kept: &Snapshot, snapshot: &Snapshot) -> io::Result<()> {
        let moved = snapshot.tables.entries.moved_since(&kept.tables.entries);
        let mut out = Chunk { out: Vec::new(), hash: Sha256::new() };
        if kept.tables.shards != snapshot.tables.shards {
            write_shards(&mut out, &snapshot.tables)?;
        }
        if kept.tables.freezes != snapshot.tables.freezes {
            write_freezes(&mut out, &snapshot.tables)?;
        }
        for moved in &moved {
            let key = escape(Some(&moved.key.to_string()));
            match moved.to {
                Some(home) => out.line(&["tenant", &key, &home.to_string()])?,
                None => out.line(&["gone", &key])?,
            }
        }
        let chunk = out.end(snapshot.version.as_ref())?;
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        file.write_all(&chunk)?;
        file.sync_data()?;
        self.appended += moved.len() as u64 + 1;
        Ok(())
    }
}

fn write_shards(out: &mut Chunk<impl Write>, tables: &Tables) -> io::Result<()> {
    out.line(&["shards"])?;
    for row in &tables.shards {
        let values = [
            row.shard_id.as_deref(),
            row.region_code.as_deref(),
            row.datacenter.as_deref(),
            row.connection_string.written(),
            row.is_primary.as_deref(),
            row.is_active.as_deref(),
            row.min_tenant_id.as_deref(),
            row.max_tenant_id.as_deref(),
        ];
        let values = values.map(escape);
        let mut fields = vec!["shard"];
        fields.extend(values.iter().map(String::as_str));
        out.line(&fields)?;
    }
    Ok(())
}

fn write_freezes(out: &mut Chunk<impl Write>, tables: &Tables) -> io::Result<()> {
    out.line(&["freezes"])?;
    for (key, value) in &tables.freezes {
        out.line(&["frozen", &escape(Some(key)), &escape(Some(value))])?;
    }
    Ok(())
}

/// Lines, and the hash over them.
struct Chunk<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Chunk<W> {
    fn line(&mut self, fields: &[&str]) -> io::Result<()> {
        let mut line = fields.join("\t");
        line.push('\n');
        self.hash.update(&line);
        self.out.write_all(line.as_bytes())
    }

    fn end(mut self, version: Option<&Version>) -> io::Result<W> {
        if let Some(Version { number, token }) = version {
            self.line(&["version", &number.to_string(), &escape(Some(token))])?;
        }
        let sum = hex(&self.hash.finalize());
        writeln!(self.out, "end\t{sum}")?;
        Ok(self.out)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn other(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

/// As COPY's text format writes it.
fn escape(text: Option<&str>) -> String {
    let Some(text) = text else { return "\\N".to_owned() };
    if !text.contains(['\\', '\t', '\n', '\r']) {
        return text.to_owned();
    }
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

/// Chunk by chunk, up to the first that is torn or has another checksum.
fn read_chunks(mut lines: impl io::BufRead, ty: KeyType) -> io::Result<Snapshot> {
    let mut good: Option<Snapshot> = None;
    let mut next = empty(ty);
    let mut hash = Sha256::new();
    let mut line = Vec::new();
    let mut first = true;
    loop {
        line.clear();
        lines.read_until(b'\n', &mut line)?;
        let Some(content) = line.strip_suffix(b"\n") else { break };
        if first && content != HEADER.as_bytes() {
            return Err(other("it is no cache of this version"));
        }
        let mut fields = content.split(|byte| *byte == b'\t');
        match fields.next() {
            Some(b"end") => {
                let sum = fields.next().and_then(unescape).unwrap_or_default();
                if hex(&std::mem::take(&mut hash).finalize()) != sum {
                    break;
                }
                good = Some(next.clone());
            }
            _ if first => first = false,
            Some(kind) => read_line(&mut next, good.is_some(), ty, kind, fields)?,
            None => {}
        }
        if !content.starts_with(b"end\t") {
            hash.update(&line);
        }
    }
    good.ok_or_else(|| other("it is damaged"))
}

fn read_line<'l>(
    next: &mut Snapshot,
    later: bool,
    ty: KeyType,
    kind: &[u8],
    mut fields: impl Iterator<Item = &'l [u8]>,
) -> io::Result<()> {
    let tables = &mut next.tables;
    match kind {
        b"database" => tables.database = fields.next().and_then(unescape).unwrap_or_default(),
        b"type" => {
            let name = fields.next().and_then(unescape).unwrap_or_default();
            if name != ty.name() {
                return Err(other("it is of a key of another type"));
            }
        }
        b"version" => {
            let number = fields.next().and_then(unescape).and_then(|number| number.parse().ok());
            let token = fields.next().and_then(unescape);
            next.version = number.zip(token).map(|(number, token)| Version { number, token });
        }
        b"shards" => tables.shards.clear(),
        b"shard" => tables.shards.push(shard_row(fields.map(unescape).collect())),
        b"freezes" => tables.freezes.clear(),
        b"frozen" => {
            let mut text = || fields.next().and_then(unescape);
            tables.freezes.extend(text().zip(text()));
        }
        b"tenant" => {
            let key = fields.next().and_then(unescape);
            let home = fields.next().and_then(unescape);
            // Only a later chunk may say otherwise of a key.
            if later {
                forget(tables, ty, key.as_deref());
            }
            put_row(tables, ty, key, home);
        }
        b"gone" => {
            let key = fields.next().and_then(unescape);
            forget(tables, ty, key.as_deref());
        }
        // A later version's; the header would have told of one that matters.
        _ => {}
    }
    Ok(())
}

fn forget(tables: &mut Tables, ty: KeyType, key: Option<&str>) {
    if let Some(Ok(key)) = key.map(|key| crate::datum::KeyValue::from_text(ty, key)) {
        tables.entries.remove(&key);
    }
}

fn empty(ty: KeyType) -> Snapshot {
    let tables = Tables {
        database: String::new(),
        shards: Vec::new(),
        entries: Entries::new(ty),
        odd: Vec::new(),
        odd_more: 0,
        freezes: Vec::new(),
    };
    Snapshot { tables, version: None }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::datum::KeyValue;
    use crate::map::{Connection, ShardRow};

    const TY: KeyType = KeyType::Text;

    fn snapshot(version: i64, tenants: &[(&str, i16)]) -> Snapshot {
        let mut snapshot = empty(TY);
        snapshot.version = Some(Version { number: version, token: "t\t".to_owned() });
        snapshot.tables.database = "ctl@h:1/c".to_owned();
        for (tenant, home) in tenants {
            snapshot.tables.entries.put(&KeyValue::Text((*tenant).into()), *home);
        }
        let row = ShardRow {
            shard_id: Some("1".to_owned()),
            connection_string: Connection::new(Some("a\tb\\\n".to_owned())),
            ..ShardRow::default()
        };
        snapshot.tables.shards.push(row);
        snapshot
    }

    fn show(snapshot: &Snapshot) -> String {
        let mut tenants: Vec<String> =
            snapshot.tables.entries.rows().map(|(key, home)| format!("{key}={home}")).collect();
        tenants.sort();
        format!("{:?} {tenants:?}", snapshot.version.as_ref().map(|v| v.number))
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("map.cache");
        let mut cache = Cache::at(path.clone());
        assert!(cache.read("ctl@h:1/c", TY).is_err());
        let first = snapshot(1, &[("a\tb", 1), ("c", 2)]);
        cache.keep(&first, TY).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = cache.read("ctl@h:1/c", TY).unwrap();
        assert_eq!(show(&read), "Some(1) [\"a\\tb=1\", \"c=2\"]");
        assert_eq!(read.tables.shards, first.tables.shards);
        assert!(
            cache.read("other@h:1/c", TY).is_err()
                && cache.read("ctl@h:1/c", KeyType::Uuid).is_err()
        );

        let base = fs::metadata(&path).unwrap().len();
        cache.keep(&snapshot(2, &[("c", 3), ("d", 1)]), TY).unwrap();
        let read = cache.read("ctl@h:1/c", TY).unwrap();
        assert_eq!(show(&read), "Some(2) [\"c=3\", \"d=1\"]");

        // A torn or damaged end is as if it had not been written; another process writes nothing.
        let whole = fs::read(&path).unwrap();
        for cut in base as usize..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(show(&cache.read("ctl@h:1/c", TY).unwrap()), show(&first), "{cut}");
        }
        let mut damaged = whole.clone();
        damaged[base as usize + 8] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(show(&cache.read("ctl@h:1/c", TY).unwrap()), show(&first));
        for cut in 0..base as usize {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(cache.read("ctl@h:1/c", TY).is_err(), "{cut}");
        }
        fs::write(&path, &whole).unwrap();
        let mut second = Cache::at(path.clone());
        second.keep(&snapshot(9, &[]), TY).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
