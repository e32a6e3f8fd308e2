//! A page as a story: what is run on it, in its order, and what that should print.
//!
//! A fenced block is run where the line before it says so:
//!
//! | line | block |
//! |---|---|
//! | `<!-- run -->` | commands, run to their end |
//! | `<!-- run: node -->` | variables and `carillon`, or `docker run` of the image: a node that stays |
//! | `<!-- run: listener -->` | a command that stays and prints what it hears |
//! | `<!-- run: background -->` | a command that stays and listens on the address that it names |
//! | `<!-- prints -->` | what the commands before it print, all of it |
//! | `<!-- heard -->` | what the listener hears next |
//! | `<!-- not run: REASON -->` | commands that a test can't run |
//!
//! In what is expected `…` stands for any text.

/// What is done with a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    Commands,
    Node,
    Listener,
    Background,
    Prints,
    Heard,
    NotRun,
}

/// A block and what is done with it.
pub(crate) struct Step {
    pub(crate) deed: Deed,
    pub(crate) text: String,
    /// The line that it begins on.
    pub(crate) line: usize,
}

/// The steps of a page. Panics where a block of commands has no word about whether it is run.
pub(crate) fn steps(name: &str, page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = page.lines().enumerate();
    let mut before = "";
    while let Some((number, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            let deed = deed(before);
            assert!(deed.is_some() || language != "sh", "{name}:{}: is this run or not?", number + 1);
            steps.extend(deed.map(|deed| Step { deed, text: block.join("\n"), line: number + 1 }));
            before = "";
        } else {
            assert!(deed(before).is_none(), "{name}:{number}: no block follows");
            before = line;
        }
    }
    steps
}

fn deed(line: &str) -> Option<Deed> {
    let word = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    match word {
        "run" => Some(Deed::Commands),
        "run: node" => Some(Deed::Node),
        "run: listener" => Some(Deed::Listener),
        "run: background" => Some(Deed::Background),
        "prints" => Some(Deed::Prints),
        "heard" => Some(Deed::Heard),
        _ if word.starts_with("not run: ") => Some(Deed::NotRun),
        _ => None,
    }
}

/// Whether a text is what is expected, where `…` stands for any text; white space at the ends doesn't count.
pub(crate) fn fits(text: &str, expected: &str) -> bool {
    let (text, expected) = (text.trim(), expected.trim());
    let parts: Vec<&str> = expected.split('…').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return text == expected };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The variables that a node is started with, by `NAME=value … carillon` or by `docker run` of the image.
pub(crate) fn variables(block: &str) -> Vec<(String, String)> {
    let joined = block.replace("\\\n", " ");
    let words: Vec<&str> = joined.split_whitespace().collect();
    let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    if words[..2] != ["docker", "run"] {
        let (last, variables) = words.split_last().expect("a command");
        assert_eq!(*last, "carillon", "a node is started: {block}");
        return variables.iter().map(|word| pair(word).expect("NAME=value")).collect();
    }
    assert_eq!(words.last(), Some(&"carillon"), "the image is run: {block}");
    let of =
        |option: &str| -> Vec<&str> { words.windows(2).filter(|two| two[0] == option).map(|two| two[1]).collect() };
    let mut variables: Vec<_> = of("-e").into_iter().map(|word| pair(word).expect("NAME=value")).collect();
    for port in of("-p") {
        let (outside, inside) = port.split_once(':').expect("two ports");
        let name = if inside == "80" { "WS_PORT" } else { "HTTP_PORT" };
        variables.push((name.to_owned(), outside.to_owned()));
    }
    variables
}

#[test]
fn what_is_expected_may_leave_out_parts() {
    for (text, expected, fit) in [
        ("abc\n", "abc", true),
        ("abc", "ab", false),
        ("abcd", "a…d", true),
        ("abcd", "a…c", false),
        ("a1b2c", "a…b…c", true),
        ("a1c2b", "a…b…c", false),
        ("anything", "…", true),
    ] {
        assert_eq!(fits(text, expected), fit, "{text:?} as {expected:?}");
    }
}

#[test]
fn a_node_s_variables_are_read_from_both_forms() {
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(variables("A=1 \\\nB=/=x carillon"), pairs(&[("A", "1"), ("B", "/=x")]));
    assert_eq!(
        variables("docker run --rm -p 8081:80 -p 9091:8080 -e A=1 carillon"),
        pairs(&[("A", "1"), ("WS_PORT", "8081"), ("HTTP_PORT", "9091")])
    );
}
