//! What PHP would make of a value: its backends' ids come as JSON numbers and go out as array keys.

use crate::query::integer;
use std::borrow::Cow;

/// Significant digits of a floating-point number as text; PHP's `precision`.
const PRECISION: i32 = 14;

/// The text that a JSON number is converted to, checked against PHP 8.2: an integer of 64 bits as it is, all others as
/// floating-point numbers (`1.0` is `1`, `1e25` is `1.0E+25`).
pub(super) fn number(json: &str) -> String {
    match json.parse::<i64>() {
        Ok(integer) => integer.to_string(),
        // The text has been read as JSON before, so it is a number.
        Err(_) => float(json.parse().unwrap_or(f64::NAN)),
    }
}

fn float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    // As d.ddde-7: one digit, then the others, all significant.
    let scientific = format!("{value:.*e}", PRECISION as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |positive| ("-", positive));
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0');
    match (digits.split_at_checked(1), usize::try_from(exponent)) {
        (None, _) => format!("{sign}0"),
        (Some((first, rest)), _) if !(-4..PRECISION).contains(&exponent) => {
            let rest = if rest.is_empty() { "0" } else { rest };
            format!("{sign}{first}.{rest}E{exponent:+}")
        }
        (Some(_), Err(_)) => format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1)),
        (Some(_), Ok(exponent)) => match digits.split_at_checked(exponent + 1) {
            Some((whole, "")) => format!("{sign}{whole}"),
            Some((whole, fraction)) => format!("{sign}{whole}.{fraction}"),
            None => format!("{sign}{digits:0<width$}", width = exponent + 1),
        },
    }
}

/// The integer that a text becomes as the key of an array: plain decimal digits within 64 bits.
pub(super) fn integer_key(text: &str) -> Option<i64> {
    integer(text.as_bytes())
}

/// The same JSON without white space, its strings without escapes that need not be; numbers stay as they were written.
/// An error where a string has half a surrogate pair, which is no character.
pub(super) fn compact(json: &str) -> serde_json::Result<String> {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('"') {
        let (before, from) = rest.split_at(at);
        out.extend(before.chars().filter(|c| !c.is_ascii_whitespace()));
        let end = end_of_string(from);
        let text: Cow<'_, str> = serde_json::from_str(&from[..end])?;
        out.push_str(&serde_json::to_string(&text)?);
        rest = &from[end..];
    }
    out.extend(rest.chars().filter(|c| !c.is_ascii_whitespace()));
    Ok(out)
}

/// Where the string ends that `json` begins with.
fn end_of_string(json: &str) -> usize {
    let mut escaped = false;
    let end = json.bytes().enumerate().skip(1).find(|(_, byte)| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_the_texts_that_php_makes_of_them() {
        // What PHP 8.2 prints for (string) json_decode($json).
        for (json, text) in [
            ("123", "123"),
            ("-5", "-5"),
            ("-0", "0"),
            ("1.0", "1"),
            ("1.5", "1.5"),
            ("-0.0", "-0"),
            ("0.1e1", "1"),
            ("1e5", "100000"),
            ("100.25", "100.25"),
            ("1e13", "10000000000000"),
            ("1e14", "1.0E+14"),
            ("12345678901234.5", "12345678901234"),
            ("99999999999999.9", "1.0E+14"),
            ("123456789.12345678", "123456789.12346"),
            ("100000000000000000000", "1.0E+20"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9.2233720368548E+18"),
            ("-1.5e20", "-1.5E+20"),
            ("0.0001", "0.0001"),
            ("0.00001", "1.0E-5"),
            ("1.23e-5", "1.23E-5"),
            ("0.30000000000000004", "0.3"),
            ("1e100", "1.0E+100"),
            ("5e-324", "4.9406564584125E-324"),
            ("1E400", "INF"),
            ("-1E400", "-INF"),
        ] {
            assert_eq!(number(json), text, "{json}");
        }
    }

    #[test]
    fn json_is_made_compact_and_keeps_its_order_and_numbers() {
        for (json, text) in [
            ("{ }", "{}"),
            ("[ 1.0 , 1e25,\n123456789012345678901234567890 ]", "[1.0,1e25,123456789012345678901234567890]"),
            (r#"{ "b" : "a \" b\\" , "a" : [ "\u0457\/\n" , null ] }"#, r#"{"b":"a \" b\\","a":["ї/\n",null]}"#),
        ] {
            assert_eq!(compact(json).unwrap(), text);
        }
        assert!(compact(r#"["\ud800"]"#).is_err());
    }
}
