//! A file with the number of the process that runs, which no second one can take.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How often a file is opened anew that somebody else has replaced in the meantime.
const ATTEMPTS: usize = 100;

/// Bytes of a process number that are read of somebody else's file.
const LONGEST: u64 = 32;

/// Why a process can't have the file.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// A live process has it.
    #[error("pid file {path}: process {pid} runs already")]
    Taken {
        /// The file.
        path: PathBuf,
        /// What is in it.
        pid: String,
    },
    /// It can't be read or written.
    #[error("pid file {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// The pid file of this process. The process holds a lock on it as long as it lives, so a file that was left by one that was
/// killed stands in nobody's way, whatever runs under its number now. Dropping it takes the file away.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Holds the lock.
    file: File,
}

impl PidFile {
    /// Writes this process's number to `path`. A reader finds the old content or the new one, nothing in between.
    pub fn claim(path: &Path) -> Result<Self, PidFileError> {
        let failed = |error| PidFileError::Io { path: path.to_owned(), error };
        for _ in 0..ATTEMPTS {
            let current = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            let mut current = current.map_err(failed)?;
            match current.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut pid = String::new();
                    Read::by_ref(&mut current).take(LONGEST).read_to_string(&mut pid).map_err(failed)?;
                    return Err(PidFileError::Taken { path: path.to_owned(), pid: pid.trim().to_owned() });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Whoever had the lock may have put another file in its place, or taken it away.
            if !is_at(&current, path).map_err(failed)? {
                continue;
            }
            // Under the lock of what is there, so nobody else writes this one; locked itself before it is at its place.
            let mut beside = path.as_os_str().to_owned();
            beside.push(OsString::from(".new"));
            let beside = PathBuf::from(beside);
            let mut file = File::create(&beside).map_err(failed)?;
            file.lock().map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            fs::rename(&beside, path).map_err(failed)?;
            return Ok(Self { path: path.to_owned(), file });
        }
        Err(failed(io::Error::other("others replace it again and again")))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Not where somebody has put another one there by hand.
        if is_at(&self.file, &self.path).unwrap_or(false) {
            // What is left behind is not locked.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether this file is the one at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_one_owner_and_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("carillon.pid");
        // One that a killed process has left, longer than what replaces it.
        fs::write(&path, "4194304 and more\n").unwrap();
        let owned = PidFile::claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        match PidFile::claim(&path) {
            Err(PidFileError::Taken { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        assert!(path.exists(), "a refused claim took the file away");
        drop(owned);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        drop(PidFile::claim(&path).unwrap());
    }

    #[test]
    fn somebody_elses_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("carillon.pid");
        let owned = PidFile::claim(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(owned);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_place_that_can_not_be_is_named() {
        let error = PidFile::claim(Path::new("/nowhere/carillon.pid")).unwrap_err().to_string();
        assert!(error.starts_with("pid file /nowhere/carillon.pid: "), "{error}");
    }
}
