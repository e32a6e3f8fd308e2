//! JSON as PHP writes it with `JSON_PRETTY_PRINT | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES`.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io::{self, Write};

/// What one level is indented by.
const INDENT: &[u8] = b"    ";

/// serde_json's pretty printing with four spaces, but for two characters: U+2028 and U+2029, which end a line in old
/// JavaScript, are escaped by PHP even with `JSON_UNESCAPED_UNICODE`.
struct PhpFormatter {
    depth: usize,
    /// Whether the innermost array or object has a value, and so ends on a line of its own.
    filled: bool,
}

/// Appends `value` as it stands `depth` levels down in a document.
///
/// The values written here have string keys only, so that serde_json has nothing to refuse.
pub(super) fn append(out: &mut Vec<u8>, depth: usize, value: &impl Serialize) {
    let formatter = PhpFormatter { depth, filled: false };
    let written = value.serialize(&mut Serializer::with_formatter(out, formatter));
    debug_assert!(written.is_ok(), "{written:?}");
}

/// Appends a line break and the indentation of `depth` levels.
pub(super) fn append_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(INDENT, depth).flatten());
}

impl PhpFormatter {
    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(INDENT))
    }

    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(writer)?;
        }
        writer.write_all(bracket)
    }

    fn item<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        self.line(writer)
    }
}

impl Formatter for PhpFormatter {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        // In UTF-8 both begin with E2 80, and texts without an E2 are passed on at the speed of a byte search.
        while let Some(at) = rest.find(['\u{2028}', '\u{2029}']) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            writer.write_all(if from.starts_with('\u{2028}') { b"\\u2028" } else { b"\\u2029" })?;
            rest = &from['\u{2028}'.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_printed_as_php_prints_them() {
        // What PHP 8.2 prints for ['e' => [], 'o' => new stdClass, 's' => …, 'l' => [1, [2, [], new stdClass]], …].
        let value = json!({
            "e": [], "o": {}, "s": "\u{7f}\u{1}/\u{2028}é😀'<>&\u{2029}\"\\\u{8}\u{c}\n\r\t\u{1f}",
            "l": [1, [2, [], {}]], "n": null, "t": true, "k/ї": {"a": {"b": "c"}}
        });
        let mut out = Vec::new();
        append(&mut out, 0, &value);
        let expected = "{
    \"e\": [],
    \"o\": {},
    \"s\": \"\u{7f}\\u0001/\\u2028é😀'<>&\\u2029\\\"\\\\\\b\\f\\n\\r\\t\\u001f\",
    \"l\": [
        1,
        [
            2,
            [],
            {}
        ]
    ],
    \"n\": null,
    \"t\": true,
    \"k/ї\": {
        \"a\": {
            \"b\": \"c\"
        }
    }
}";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_value_further_down_is_indented_from_there() {
        let mut out = Vec::new();
        append(&mut out, 2, &json!([1, []]));
        assert_eq!(out, b"[\n            1,\n            []\n        ]");
    }
}
