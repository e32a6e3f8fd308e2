//! The scanner against documents, and what is none, cut at every byte.

use super::*;

/// What comes of bytes that are given one at a time; with how many bytes it was known.
fn cut(bytes: &[u8]) -> (usize, Scan) {
    let mut scanner = Scanner::default();
    for (at, byte) in bytes.iter().enumerate() {
        match scanner.scan(std::slice::from_ref(byte)) {
            Scan::Incomplete => {}
            Scan::Whole(part) => return (at + part, Scan::Whole(at + part)),
            malformed => return (at, malformed),
        }
    }
    (bytes.len(), Scan::Incomplete)
}

#[test]
fn a_document_ends_at_its_last_byte_however_it_is_cut() {
    for text in [
        "{}",
        "[]",
        "\"\"",
        "true",
        "false",
        "null",
        r#"{"a":[1,-0.5e+10,{"b":null}],"":"x"}"#,
        "[\n[ ] , {\t} ,\r\"a\" ]",
        r#"["\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00\ud7ff\ue000",true]"#,
        "[\"\u{7f}é€😀\u{d7ff}\u{e000}\u{10ffff}\"]",
        "[0,-0,10,0.10,1e5,1E-5,0e0,1.5e+007]",
        r#"{"a":1,"a":2}"#,
    ] {
        for rest in ["", "x", "{}", "]", "\n"] {
            let bytes = format!("{text}{rest}");
            assert_eq!(Scanner::default().scan(bytes.as_bytes()), Scan::Whole(text.len()), "{bytes}");
            assert_eq!(cut(bytes.as_bytes()).1, Scan::Whole(text.len()), "{bytes}");
        }
        for end in 1..text.len() {
            assert_eq!(Scanner::default().scan(&text.as_bytes()[..end]), Scan::Incomplete, "{}", &text[..end]);
        }
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
    }
}

#[test]
fn what_is_no_document_is_known_at_the_byte_that_makes_it_so() {
    for (known, text) in [
        ("", "x"),
        ("", "]"),
        ("[", "}"),
        ("{", "]"),
        ("{", "1"),
        ("{", ","),
        ("[1", "}"),
        ("[1 ", "2"),
        ("[1,", "]"),
        ("[", ","),
        ("{\"a\"", "}"),
        ("{\"a\":", "}"),
        ("{\"a\":1,", "}"),
        ("{\"a\":1", "]"),
        ("{\"a\":1 ", ":"),
        ("t", "R"),
        ("nul", "x"),
        ("N", ""),
        ("-", "-"),
        ("0", "1"),
        ("1.", "e"),
        ("1", "x"),
        ("1e", "."),
        ("[1.", "]"),
        ("[01", ""),
        ("+", ""),
        ("\"\\", "x"),
        ("\"\\u00", "g"),
        ("\"\\udc0", "0"),
        ("\"\\ud800", "x"),
        ("\"\\ud800\\", "n"),
        ("\"\\ud800\\ud80", "0"),
        ("\"", "\n"),
        ("\"", "\0"),
        ("'", ""),
        ("/", ""),
    ] {
        let (known, text) = if text.is_empty() { known.split_at(known.len() - 1) } else { (known, text) };
        let bytes = format!("{known}{text}\"]}}");
        assert_eq!(cut(bytes.as_bytes()), (known.len(), Scan::Malformed(Malformed::Syntax)), "{bytes}");
        assert_eq!(Scanner::default().scan(bytes.as_bytes()), Scan::Malformed(Malformed::Syntax), "{bytes}");
    }
    for bytes in [
        &b"\"\xff"[..],
        b"\"\x80",
        b"\"\xc1",
        b"\"\xc3\"",
        b"\"\xe0\x9f",
        b"\"\xed\xa0",
        b"\"\xf0\x8f",
        b"\"\xf4\x90",
        b"\"\xf0\x9f\x98\"",
    ] {
        assert_eq!(cut(bytes), (bytes.len() - 1, Scan::Malformed(Malformed::NotUtf8)), "{bytes:x?}");
    }
}

#[test]
fn depth_has_a_limit() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        let levels = open.matches(['[', '{']).count();
        let nested = |depth: usize| {
            let pairs = depth / levels;
            let inner = if depth % levels == 1 { "[]" } else { "[1]" };
            format!("{}{inner}{}", open.repeat(pairs), close.repeat(pairs))
        };
        let deepest = nested(MAX_DEPTH - 1);
        assert_eq!(Scanner::default().scan(deepest.as_bytes()), Scan::Whole(deepest.len()), "{open}");
        let too_deep = nested(MAX_DEPTH + 1);
        assert_eq!(cut(too_deep.as_bytes()).1, Scan::Malformed(Malformed::TooDeep), "{open}");
    }
    let (open, close) = ("[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert_eq!(Scanner::default().scan(format!("{open}{close}").as_bytes()), Scan::Whole(2 * MAX_DEPTH));
    assert_eq!(Scanner::default().scan(format!("{open}[").as_bytes()), Scan::Malformed(Malformed::TooDeep));
}

#[test]
fn a_number_that_stands_alone_is_whole_where_it_may_end() {
    for (text, whole) in [
        ("0", true),
        ("-0", true),
        ("12", true),
        ("1.5", true),
        ("1e5", true),
        ("-", false),
        ("1.", false),
        ("1e", false),
    ] {
        let mut scanner = Scanner::default();
        assert_eq!((scanner.scan(text.as_bytes()), scanner.is_number()), (Scan::Incomplete, whole), "{text}");
    }
    assert_eq!(Scanner::default().scan(b"12\n"), Scan::Whole(2));
    let mut within = Scanner::default();
    assert_eq!((within.scan(b"[1"), within.is_number()), (Scan::Incomplete, false));
}
