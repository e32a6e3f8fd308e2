//! A look into Redis: commands as they are, replies as they come (RESP2).

use std::future::Future;
use std::pin::Pin;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A simple or a bulk string, as text.
    Text(String),
    /// An integer.
    Number(i64),
    /// Several.
    List(Vec<Reply>),
    /// Nothing there.
    Nil,
    /// What the server objects to.
    Error(String),
}

impl Reply {
    /// The integer.
    pub fn number(&self) -> i64 {
        let Self::Number(number) = self else { panic!("not a number: {self:?}") };
        *number
    }

    /// The text.
    pub fn text(&self) -> &str {
        let Self::Text(text) = self else { panic!("not a text: {self:?}") };
        text
    }

    /// The texts of a list.
    pub fn texts(&self) -> Vec<String> {
        let Self::List(list) = self else { panic!("not a list: {self:?}") };
        list.iter().map(|reply| reply.text().to_owned()).collect()
    }
}

/// A connection to Redis.
pub struct Resp(BufReader<TcpStream>);

impl Resp {
    /// Connects to a Redis on this machine.
    pub async fn connect(port: u16) -> Self {
        Self(BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap()))
    }

    /// One command, its words separated by blanks, and its reply.
    pub async fn run(&mut self, command: &str) -> Reply {
        let words: Vec<&str> = command.split(' ').collect();
        self.command(&words).await
    }

    /// One command and its reply.
    pub async fn command(&mut self, words: &[&str]) -> Reply {
        self.pipeline(&[words.to_vec()]).await.remove(0)
    }

    /// Many commands at once, and their replies.
    pub async fn pipeline(&mut self, commands: &[Vec<&str>]) -> Vec<Reply> {
        let mut bytes = Vec::new();
        for words in commands {
            bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in words {
                bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
        }
        self.0.get_mut().write_all(&bytes).await.unwrap();
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            replies.push(self.reply().await);
        }
        replies
    }

    /// The keys that a pattern matches.
    pub async fn keys(&mut self, pattern: &str) -> Vec<String> {
        self.command(&["KEYS", pattern]).await.texts()
    }

    fn reply(&mut self) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>> {
        Box::pin(async {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            let (kind, rest) = line.trim_end().split_at_checked(1).expect("redis has hung up");
            match kind {
                "+" => Reply::Text(rest.to_owned()),
                "-" => Reply::Error(rest.to_owned()),
                ":" => Reply::Number(rest.parse().unwrap()),
                "$" | "*" if rest == "-1" => Reply::Nil,
                "$" => {
                    let mut text = vec![0; rest.parse::<usize>().unwrap() + 2];
                    self.0.read_exact(&mut text).await.unwrap();
                    text.truncate(text.len() - 2);
                    Reply::Text(String::from_utf8_lossy(&text).into_owned())
                }
                "*" => {
                    let mut list = Vec::new();
                    for _ in 0..rest.parse().unwrap() {
                        list.push(self.reply().await);
                    }
                    Reply::List(list)
                }
                _ => panic!("not a reply: {line:?}"),
            }
        })
    }
}
