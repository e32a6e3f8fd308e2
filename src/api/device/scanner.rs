//! Finds where a JSON document ends (RFC 8259), byte by byte, however it is cut.
//!
//! Each byte is looked at once. What can't become a document any more is known at the byte that makes it so: backends wait for
//! an answer and don't say where what they have written ends.

/// Arrays and objects within each other. One more than PHP's `json_decode` takes by default, which counts the values in the
/// innermost as a level of their own.
pub(super) const MAX_DEPTH: usize = 512;

/// Words of 64 bits, one bit a level.
const WORDS: usize = MAX_DEPTH / 64;

/// What bytes bring about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scan {
    /// The document goes on.
    Incomplete,
    /// It has ended; so many of the bytes are part of it.
    Whole(usize),
    /// It can't become a document any more.
    Malformed(Malformed),
}

/// Why bytes can't become a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Malformed {
    /// They are not JSON.
    #[error("not json")]
    Syntax,
    /// A text in them is not UTF-8.
    #[error("not utf-8")]
    NotUtf8,
    /// Its arrays and objects are too many within each other.
    #[error("more than {MAX_DEPTH} arrays and objects within each other")]
    TooDeep,
}

/// Where in a document the next byte is.
#[derive(Clone, Copy, Debug)]
enum State {
    /// A value is to begin.
    Value,
    /// Behind `[`: a value, or the end.
    FirstItem,
    /// Behind `{`: a key, or the end.
    FirstKey,
    /// Behind `,` in an object.
    Key,
    /// Behind a key.
    Colon,
    /// Behind a value in an array or object: a comma, or the end.
    After,
    /// In a string; whether it is a key is in [`Scanner::in_key`].
    Text(Text),
    /// In `true`, `false` or `null`: what has to follow.
    Literal(&'static [u8]),
    /// In a number.
    Number(Number),
}

/// Where in a string the next byte is.
#[derive(Clone, Copy, Debug)]
enum Text {
    Plain,
    /// Behind a backslash.
    Escape,
    /// In the four digits of `\u`; `low` where the code has to be the second of a surrogate pair.
    Hex {
        left: u8,
        code: u16,
        low: bool,
    },
    /// Behind the first of a surrogate pair.
    High,
    /// Behind that and a backslash.
    HighEscape,
    /// In a character of several bytes, of which the next is from `from` to `to` (Unicode 15.0, table 3-7).
    Character {
        left: u8,
        from: u8,
        to: u8,
    },
}

/// Where in a number the next byte is.
#[derive(Clone, Copy, Debug)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

impl Number {
    /// Whether it may end here.
    fn is_whole(self) -> bool {
        match self {
            Self::Zero | Self::Digits | Self::Fraction | Self::Exponent => true,
            Self::Minus | Self::Point | Self::E | Self::Sign => false,
        }
    }

    /// With one more byte; `None` where that is no part of it.
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Digits, b'0'..=b'9') => Self::Digits,
            (Self::Zero | Self::Digits, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Digits | Self::Fraction, b'e' | b'E') => Self::E,
            (Self::E, b'+' | b'-') => Self::Sign,
            (Self::E | Self::Sign | Self::Exponent, b'0'..=b'9') => Self::Exponent,
            _ => return None,
        })
    }
}

/// What one byte brings about.
enum Step {
    On,
    /// The document has ended with it.
    Ended,
    /// The document, a number, had ended before it.
    EndedBefore,
}

/// Reads one document; a fresh one is needed for the next.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    in_key: bool,
    depth: usize,
    /// Which levels are objects.
    objects: [u64; WORDS],
}

