//! Tells the program which commit it is built from: `CARILLON_COMMIT` where that is set, else what git says, else nothing.

#![expect(clippy::disallowed_methods, reason = "the environment of a build is read here, and nowhere else")]

use std::env;
use std::path::Path;
use std::process::Command;

/// What the program is made of: changes elsewhere make no other program.
const SOURCES: [&str; 4] = ["Cargo.lock", "Cargo.toml", "build.rs", "src"];

fn main() {
    println!("cargo::rerun-if-env-changed=CARILLON_COMMIT");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let told = env::var("CARILLON_COMMIT").ok().filter(|commit| !commit.is_empty());
    // Empty where nobody knows. It is always set, so that a variable of the build's environment is never looked at behind it.
    println!("cargo::rustc-env=CARILLON_COMMIT={}", told.or_else(from_git).unwrap_or_default());
}

/// The commit that is checked out, with `-dirty` where the sources differ from it. `None` without git, and where this
/// directory is not the top of a repository: somebody else's commit would be theirs.
fn from_git() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = Path::new(&env::var("CARGO_MANIFEST_DIR").ok()?).canonicalize().ok()?;
    if Path::new(&top).canonicalize().ok()? != here {
        return None;
    }
    // A debug build is made anew when its sources change, not for each commit: what it shows is the commit it was built on.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        watch(&git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

/// A file that is not there would have every build begin here again.
fn watch(file: &str) {
    if Path::new(file).exists() {
        println!("cargo::rerun-if-changed={file}");
    }
}

/// What git prints; `None` where it fails or there is none.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
