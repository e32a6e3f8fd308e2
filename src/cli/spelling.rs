//! The console command's older spelling, `carillon -s OPERATION [-h HOST] [-p PORT] [-i TEXT]`, as the newer one.

use crate::operator::{Language, Operation, Phrase};
use std::ffi::{OsStr, OsString};

/// Its option for what everybody is told.
const TEXT: &str = "-i";

/// Its options that a value follows; with `-s` itself all that it has.
const WITH_VALUE: [&str; 3] = ["-h", "-p", TEXT];

/// The command line with the operation that `-s` names as its subcommand; as it is where it is not of that spelling.
///
/// # Errors
/// What the replaced command says: no operation, or none that there is.
pub fn spelled(arguments: Vec<OsString>) -> Result<Vec<OsString>, Phrase> {
    // What begins with a word has a subcommand, and `-h` alone asks for help.
    let is_old = match arguments.get(1).map(|first| first.to_string_lossy()) {
        Some(first) => first.starts_with('-') && !(first == "-h" && arguments.len() == 2),
        None => false,
    };
    if !is_old {
        return Ok(arguments);
    }
    let mut operation = None;
    let mut of_console = false;
    let mut rest = Vec::with_capacity(arguments.len());
    let mut left = arguments.iter().skip(1);
    while let Some(argument) = left.next() {
        let text = argument.to_string_lossy();
        if let Some(attached) = text.strip_prefix("-s") {
            of_console = true;
            let value = match attached.strip_prefix('=').unwrap_or(attached) {
                "" => left.next().map(|value| value.to_string_lossy().into_owned()),
                value => Some(value.to_owned()),
            };
            operation = Some(value.filter(|value| !value.is_empty()).ok_or(Phrase::NoOperation)?);
            continue;
        }
        // Without its value it is as if it were not there, which is for `say` to complain about.
        if text == TEXT && left.len() == 0 {
            of_console = true;
            continue;
        }
        rest.push(argument.clone());
        if WITH_VALUE.iter().any(|option| text.starts_with(option)) {
            of_console = true;
            if WITH_VALUE.contains(&text.as_ref()) {
                rest.extend(left.next().cloned());
            }
        }
    }
    match operation {
        Some(name) if name == "start" || name.parse::<Operation>().is_ok() => {
            let program = arguments.first().cloned().unwrap_or_default();
            Ok([program, name.into()].into_iter().chain(rest).collect())
        }
        Some(_) => Err(Phrase::NotAnOperation),
        None if of_console => Err(Phrase::NoOperation),
        None => Ok(arguments),
    }
}

/// The language that a command line asks for before it is understood as a whole.
pub fn language(arguments: &[OsString], locale: Option<&str>) -> Language {
    let after = arguments.iter().skip_while(|argument| argument.as_os_str() != OsStr::new("--lang")).nth(1);
    let attached = arguments.iter().find_map(|argument| argument.to_str()?.strip_prefix("--lang="));
    let named = after.and_then(|value| value.to_str()).or(attached).and_then(|name| name.parse().ok());
    named.unwrap_or_else(|| Language::of_locale(locale.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_operation_becomes_the_subcommand() {
        for (old, new) in [
            ("carillon -s status", "carillon status"),
            ("carillon -sstatus", "carillon status"),
            ("carillon -s=stop -p 9501", "carillon stop -p 9501"),
            ("carillon -h 127.0.0.1 -p 9501 -s say -i hello", "carillon say -h 127.0.0.1 -p 9501 -i hello"),
            ("carillon -i -s -s say", "carillon say -i -s"),
            ("carillon -s say -i", "carillon say"),
            ("carillon -s start -d --pid-file x", "carillon start -d --pid-file x"),
            ("carillon --lang en -s reload", "carillon reload --lang en"),
        ] {
            assert_eq!(spelled(words(old)), Ok(words(new)), "{old}");
        }
    }

    #[test]
    fn what_is_not_of_that_spelling_stays() {
        for line in
            ["carillon", "carillon -h", "carillon --help", "carillon -V", "carillon push -s", "carillon status -h x"]
        {
            assert_eq!(spelled(words(line)), Ok(words(line)), "{line}");
        }
    }

    #[test]
    fn a_missing_or_unknown_operation_is_what_the_replaced_command_says() {
        for (line, phrase) in [
            ("carillon -s", Phrase::NoOperation),
            ("carillon -s=", Phrase::NoOperation),
            ("carillon -h 127.0.0.1", Phrase::NoOperation),
            ("carillon -p 9501 -i hello", Phrase::NoOperation),
            ("carillon -i", Phrase::NoOperation),
            ("carillon -s restart", Phrase::NotAnOperation),
            ("carillon -s -h 127.0.0.1", Phrase::NotAnOperation),
            ("carillon -s push --all x", Phrase::NotAnOperation),
        ] {
            assert_eq!(spelled(words(line)), Err(phrase), "{line}");
        }
    }

    #[test]
    fn the_language_is_what_is_asked_for_or_the_locales() {
        for (line, locale, wanted) in [
            ("carillon -s", None, Language::Chinese),
            ("carillon -s", Some("en_US.UTF-8"), Language::English),
            ("carillon -s --lang zh", Some("en_US.UTF-8"), Language::Chinese),
            ("carillon --lang=en -s", None, Language::English),
            ("carillon --lang fr -s", None, Language::Chinese),
        ] {
            assert_eq!(language(&words(line), locale), wanted, "{line} {locale:?}");
        }
    }
}