impl Default for Scanner {
    fn default() -> Self {
        Self { state: State::Value, in_key: false, depth: 0, objects: [0; WORDS] }
    }
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

impl Scanner {
    /// Takes the next bytes, up to the document's end.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if matches!(self.state, State::Text(Text::Plain)) {
                // Most of most documents: skipped without a look at the state.
                at += bytes[at..]
                    .iter()
                    .take_while(|byte| matches!(byte, b' '..=b'!' | b'#'..=b'[' | b']'..=0x7f))
                    .count();
                let Some(&byte) = bytes.get(at) else { break };
                match self.text(Text::Plain, byte) {
                    Ok(Step::On) => at += 1,
                    Ok(Step::Ended) => return Scan::Whole(at + 1),
                    Ok(Step::EndedBefore) => return Scan::Whole(at),
                    Err(why) => return Scan::Malformed(why),
                }
                continue;
            }
            match self.step(byte) {
                Ok(Step::On) => at += 1,
                Ok(Step::Ended) => return Scan::Whole(at + 1),
                Ok(Step::EndedBefore) => return Scan::Whole(at),
                Err(why) => return Scan::Malformed(why),
            }
        }
        Scan::Incomplete
    }

    /// Whether all that came is a number that stands alone: nothing but what follows tells where it ends.
    pub(super) fn is_number(&self) -> bool {
        self.depth == 0 && matches!(self.state, State::Number(number) if number.is_whole())
    }

    fn step(&mut self, byte: u8) -> Result<Step, Malformed> {
        match self.state {
            State::Text(text) => self.text(text, byte),
            State::Number(number) => self.number(number, byte),
            State::Literal(rest) => match rest {
                [next] if *next == byte => Ok(self.value_ended()),
                [next, rest @ ..] if *next == byte => self.go(State::Literal(rest)),
                _ => Err(Malformed::Syntax),
            },
            _ if is_blank(byte) => Ok(Step::On),
            State::Value => self.value(byte),
            State::FirstItem if byte == b']' => self.close(false),
            State::FirstItem => self.value(byte),
            State::FirstKey if byte == b'}' => self.close(true),
            State::FirstKey | State::Key if byte == b'"' => {
                self.in_key = true;
                self.go(State::Text(Text::Plain))
            }
            State::Colon if byte == b':' => self.go(State::Value),
            State::After => match byte {
                b',' => self.go(if self.in_object() { State::Key } else { State::Value }),
                b']' => self.close(false),
                b'}' => self.close(true),
                _ => Err(Malformed::Syntax),
            },
            State::FirstKey | State::Key | State::Colon => Err(Malformed::Syntax),
        }
    }

    fn go(&mut self, state: State) -> Result<Step, Malformed> {
        self.state = state;
        Ok(Step::On)
    }

    fn value(&mut self, byte: u8) -> Result<Step, Malformed> {
        let state = match byte {
            b'{' => return self.open(true),
            b'[' => return self.open(false),
            b'"' => {
                self.in_key = false;
                State::Text(Text::Plain)
            }
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'n' => State::Literal(b"ull"),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Digits),
            _ => return Err(Malformed::Syntax),
        };
        self.go(state)
    }

    fn open(&mut self, object: bool) -> Result<Step, Malformed> {
        if self.depth == MAX_DEPTH {
            return Err(Malformed::TooDeep);
        }
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if object {
            self.objects[word] |= bit
        } else {
            self.objects[word] &= !bit
        }
        self.depth += 1;
        self.go(if object { State::FirstKey } else { State::FirstItem })
    }

    /// Whether the innermost that is open is an object.
    fn in_object(&self) -> bool {
        self.depth.checked_sub(1).is_some_and(|level| self.objects[level / 64] >> (level % 64) & 1 == 1)
    }

    fn close(&mut self, object: bool) -> Result<Step, Malformed> {
        if self.in_object() != object {
            return Err(Malformed::Syntax);
        }
        self.depth -= 1;
        Ok(self.value_ended())
    }

    fn value_ended(&mut self) -> Step {
        self.state = State::After;
        if self.depth == 0 { Step::Ended } else { Step::On }
    }

    fn number(&mut self, number: Number, byte: u8) -> Result<Step, Malformed> {
        match number.next(byte) {
            Some(number) => self.go(State::Number(number)),
            None if !number.is_whole() => Err(Malformed::Syntax),
            None if self.depth > 0 => {
                self.state = State::After;
                self.step(byte)
            }
            // `01` is no two documents.
            None if is_blank(byte) => Ok(Step::EndedBefore),
            None => Err(Malformed::Syntax),
        }
    }

    fn text(&mut self, text: Text, byte: u8) -> Result<Step, Malformed> {
        let next = match (text, byte) {
            (Text::Plain, b'"') if self.in_key => return self.go(State::Colon),
            (Text::Plain, b'"') => return Ok(self.value_ended()),
            (Text::Plain, b'\\') => Text::Escape,
            (Text::Plain, 0..=0x1f) => return Err(Malformed::Syntax),
            (Text::Plain, 0x20..=0x7f) => Text::Plain,
            (Text::Plain, 0xc2..=0xdf) => Text::Character { left: 1, from: 0x80, to: 0xbf },
            (Text::Plain, 0xe0) => Text::Character { left: 2, from: 0xa0, to: 0xbf },
            (Text::Plain, 0xed) => Text::Character { left: 2, from: 0x80, to: 0x9f },
            (Text::Plain, 0xe1..=0xef) => Text::Character { left: 2, from: 0x80, to: 0xbf },
            (Text::Plain, 0xf0) => Text::Character { left: 3, from: 0x90, to: 0xbf },
            (Text::Plain, 0xf1..=0xf3) => Text::Character { left: 3, from: 0x80, to: 0xbf },
            (Text::Plain, 0xf4) => Text::Character { left: 3, from: 0x80, to: 0x8f },
            (Text::Plain, 0x80..=0xc1 | 0xf5..=0xff) => return Err(Malformed::NotUtf8),
            (Text::Character { left, from, to }, _) if (from..=to).contains(&byte) => match left {
                1 => Text::Plain,
                left => Text::Character { left: left - 1, from: 0x80, to: 0xbf },
            },
            (Text::Character { .. }, _) => return Err(Malformed::NotUtf8),
            (Text::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Text::Plain,
            (Text::Escape, b'u') => Text::Hex { left: 4, code: 0, low: false },
            (Text::High, b'\\') => Text::HighEscape,
            (Text::HighEscape, b'u') => Text::Hex { left: 4, code: 0, low: true },
            (Text::Hex { left, code, low }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed::Syntax)?;
                let code = code << 4 | digit as u16;
                match (left, code, low) {
                    (2.., ..) => Text::Hex { left: left - 1, code, low },
                    // The halves of a surrogate pair (RFC 8259, section 7) come together or not at all.
                    (_, 0xdc00..=0xdfff, true) => Text::Plain,
                    (_, 0xd800..=0xdbff, false) => Text::High,
                    (_, 0xdc00..=0xdfff, false) | (_, _, true) => return Err(Malformed::Syntax),
                    (_, _, false) => Text::Plain,
                }
            }
            (Text::Escape | Text::High | Text::HighEscape, _) => return Err(Malformed::Syntax),
        };
        self.go(State::Text(next))
    }
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
