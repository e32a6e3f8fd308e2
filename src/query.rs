//! Parameters as PHP reads them: `a[]=1&a[]=2` and `a[0]=1` are lists, `a[k]=v` is a map, `a[k][l]=v` nests.
//!
//! The rules are those of PHP's `parse_str`, which the originals' backends were written for, checked against PHP 8.2
//! case by case below. Two things are errors here that PHP drops in silence: more values than a limit, and names nested
//! deeper than one. The same type holds a form or JSON body (see `api::body`).

use bytes::Bytes;
use indexmap::IndexMap;
use percent_encoding::percent_decode;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// The most values that one request may carry; a name counts one for itself and one for each level, so `a[]=1` is two.
/// PHP's default, 1000, is too small for a push to 10,000 channels; this many are a few megabytes.
pub const MAX_VALUES: usize = 32_768;

/// The deepest nesting, `a[1][2]…`; PHP's `max_input_nesting_level`. Recursion below is bounded by it.
pub const MAX_DEPTH: usize = 64;

/// Why a query can't be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueryError {
    /// It has more values than [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} parameters")]
    TooMany,
    /// A name nests deeper than [`MAX_DEPTH`].
    #[error("a parameter nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// One value: bytes as they were sent (percent-decoded, not checked to be UTF-8), or a PHP array.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A scalar.
    Text(Bytes),
    /// A list or a map, which are one thing in PHP.
    Array(Box<Array>),
}

impl Value {
    /// The scalar; `None` where it is an array.
    pub fn as_text(&self) -> Option<&Bytes> {
        match self {
            Self::Text(text) => Some(text),
            Self::Array(_) => None,
        }
    }

    /// The scalar alone, or all of a list's; `None` where it is a map (it has a key that is no integer) or an element is
    /// an array itself.
    pub fn as_texts(&self) -> Option<Vec<&Bytes>> {
        match self {
            Self::Text(text) => Some(vec![text]),
            Self::Array(array) => {
                array.entries.iter().map(|(key, value)| integer(key).and_then(|_| value.as_text())).collect()
            }
        }
    }
}

/// A PHP array: ordered, its keys integers or strings, where a string that is a plain decimal integer is the integer.
/// Keys are held in their written form, which is unique for each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Array {
    entries: IndexMap<Box<[u8]>, Value>,
    /// One above the greatest integer key so far.
    next: Option<i64>,
}

impl Array {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets what `key` holds, keeping the place of an entry that was there; without a key, appends.
    pub(super) fn insert(&mut self, key: Option<&[u8]>, value: Value) {
        if let Some(key) = self.key(key) {
            self.entries.insert(key, value);
        }
    }

    /// The array that `key` holds, made anew where there is none; without a key, appended. `None` where nothing can be
    /// appended, as the greatest integer is taken (PHP drops the value).
    fn child(&mut self, key: Option<&[u8]>) -> Option<&mut Self> {
        let key = self.key(key)?;
        let value = self.entries.entry(key).or_insert_with(|| Value::Array(Box::default()));
        if let Value::Text(_) = value {
            *value = Value::Array(Box::default());
        }
        match value {
            Value::Array(array) => Some(array),
            Value::Text(_) => None,
        }
    }

    fn key(&mut self, key: Option<&[u8]>) -> Option<Box<[u8]>> {
        let (key, number) = match key {
            Some(key) => (key.into(), integer(key)),
            None => {
                let next = self.next.unwrap_or(0);
                let key: Box<[u8]> = next.to_string().into_bytes().into();
                if next == i64::MAX && self.entries.contains_key(&key) {
                    return None;
                }
                (key, Some(next))
            }
        };
        if let Some(number) = number {
            let next = number.saturating_add(1);
            self.next = Some(self.next.map_or(next, |before| before.max(next)));
        }
        Some(key)
    }

    /// Writes it as `json_encode` does, without the entries whose key is `hidden`: a list where the keys left are 0 to n-1
    /// in order, else a map. What is not UTF-8 becomes U+FFFD.
    fn serialize_without<S: Serializer>(
        &self,
        hidden: impl Fn(&[u8]) -> bool,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let shown = || self.entries.iter().filter(|(key, _)| !hidden(key));
        let is_list = shown().zip(0..).all(|((key, _), index)| integer(key) == Some(index));
        if is_list {
            let mut list = serializer.serialize_seq(None)?;
            shown().try_for_each(|(_, value)| list.serialize_element(value))?;
            list.end()
        } else {
            let mut map = serializer.serialize_map(None)?;
            shown().try_for_each(|(key, value)| map.serialize_entry(&String::from_utf8_lossy(key), value))?;
            map.end()
        }
    }
}

impl Serialize for Array {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_without(|_| false, serializer)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(&String::from_utf8_lossy(text)),
            Self::Array(array) => array.serialize(serializer),
        }
    }
}

/// The parameters of one request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query {
    root: Array,
}

