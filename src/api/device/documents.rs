//! A stream of JSON documents, in whatever chunks it comes.

use super::refusal::Refusal;
use super::scanner::{Scan, Scanner, is_blank};
use std::borrow::Cow;

/// Bytes of one document.
pub(super) const MAX_DOCUMENT: usize = 2 << 20;

/// What of a stream is no whole document yet.
#[derive(Debug, Default)]
pub(super) struct Documents {
    scanner: Scanner,
    /// What is there of a document that came in several chunks.
    buffer: Vec<u8>,
    /// White space came.
    blank: bool,
    /// A document, or what can't be one, was there.
    answered: bool,
}

impl Documents {
    /// The next document in the chunk, which is shortened by it; `None` where the chunk has no end of one. A number that stands
    /// alone ends with its chunk. Behind an error the rest of the chunk is dropped, as nobody knows where in it the next
    /// document begins.
    pub(super) fn next<'a>(&mut self, chunk: &mut &'a [u8]) -> Option<Result<Cow<'a, [u8]>, Refusal>> {
        if self.buffer.is_empty() {
            let blank = chunk.iter().take_while(|byte| is_blank(**byte)).count();
            self.blank |= blank > 0;
            *chunk = &chunk[blank..];
        }
        if chunk.is_empty() {
            return None;
        }
        let (length, ended) = match self.scanner.scan(chunk) {
            Scan::Whole(length) => (length, true),
            Scan::Incomplete => (chunk.len(), self.scanner.is_number()),
            Scan::Malformed(why) => {
                *chunk = &[];
                self.begin_anew();
                return Some(Err(Refusal::Malformed(why)));
            }
        };
        let (part, rest) = chunk.split_at(length);
        *chunk = rest;
        if self.buffer.len() + part.len() > MAX_DOCUMENT {
            *chunk = &[];
            self.begin_anew();
            return Some(Err(Refusal::TooLong));
        }
        if ended && self.buffer.is_empty() {
            self.begin_anew();
            return Some(Ok(Cow::Borrowed(part)));
        }
        self.buffer.extend_from_slice(part);
        ended.then(|| {
            let document = std::mem::take(&mut self.buffer);
            self.begin_anew();
            Ok(Cow::Owned(document))
        })
    }

    /// Bytes that are kept of a document that goes on.
    pub(super) fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Whether silence is to be answered: a document has begun, or all that ever came is white space.
    pub(super) fn is_owed_an_answer(&self) -> bool {
        !self.buffer.is_empty() || (self.blank && !self.answered)
    }

    /// What was left when nothing followed in time, or nothing can follow; `None` where the last document was the end.
    pub(super) fn end(&mut self) -> Option<Refusal> {
        let refusal = match (self.buffer.is_empty(), self.answered) {
            (false, _) => Some(Refusal::Incomplete),
            (true, false) => Some(Refusal::Nothing),
            (true, true) => None,
        };
        self.begin_anew();
        refusal
    }

    fn begin_anew(&mut self) {
        *self = Self { answered: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::super::scanner::Malformed;
    use super::*;

    fn all(documents: &mut Documents, mut chunk: &[u8]) -> Vec<Result<String, Refusal>> {
        let text = |document: Cow<'_, [u8]>| String::from_utf8(document.into_owned()).unwrap();
        std::iter::from_fn(|| documents.next(&mut chunk).map(|document| document.map(text))).collect()
    }

    fn texts(found: &[Result<String, Refusal>]) -> Vec<&str> {
        found.iter().map(|found| found.as_ref().map_or("ERR", String::as_str)).collect()
    }

    #[test]
    fn documents_follow_each_other_in_any_chunks() {
        let stream = " {\"a\":\"}\"}[1]\n\"x\"true {\"b\":{}}\r\n";
        let wanted = ["{\"a\":\"}\"}", "[1]", "\"x\"", "true", "{\"b\":{}}"];
        assert_eq!(texts(&all(&mut Documents::default(), stream.as_bytes())), wanted);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut documents = Documents::default();
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                let found: Vec<_> = pieces.iter().flat_map(|piece| all(&mut documents, piece.as_bytes())).collect();
                assert_eq!(texts(&found), wanted, "cut at {first} and {second}");
                assert!(!documents.is_owed_an_answer() && documents.end().is_none());
            }
        }
    }

    #[test]
    fn a_number_ends_with_its_chunk() {
        let mut documents = Documents::default();
        assert_eq!(texts(&all(&mut documents, b"12 3")), ["12", "3"]);
        assert_eq!(texts(&all(&mut documents, b"4")), ["4"]);
        assert!(all(&mut documents, b"-").is_empty() && documents.is_owed_an_answer());
        assert_eq!(texts(&all(&mut documents, b"5 ")), ["-5"]);
    }

    #[test]
    fn behind_an_error_the_rest_of_the_chunk_is_dropped() {
        let mut documents = Documents::default();
        assert_eq!(texts(&all(&mut documents, b"[1][2}[3]")), ["[1]", "ERR"]);
        assert_eq!(texts(&all(&mut documents, b"[4")), [""; 0]);
        assert_eq!(all(&mut documents, b"}[5]"), [Err(Refusal::Malformed(Malformed::Syntax))]);
        assert_eq!(texts(&all(&mut documents, b"[6]")), ["[6]"]);
    }

    #[test]
    fn what_stays_incomplete_and_what_is_nothing_is_owed_an_answer() {
        let mut documents = Documents::default();
        assert!(!documents.is_owed_an_answer());
        assert_eq!(Documents::default().end(), Some(Refusal::Nothing));
        assert!(all(&mut documents, b" \n").is_empty() && documents.is_owed_an_answer());
        assert_eq!(documents.end(), Some(Refusal::Nothing));
        assert!(all(&mut documents, b" \n").is_empty() && !documents.is_owed_an_answer());
        assert_eq!(documents.end(), None);
        assert!(all(&mut documents, b"[").is_empty() && documents.is_owed_an_answer());
        assert_eq!(documents.end(), Some(Refusal::Incomplete));
        assert_eq!(texts(&all(&mut documents, b"[]")), ["[]"]);
    }

    #[test]
    fn a_document_has_a_limit_that_blanks_around_it_are_no_part_of() {
        let longest = format!("\"{}\"", "x".repeat(MAX_DOCUMENT - 2));
        for piece in [MAX_DOCUMENT * 2, 1000, 1] {
            let found = |stream: &str| {
                let mut documents = Documents::default();
                stream.as_bytes().chunks(piece).flat_map(|piece| all(&mut documents, piece)).collect::<Vec<_>>()
            };
            assert_eq!(found(&format!("  {longest}\n")), [Ok(longest.clone())]);
            assert_eq!(found(&format!("\"x{}", &longest[1..])), [Err(Refusal::TooLong)]);
        }
    }
}
