//! A node in the background, `carillon start --daemon`, and what else a process owes its system: the word to a service manager,
//! the number of files it may have open.
//!
//! The process that was called starts its own binary a second time, with a log file for its standard error and a pipe for
//! its standard output, waits on the pipe for the word that it listens, and ends. The second process makes a session of its
//! own before it has a second thread. There is no fork of a process that runs already.

mod notify;
mod open_files;
mod pid_file;

pub use notify::listening;
pub use open_files::raise_limit;
pub use pid_file::{PidFile, PidFileError};

use crate::cli::Start;
use crate::operator::Phrase;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What the process in the background writes when it listens.
const READY: &str = "ready";

/// Exit code for what can't be meant.
const WRONG_USAGE: u8 = 2;

/// Bytes of its log that are shown where it has not started.
const SHOWN_LOG: u64 = 16 << 10;

/// Why no process could be started in the background.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    /// There is no name for its log.
    #[error("a daemon needs a pid file: --pid-file FILE")]
    NoPidFile,
    /// One file can't be both.
    #[error("log file {0}: that is the pid file; name another one with --log-file")]
    LogIsPidFile(PathBuf),
    /// Its log can't be written.
    #[error("log file {path}: {error}")]
    Log {
        /// The path of the log.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The binary can't be started again, or not be listened to.
    #[error("can't start a process: {0}")]
    Process(#[from] io::Error),
}

/// Starts a node in the background and says how that went: 0 where it listens, else its own exit code.
pub fn launch(start: &Start) -> ExitCode {
    let language = start.language();
    match try_launch(start) {
        Ok(Launched::Ready { pid }) => {
            tell(&mut io::stdout(), &Phrase::Started { pid }.in_language(language));
            ExitCode::SUCCESS
        }
        Ok(Launched::Ended { code, log }) => {
            tell(&mut io::stderr(), &Phrase::NotStarted.in_language(language));
            tell(&mut io::stderr(), log.trim_end());
            ExitCode::from(code)
        }
        Err(error) => {
            tell(&mut io::stderr(), &Phrase::NotStarted.in_language(language));
            tell(&mut io::stderr(), &format!("carillon: {error}"));
            match error {
                LaunchError::NoPidFile | LaunchError::LogIsPidFile(_) => ExitCode::from(WRONG_USAGE),
                LaunchError::Log { .. } | LaunchError::Process(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// How it went.
enum Launched {
    /// It listens.
    Ready { pid: u32 },
    /// It has ended, and wrote this.
    Ended { code: u8, log: String },
}

fn try_launch(start: &Start) -> Result<Launched, LaunchError> {
    let pid_file = start.pid_file().ok_or(LaunchError::NoPidFile)?;
    let path = start.log_file.clone().unwrap_or_else(|| pid_file.with_extension("log"));
    if path == pid_file {
        return Err(LaunchError::LogIsPidFile(path));
    }
    let log_error = |error| LaunchError::Log { path: path.clone(), error };
    let log = OpenOptions::new().create(true).append(true).open(&path).map_err(log_error)?;
    let before = log.metadata().map_err(log_error)?.len();
    let mut child = Command::new(std::env::current_exe()?)
        .args([OsStr::new("start"), OsStr::new("--detached"), OsStr::new("--pid-file"), pid_file.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said)?;
    }
    if said.trim_end() == READY {
        return Ok(Launched::Ready { pid: child.id() });
    }
    let status = child.wait()?;
    // A node that ends by itself before it listens has failed, whatever it calls that; a signal has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1);
    Ok(Launched::Ended { code, log: written_since(&path, before).map_err(log_error)? })
}

/// What was written to a log after that many bytes, or its end where that is a lot.
fn written_since(path: &Path, before: u64) -> io::Result<String> {
    let mut log = File::open(path)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(before.max(length.saturating_sub(SHOWN_LOG))))?;
    let mut written = Vec::new();
    log.take(SHOWN_LOG).read_to_end(&mut written)?;
    Ok(String::from_utf8_lossy(&written).into_owned())
}

fn tell(stream: &mut impl Write, text: &str) {
    // Nothing can be done where that fails.
    let _ = writeln!(stream, "{text}");
}

/// Leaves the session of whoever called, so that the end of a terminal is no signal for this process. For a process that
/// was started by [`launch`], which has a single thread and leads no group yet.
pub fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Says to [`launch`] that this process listens, and lets go of its pipe.
pub fn ready() -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{READY}")?;
    stdout.flush()?;
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(nowhere)?;
    Ok(())
}
