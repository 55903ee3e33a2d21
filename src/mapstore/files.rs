//! Files that a map names besides itself, each read once for a map: with the next load of the map they are
//! read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::map::GeoIp;

/// A larger file is none of countries: `MaxMind`'s largest has some 150 MB.
const GEOIP_BYTES_MAX: u64 = 1 << 30;

/// The files of a map.
#[derive(Clone, Default)]
pub struct Files {
    directory: PathBuf,
    geoip: Arc<Mutex<BTreeMap<String, Arc<GeoIp>>>>,
}

impl Files {
    /// The files beside a map file: what it names is relative to its directory.
    pub fn beside(map: &Path) -> Self {
        let directory = map.parent().map(Path::to_owned).unwrap_or_default();
        Self { directory, geoip: Arc::default() }
    }

    /// The `GeoIP` file of this name.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that begin with where it is.
    pub fn geoip(&self, name: &str) -> Result<Arc<GeoIp>, String> {
        let mut known = self.geoip.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = known.get(name) {
            return Ok(Arc::clone(read));
        }
        let path = self.directory.join(name);
        let read = read(&path).map(Arc::new).map_err(|why| format!("{} {why}", path.display()))?;
        known.insert(name.to_owned(), Arc::clone(&read));
        Ok(read)
    }
}

fn read(path: &Path) -> Result<GeoIp, String> {
    let unread = |error| format!("can't be read: {error}");
    let about = std::fs::metadata(path).map_err(unread)?;
    if !about.is_file() {
        return Err("is not a file".to_owned());
    }
    if about.len() > GEOIP_BYTES_MAX {
        return Err(format!("has {} bytes, and {GEOIP_BYTES_MAX} at most are read", about.len()));
    }
    GeoIp::read(std::fs::read(path).map_err(unread)?)
}
