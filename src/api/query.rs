//! Parameters as PHP reads them: `a[]=1&a[]=2` and `a[0]=1` are lists, `a[k]=v` is a map, `a[k][l]=v` nests.
//!
//! The rules are those of PHP's `parse_str`, which the originals' backends were written for, checked against PHP 8.2
//! case by case below. Two things are errors here that PHP drops in silence: more values than a limit, and names nested
//! deeper than one. The same type holds a form or JSON body (see [`body`](super::body)).

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

    /// Writes it as `json_encode` does, without the entry called `hidden`: a list where the keys left are 0 to n-1 in
    /// order, else a map. What is not UTF-8 becomes U+FFFD.
    fn serialize_without<S: Serializer>(&self, hidden: Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = || self.entries.iter().filter(|(key, _)| hidden != Some(key));
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
        self.serialize_without(None, serializer)
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
        Without { query: self, name: name.as_bytes() }
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

struct Without<'a> {
    query: &'a Query,
    name: &'a [u8],
}

impl Serialize for Without<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.query.root.serialize_without(Some(self.name), serializer)
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
mod tests {
    use super::*;

    /// Query, and what PHP 8.2 prints for it: `parse_str($query, $v); echo json_encode($v, JSON_UNESCAPED_UNICODE |
    /// JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE);`
    const PHP: &[(&[u8], &str)] = &[
        (b"", r#"[]"#),
        (b"a=1", r#"{"a":"1"}"#),
        (b"a", r#"{"a":""}"#),
        (b"a=", r#"{"a":""}"#),
        (b"=1", r#"[]"#),
        (b"&&a=1&", r#"{"a":"1"}"#),
        (b"a=1&a=2", r#"{"a":"2"}"#),
        (b"a[]=1&a[]=2", r#"{"a":["1","2"]}"#),
        (b"a[0]=1&a[1]=2", r#"{"a":["1","2"]}"#),
        (b"a[1]=1&a[0]=2", r#"{"a":{"1":"1","0":"2"}}"#),
        (b"a[1]=x", r#"{"a":{"1":"x"}}"#),
        (b"a[0]=x&a[2]=y", r#"{"a":{"0":"x","2":"y"}}"#),
        (b"a[k]=v", r#"{"a":{"k":"v"}}"#),
        (b"a[k][l]=v", r#"{"a":{"k":{"l":"v"}}}"#),
        (b"a[k][]=1&a[k][]=2", r#"{"a":{"k":["1","2"]}}"#),
        (b"a[][]=1&a[][]=2", r#"{"a":[["1"],["2"]]}"#),
        (b"a[]=1&a[k]=2", r#"{"a":{"0":"1","k":"2"}}"#),
        (b"a=1&a[]=2", r#"{"a":["2"]}"#),
        (b"a[]=1&a=2", r#"{"a":"2"}"#),
        (b"a+b=c+d", r#"{"a_b":"c d"}"#),
        (b"a%20b=c%20d", r#"{"a_b":"c d"}"#),
        (b"a.b=1", r#"{"a_b":"1"}"#),
        (b"a b.c[d e.f]=1", r#"{"a_b_c":{"d e.f":"1"}}"#),
        (b"%20a=1", r#"{"a":"1"}"#),
        (b"+a=1", r#"{"a":"1"}"#),
        (b" a =1", r#"{"a_":"1"}"#),
        (b"a[=1", r#"{"a_":"1"}"#),
        (b"a[b=1", r#"{"a_b":"1"}"#),
        (b"a[b.c d=1", r#"{"a_b_c_d":"1"}"#),
        (b"a[b[c]=1", r#"{"a":{"b[c":"1"}}"#),
        (b"a[b]c=1", r#"{"a":{"b":"1"}}"#),
        (b"a[b]c[d]=1", r#"{"a":{"b":"1"}}"#),
        (b"a]=1", r#"{"a]":"1"}"#),
        (b"a]b[c]=1", r#"{"a]b":{"c":"1"}}"#),
        (b"[a]=1", r#"[]"#),
        (b"[=1", r#"[]"#),
        (b"[]=1", r#"[]"#),
        (b"a[ ]=1", r#"{"a":["1"]}"#),
        (b"a[+]=1", r#"{"a":["1"]}"#),
        (b"a[ b]=1", r#"{"a":{" b":"1"}}"#),
        (b"a[  ]=1", r#"{"a":{"  ":"1"}}"#),
        (b"a[b ]=1", r#"{"a":{"b ":"1"}}"#),
        (b"a[%09]=1", r#"{"a":["1"]}"#),
        (b"a%00b=1", r#"{"a":"1"}"#),
        (b"a[x%00y]=1", r#"{"a_x":"1"}"#),
        (b"a[x]%00[y]=1", r#"{"a":{"x":"1"}}"#),
        (b"a=x%00y", r#"{"a":"x\u0000y"}"#),
        (b"a=%zz", r#"{"a":"%zz"}"#),
        (b"a=%", r#"{"a":"%"}"#),
        (b"a=%4", r#"{"a":"%4"}"#),
        (b"a=%41%zz", r#"{"a":"A%zz"}"#),
        (b"a=%2B", r#"{"a":"+"}"#),
        (b"a=b=c", r#"{"a":"b=c"}"#),
        (b"a%5Bk%5D=v", r#"{"a":{"k":"v"}}"#),
        (b"a%3Db=1", r#"{"a=b":"1"}"#),
        (b"0=a&1=b", r#"["a","b"]"#),
        (b"1=a&0=b", r#"{"1":"a","0":"b"}"#),
        (b"a[01]=x&a[]=y", r#"{"a":{"01":"x","0":"y"}}"#),
        (b"a[5]=x&a[]=y", r#"{"a":{"5":"x","6":"y"}}"#),
        (b"a[-5]=x&a[]=y", r#"{"a":{"-5":"x","-4":"y"}}"#),
        (b"a[-0]=x&a[]=y", r#"{"a":{"-0":"x","0":"y"}}"#),
        (b"a[9223372036854775807]=x&a[]=y", r#"{"a":{"9223372036854775807":"x"}}"#),
        (b"a[9223372036854775808]=x&a[]=y", r#"{"a":{"9223372036854775808":"x","0":"y"}}"#),
        (b"a[-9223372036854775808]=x&a[]=y", r#"{"a":{"-9223372036854775808":"x","-9223372036854775807":"y"}}"#),
        (b"a[-9223372036854775809]=x&a[]=y", r#"{"a":{"-9223372036854775809":"x","0":"y"}}"#),
        (b"a[][k]=1&a[][k]=2", r#"{"a":[{"k":"1"},{"k":"2"}]}"#),
        (b"a[k]=1&a[k][l]=2", r#"{"a":{"k":{"l":"2"}}}"#),
        (b"a[k][l]=1&a[k]=2", r#"{"a":{"k":"2"}}"#),
        (b"a;b=1;c=2", r#"{"a;b":"1;c=2"}"#),
        (b"a[]", r#"{"a":[""]}"#),
        (b"a[b][=1", r#"{"a":{"b":"1"}}"#),
        (b"a[b][c=1", r#"{"a":{"b":"1"}}"#),
        (b"a[b][c.d[e=1", r#"{"a":{"b":"1"}}"#),
        (b"a[b][]=1", r#"{"a":{"b":["1"]}}"#),
        (b"%E2%80%A8=%E2%80%A9", r#"{"\u2028":"\u2029"}"#),
        (b"a=%7F%01%08%0C%0D%0A%09%22%5C/", r#"{"a":"\u0001\b\f\r\n\t\"\\/"}"#),
        ("ж=Привіт&ї[]=є".as_bytes(), r#"{"ж":"Привіт","ї":["є"]}"#),
        ("message=Повідомлення+для".as_bytes(), r#"{"message":"Повідомлення для"}"#),
        (b"a[\"\"]=1", r#"{"a":{"\"\"":"1"}}"#),
        (b"a[0]=1&a[0]=2", r#"{"a":["2"]}"#),
        (b"a[]=1&a[0]=2", r#"{"a":["2"]}"#),
        (b"a[1]=1&a[]=2&a[0]=3", r#"{"a":{"1":"1","2":"2","0":"3"}}"#),
        (b"+=1", r#"[]"#),
        (b"+[]=1", r#"[]"#),
        (b".=1", r#"{"_":"1"}"#),
        (b"..[]=1", r#"{"__":["1"]}"#),
        (b"a[b]=1&a[b]=2&c=3&a[d]=4", r#"{"a":{"b":"2","d":"4"},"c":"3"}"#),
        (b"c=3&a=1&c=4", r#"{"c":"4","a":"1"}"#),
        (b"a[[b]=1", r#"{"a":{"[b":"1"}}"#),
        (b"a[[]=1", r#"{"a":{"[":"1"}}"#),
        (b"a[]]=1", r#"{"a":["1"]}"#),
        (b"a[b]]=1", r#"{"a":{"b":"1"}}"#),
        (b"-1=a", r#"{"-1":"a"}"#),
        (b"__x=1", r#"{"__x":"1"}"#),
        (b"a[%]=1", r#"{"a":{"%":"1"}}"#),
        (b"a[][=1", r#"{"a":["1"]}"#),
        (b"a.[b=1", r#"{"a__b":"1"}"#),
        (b"a.b[c d.e", r#"{"a_b_c_d_e":""}"#),
        (b"a[\x0b]=1", r#"{"a":["1"]}"#),
        (b"a[\x0a\x0a]=1", r#"{"a":{"\n\n":"1"}}"#),
        (b"00=1", r#"{"00":"1"}"#),
        (b"%30=1", r#"["1"]"#),
        (b"a%", r#"{"a%":""}"#),
        (b"%", r#"{"%":""}"#),
        (b"a[b", r#"{"a_b":""}"#),
        (b"a[b[c=1", r#"{"a_b_c":"1"}"#),
        (b"a[b[c.d[e]=1", r#"{"a":{"b[c.d[e":"1"}}"#),
        (b"a[0]x=1", r#"{"a":["1"]}"#),
        (b"a[k]=1&a[]=2&a[]=3", r#"{"a":{"k":"1","0":"2","1":"3"}}"#),
        (b"ab%00[k]=1", r#"{"ab":"1"}"#),
        (b"%00a=1", r#"[]"#),
        (b"a[%00]=1", r#"{"a_":"1"}"#),
        (b"a[]%00=1", r#"{"a":["1"]}"#),
        (b"a[\xff]=\xff", r#"{"a":{"�":"�"}}"#),
        (b"a[9223372036854775807]=x&a[][k]=y&b=1", r#"{"a":{"9223372036854775807":"x"},"b":"1"}"#),
        (b"a[18446744073709551616]=1", r#"{"a":{"18446744073709551616":"1"}}"#),
        (b"a[1e3]=1", r#"{"a":{"1e3":"1"}}"#),
        (b"a[+1]=2", r#"{"a":{" 1":"2"}}"#),
        (b"a[k ]=1", r#"{"a":{"k ":"1"}}"#),
        (b"a[ ]b=1", r#"{"a":["1"]}"#),
        (b"a[ ", r#"{"a__":""}"#),
        (b"a[ ]", r#"{"a":[""]}"#),
        (b"a[ ]]", r#"{"a":[""]}"#),
        (b"a[ k=1", r#"{"a__k":"1"}"#),
        (b"a[\x09k]=1", r#"{"a":{"\tk":"1"}}"#),
        (b"%0Aa=1", r#"{"\na":"1"}"#),
        (b"\x09a=1", r#"{"\ta":"1"}"#),
        (b" [a]=1", r#"[]"#),
        (b"a=1&&&b=2", r#"{"a":"1","b":"2"}"#),
        (b"a==", r#"{"a":"="}"#),
        (b"a%26b=1", r#"{"a&b":"1"}"#),
        (b"a=1&a%5B%5D=2", r#"{"a":["2"]}"#),
        (b"a[b]=1&a[b][]=2", r#"{"a":{"b":["2"]}}"#),
        (b"a[b].c[d]=1", r#"{"a":{"b":"1"}}"#),
        (b"a[b] [c]=1", r#"{"a":{"b":"1"}}"#),
        (b"a[--1]=1", r#"{"a":{"--1":"1"}}"#),
        (b"a[-]=1&a[]=2", r#"{"a":{"-":"1","0":"2"}}"#),
        (b"a[-01]=1", r#"{"a":{"-01":"1"}}"#),
        (b"a[-1]=a&a[-3]=b&a[]=c", r#"{"a":{"-1":"a","-3":"b","0":"c"}}"#),
    ];

    #[test]
    fn queries_are_read_as_php_reads_them() {
        for (query, expected) in PHP {
            let parsed = Query::parse(query).unwrap();
            // PHP escapes these two in any case; the formatter of the answers is tested for it.
            let json =
                serde_json::to_string(&parsed).unwrap().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
            assert_eq!(&json, expected, "{}", String::from_utf8_lossy(query));
        }
    }

    #[test]
    fn a_scalar_or_a_list_of_scalars_is_texts_and_a_map_is_not() {
        let texts = |query: &str| {
            let query = Query::parse(query.as_bytes()).unwrap();
            let texts = query.get("c")?.as_texts()?;
            Some(texts.into_iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect::<Vec<_>>().join(","))
        };
        assert_eq!(texts("c=a").as_deref(), Some("a"));
        assert_eq!(texts("c[]=a&c[]=b&c[]=a").as_deref(), Some("a,b,a"));
        assert_eq!(texts("c[7]=a&c[3]=b").as_deref(), Some("a,b"));
        assert_eq!(texts("c[k]=a"), None);
        assert_eq!(texts("c[][]=a"), None);
        assert_eq!(texts("d=a"), None);
    }

    #[test]
    fn a_hidden_parameter_leaves_no_trace() {
        let shown =
            |query: &str, name| serde_json::to_string(&Query::parse(query.as_bytes()).unwrap().without(name)).unwrap();
        assert_eq!(shown("action=stats&token=secret", "token"), r#"{"action":"stats"}"#);
        assert_eq!(shown("token[]=secret&a[token]=1", "token"), r#"{"a":{"token":"1"}}"#);
        assert_eq!(shown("token=secret", "token"), "[]");
        assert_eq!(shown("0=a&token=secret&1=b", "token"), r#"["a","b"]"#);
        assert_eq!(shown("my.token=secret", &plain_name("my.token")), "[]");
    }

    #[test]
    fn what_is_not_utf_8_keeps_its_bytes() {
        let query = Query::parse(b"a=%ff%00&b=\xc3").unwrap();
        assert_eq!(query.get("a").unwrap().as_text().unwrap().as_ref(), b"\xff\0");
        assert_eq!(query.get("b").unwrap().as_text().unwrap().as_ref(), b"\xc3");
    }

    #[test]
    fn too_many_values_and_too_deep_names_are_errors() {
        let many = |count: usize| Query::parse("a[]=1&".repeat(count).as_bytes()).map(|_| ());
        // Each `a[]=1` is paid as two: the array might have been a new one.
        assert_eq!(many(MAX_VALUES / 2), Ok(()));
        assert_eq!(many(MAX_VALUES / 2 + 1), Err(QueryError::TooMany));
        let deep = |depth: usize| Query::parse(format!("a{}=1", "[b]".repeat(depth)).as_bytes()).map(|_| ());
        assert_eq!(deep(MAX_DEPTH), Ok(()));
        assert_eq!(deep(MAX_DEPTH + 1), Err(QueryError::TooDeep));
    }
}
