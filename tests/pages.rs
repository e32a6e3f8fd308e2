//! The pages under `docs/` and the README: what the migration pages tell people to run is run, links lead somewhere, and
//! variables are those of the program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a surprise is a failure with a backtrace")]

#[path = "pages/page.rs"]
mod page;
mod support;
#[path = "pages/told.rs"]
mod told;

use carillon::config::VARIABLES;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What pages name that is another program's variable.
const OTHERS: [&str; 11] = [
    "CARILLON_PID_FILE",
    "SSL_CERT_FILE",
    "LC_MESSAGES",
    "LC_ALL",
    "CARILLON_TOKEN_FILE",
    "CARILLON_URL",
    "CARILLON_API",
    "APP_ID",
    "APP_REDIS",
    "APP_ROOT",
    "WEBSOCKET_OPCODE_BINARY",
];

macro_rules! pages {
    ($($name:ident: $file:literal),* $(,)?) => {
        $(#[tokio::test]
        async fn $name() {
            told::tell($file, &fs::read_to_string(Path::new(ROOT).join("docs/migrating").join($file)).unwrap()).await;
        })*

        #[test]
        fn every_migration_page_is_told() {
            let told = BTreeSet::from([$($file.to_owned()),*]);
            let there: BTreeSet<String> = fs::read_dir(Path::new(ROOT).join("docs/migrating")).unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!(told, there);
        }
    };
}

pages! {
    coming_from_nagard_websocket: "nagard-websocket.md",
    coming_from_reactphp_x_websocket_center: "reactphp-x-websocket-center.md",
    coming_from_phippsytech_websocketserver: "phippsytech-websocketserver.md",
    coming_from_mswoole: "mswoole.md",
    coming_from_swoole_s_coroutines: "swoole-coroutine-websocket.md",
}

/// The README, the list of changes, and every page under `docs/`.
fn all_pages() -> Vec<PathBuf> {
    fn below(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![Path::new(ROOT).join("README.md"), Path::new(ROOT).join("CHANGELOG.md")];
    below(&Path::new(ROOT).join("docs"), &mut found);
    found
}

/// What a heading is called in a link: lower case, spaces as hyphens, without punctuation.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut fenced = false;
    for line in page.lines() {
        fenced ^= line.starts_with("```");
        if let Some(heading) = line.strip_prefix('#').filter(|_| !fenced) {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            anchors.insert(
                text.chars()
                    .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect(),
            );
        }
    }
    anchors
}

#[test]
fn code_in_rust_on_pages_is_that_of_an_example() {
    let examples: Vec<String> = fs::read_dir(Path::new(ROOT).join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for path in all_pages().into_iter().skip(2) {
        let page = fs::read_to_string(&path).unwrap();
        for code in page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            assert!(examples.iter().any(|example| example.contains(code)), "{}:\n{code}", path.display());
        }
    }
}

#[test]
fn links_within_the_project_lead_somewhere() {
    for path in all_pages() {
        let page = fs::read_to_string(&path).unwrap();
        for target in page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: {target}", path.display());
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&file).unwrap());
                assert!(there.contains(anchor), "{}: {target} among {there:?}", path.display());
            }
        }
    }
}

/// How variables end that are for the clients of one profile.
const PROFILES: [&str; 4] = ["_CHANNEL", "_CENTER", "_DEVICE", "_METHOD"];

#[test]
fn variables_that_pages_name_are_the_program_s() {
    let known: BTreeSet<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    for path in all_pages().into_iter().skip(2) {
        let page = fs::read_to_string(&path).unwrap();
        for word in page.split('`').skip(1).step_by(2) {
            let name = word.split('=').next().unwrap_or_default();
            let of_a_variable = name.len() > 3
                && name.contains('_')
                && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
                && name.starts_with(|c: char| c.is_ascii_uppercase());
            if of_a_variable && !OTHERS.contains(&name) {
                let plain = name.strip_suffix("_FILE").unwrap_or(name);
                let of_all_profiles = PROFILES.iter().find_map(|profile| name.strip_suffix(profile));
                let is_known =
                    [Some(name), Some(plain), of_all_profiles].into_iter().flatten().any(|name| known.contains(name));
                assert!(is_known, "{}: {name} is no variable", path.display());
            }
        }
    }
}