impl Query {
    /// Reads a URL's query (what is behind the `?`) or a body of `application/x-www-form-urlencoded`.
    pub fn parse(raw: &[u8]) -> Result<Self, QueryError> {
        let mut root = Array::default();
        let mut budget = MAX_VALUES;
        for part in raw.split(|&byte| byte == b'&').filter(|part| !part.is_empty()) {
            let (name, value) = match part.iter().position(|&byte| byte == b'=') {
                Some(at) => (&part[..at], &part[at + 1..]),
                None => (part, &[][..]),
            };
            let name = decode(name);
            let Some((top, path)) = split_name(&name)? else { continue };
            budget = budget.checked_sub(1 + path.len()).ok_or(QueryError::TooMany)?;
            place(&mut root, &top, &path, Value::Text(decode(value).into()));
        }
        Ok(Self { root })
    }

    /// What a top-level name holds.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.root.entries.get(name.as_bytes())
    }

    /// Whether it has no parameters.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// All of it but the parameter called `name`, to be written as JSON the way `json_encode` does (nothing: `[]`).
    pub fn without<'a>(&'a self, name: &'a str) -> impl Serialize + 'a {
        Without { query: self, hidden: move |key: &[u8]| key == name.as_bytes() }
    }

    /// The same without the parameters that have one of these names.
    pub fn without_any<'a>(&'a self, names: &'a [&'a str]) -> impl Serialize + 'a {
        Without { query: self, hidden: move |key: &[u8]| names.iter().any(|name| key == name.as_bytes()) }
    }
}

impl From<Array> for Query {
    fn from(root: Array) -> Self {
        Self { root }
    }
}

impl Serialize for Query {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.root.serialize(serializer)
    }
}

struct Without<'a, H> {
    query: &'a Query,
    hidden: H,
}

impl<H: Fn(&[u8]) -> bool> Serialize for Without<'_, H> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.query.root.serialize_without(&self.hidden, serializer)
    }
}

/// The name that a plain parameter called `name` has once PHP has read it: `my.token` is `my_token`.
pub fn plain_name(name: &str) -> String {
    name.trim_start_matches(' ').replace([' ', '.'], "_")
}

fn decode(raw: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(raw.len());
    for (index, part) in raw.split(|&byte| byte == b'+').enumerate() {
        if index > 0 {
            decoded.push(b' ');
        }
        decoded.extend(percent_decode(part));
    }
    decoded
}

/// Splits a decoded name: the top-level name with ` ` and `.` turned into `_`, then each `[key]`; `None` in the path is
/// `[]`. `None` where the name is empty and PHP ignores the parameter.
#[expect(clippy::type_complexity, reason = "a pair that lives for one call")]
fn split_name(name: &[u8]) -> Result<Option<(Vec<u8>, Vec<Option<&[u8]>>)>, QueryError> {
    // Names are C strings there: they end at the first NUL.
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let name = &name[name.iter().take_while(|&&byte| byte == b' ').count()..];
    let open = name.iter().position(|&byte| byte == b'[').unwrap_or(name.len());
    if open == 0 {
        return Ok(None);
    }
    let mut top = name[..open].to_vec();
    let mut path = Vec::new();
    let mut rest = &name[open..];
    while let Some(inner) = rest.strip_prefix(b"[") {
        let blank = inner.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'..=b'\r'));
        // A blank in front is skipped before `]` is looked for, yet it belongs to the key.
        let Some(close) = inner.iter().position(|&byte| byte == b']') else {
            // What never closes is no index: it belongs to the top-level name, and is ignored further down.
            if path.is_empty() {
                top.push(b'_');
                top.extend(inner.iter().map(|&byte| if byte == b'[' { b'_' } else { byte }));
            }
            break;
        };
        if path.len() == MAX_DEPTH {
            return Err(QueryError::TooDeep);
        }
        path.push((close > usize::from(blank)).then_some(&inner[..close]));
        rest = &inner[close + 1..];
    }
    for byte in &mut top {
        if matches!(byte, b' ' | b'.') {
            *byte = b'_';
        }
    }
    Ok(Some((top, path)))
}

fn place(root: &mut Array, top: &[u8], path: &[Option<&[u8]>], value: Value) {
    let mut array = root;
    let mut key = Some(top);
    for next in path {
        match array.child(key) {
            Some(child) => array = child,
            None => return,
        }
        key = *next;
    }
    array.insert(key, value);
}

/// The integer that PHP takes an array key for: plain decimal digits within 64 bits, no `+`, no leading zeros, no `-0`.
fn integer(key: &[u8]) -> Option<i64> {
    let digits = key.strip_prefix(b"-").unwrap_or(key);
    let plain = match digits {
        [] => false,
        [b'0'] => key.len() == 1,
        [b'0', ..] => false,
        _ => digits.iter().all(u8::is_ascii_digit),
    };
    if !plain {
        return None;
    }
    std::str::from_utf8(key).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
