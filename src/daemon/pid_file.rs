//! A file with the number of the process that runs, which no second one can take.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How often a file is opened anew that somebody else has replaced in the meantime.
const ATTEMPTS: usize = 100;

/// The pause after which a file is looked at again that somebody is just replacing.
const REPLACING: Duration = Duration::from_millis(20);

/// Bytes of somebody else's file that are read: more than a process number and its line break have.
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
    /// There is something else at its place, which is not to be replaced.
    #[error("pid file {path}: {what}")]
    NotOne {
        /// The file.
        path: PathBuf,
        /// What is there.
        what: &'static str,
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
    ///
    /// # Errors
    /// A live process has it, something else is there, or the system says no.
    #[allow(
        clippy::disallowed_methods,
        reason = "a node claims its file before it has a runtime that sleep could block"
    )]
    pub fn claim(path: &Path) -> Result<Self, PidFileError> {
        let failed = |error| PidFileError::Io { path: path.to_owned(), error };
        let mut taken = None;
        for _ in 0..ATTEMPTS {
            // Before it is opened: that of a device or a pipe may do anything.
            if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
                return Err(PidFileError::NotOne { path: path.to_owned(), what: "not a regular file" });
            }
            let current = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            let mut current = current.map_err(failed)?;
            match current.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let content = beginning(&mut current).map_err(failed)?;
                    let pid = String::from_utf8_lossy(&content).trim().to_owned();
                    let is_its_own = is_live(&pid);
                    let error = PidFileError::Taken { path: path.to_owned(), pid };
                    if is_its_own {
                        return Err(error);
                    }
                    // Somebody has the lock and has yet to put its number there, unless it can't be seen from here.
                    taken = Some(error);
                    thread::sleep(REPLACING);
                    continue;
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Whoever had the lock may have put another file in its place, or taken it away.
            if !is_at(&current, path).map_err(failed)? {
                continue;
            }
            if !is_number(&beginning(&mut current).map_err(failed)?) {
                let what = "holds something else than a process number, so it is left as it is";
                return Err(PidFileError::NotOne { path: path.to_owned(), what });
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
        Err(taken.unwrap_or_else(|| failed(io::Error::other("others replace it again and again"))))
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

/// The first bytes of a file that was just opened.
fn beginning(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Read::by_ref(file).take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether it is a process number, with a line break or without, or nothing yet.
fn is_number(content: &[u8]) -> bool {
    content.len() < LONGEST as usize && content.trim_ascii().iter().all(u8::is_ascii_digit)
}

/// Whether a process has this number.
fn is_live(pid: &str) -> bool {
    let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) else { return false };
    // Not allowed: it is somebody else's.
    matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM))
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
        fs::write(&path, "  000004194304\n").unwrap();
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
    fn what_is_no_pid_file_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("carillon.env");
        let endless = "1".repeat(40);
        for content in ["HTTP_PORT=8080\n", "1 2\n", "\u{fffd}", &endless] {
            fs::write(&path, content).unwrap();
            assert!(matches!(PidFile::claim(&path), Err(PidFileError::NotOne { .. })), "{content:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        // Replaced by a file, a device would be gone for everybody.
        for device in [directory.path(), Path::new("/dev/null")] {
            let error = PidFile::claim(device).unwrap_err().to_string();
            assert_eq!(error, format!("pid file {}: not a regular file", device.display()));
        }
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn of_two_that_start_at_once_the_one_that_is_late_names_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("carillon.pid");
        // Left by a killed process, with a number above all that there are; somebody is about to replace it.
        fs::write(&path, "4194305\n").unwrap();
        let left = File::open(&path).unwrap();
        left.lock().unwrap();
        let late = thread::spawn({
            let path = path.clone();
            move || PidFile::claim(&path).map(drop)
        });
        let beside = directory.path().join("beside");
        let mut file = File::create(&beside).unwrap();
        file.lock().unwrap();
        writeln!(file, "{}", std::process::id()).unwrap();
        fs::rename(&beside, &path).unwrap();
        match late.join().unwrap() {
            Err(PidFileError::Taken { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_place_that_can_not_be_is_named() {
        let error = PidFile::claim(Path::new("/nowhere/carillon.pid")).unwrap_err().to_string();
        assert!(error.starts_with("pid file /nowhere/carillon.pid: "), "{error}");
    }
}
