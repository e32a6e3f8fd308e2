//! What an expression of PromQL speaks of: metrics, labels, values of labels. Enough for the expressions of this project,
//! whose metrics are known by how their names begin.

use std::collections::BTreeSet;

/// How the names of metrics and recorded series begin.
const BEGINNINGS: [&str; 4] = ["carillon_", "process_", "job:", "instance:"];

/// What comes before a list of labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// What was found in an expression.
#[derive(Default, Debug)]
pub struct Spoken {
    /// Selectors that have to find something, such as `up` and `m{reason="full"}`: each metric alone, and with each of the
    /// values that a matcher names, whether it asks for them or not.
    pub selectors: BTreeSet<String>,
    /// Names of labels.
    pub labels: BTreeSet<String>,
}

/// Reads an expression.
pub fn spoken(expression: &str) -> Spoken {
    let mut spoken = Spoken::default();
    let mut rest = expression;
    let mut labels_follow = false;
    while let Some(first) = rest.chars().next() {
        let word: &str =
            &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len())];
        if first == '"' {
            rest = &rest[1 + text(rest).len() + 1..];
        } else if word.is_empty() {
            if labels_follow && first == '(' {
                let list = &rest[1..rest.find(')').unwrap()];
                spoken.labels.extend(list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
            }
            labels_follow &= first == ' ';
            rest = &rest[first.len_utf8()..];
        } else {
            rest = &rest[word.len()..];
            labels_follow = BEFORE_LABELS.contains(&word);
            if word == "up" || BEGINNINGS.iter().any(|beginning| word.starts_with(beginning)) {
                spoken.selectors.insert(word.to_owned());
                if let Some(inside) = rest.strip_prefix('{') {
                    rest = matchers(word, inside, &mut spoken);
                }
            }
        }
    }
    spoken
}

/// The text of a string literal that stands at the beginning.
fn text(rest: &str) -> &str {
    &rest[1..1 + rest[1..].find('"').expect("a string ends")]
}

/// Takes a metric's matchers, and gives what is behind them.
fn matchers<'a>(metric: &str, mut rest: &'a str, spoken: &mut Spoken) -> &'a str {
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(behind) = rest.strip_prefix('}') {
            return behind;
        }
        let (name, behind) = rest.split_once(['=', '!']).expect("a matcher has an operator");
        let behind = behind.trim_start_matches(['=', '~']);
        let values = text(behind);
        spoken.labels.insert(name.to_owned());
        let plain = |value: &str| !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        for value in values.split('|').filter(|value| plain(value)) {
            spoken.selectors.insert(format!("{metric}{{{name}=\"{value}\"}}"));
        }
        rest = &behind[1 + values.len() + 1..];
    }
}
