//! What is said to an operator, in Chinese as scripts expect it, or in English.

use crate::model::Error;
use std::str::FromStr;

/// A language that an operator can be answered in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Language {
    /// What is spoken unless something else is asked for.
    #[default]
    Chinese,
    /// English.
    English,
}

/// It is no language that is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("language is not zh or en")]
pub struct UnknownLanguage;

impl Language {
    /// The language of a locale (`en_GB.UTF-8`): English where it names that, else Chinese.
    pub fn of_locale(locale: &str) -> Self {
        let language = locale.split(['_', '.', '@', '-']).next().unwrap_or_default();
        if language.eq_ignore_ascii_case("en") { Self::English } else { Self::Chinese }
    }

    /// Its name (ISO 639-1), as it is typed and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chinese => "zh",
            Self::English => "en",
        }
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, UnknownLanguage> {
        match text {
            "zh" => Ok(Self::Chinese),
            "en" => Ok(Self::English),
            _ => Err(UnknownLanguage),
        }
    }
}

/// Something that is said to an operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phrase {
    /// The configuration was read again.
    Reloading,
    /// It was not, or not as a whole, for this reason.
    NotReloaded(String),
    /// A stop was ordered.
    Stopping,
    /// How the node is.
    Status {
        /// WebSocket connections of the node.
        connections: u64,
        /// Its process.
        pid: u32,
        /// Bytes of memory that it has resident; `None` where the system doesn't tell.
        resident: Option<u64>,
    },
    /// The cluster's clients were told.
    Said,
    /// They were not, for this reason.
    NotSaid(Error),
    /// No operation is named.
    NoOperation,
    /// What is named is none.
    NotAnOperation,
    /// `say` without a text.
    NoText,
    /// No node answers.
    Unreachable,
    /// Whoever asks may not.
    Denied,
    /// A node was started in the background.
    Started {
        /// Its process.
        pid: u32,
    },
    /// A node that was started has ended instead of becoming ready.
    NotStarted,
}

impl Phrase {
    /// The words; those of [`Status`](Self::Status) are lines with an end each.
    pub fn in_language(&self, language: Language) -> String {
        let chinese = language == Language::Chinese;
        let one_of = |zh: &str, en: &str| if chinese { zh.to_owned() } else { en.to_owned() };
        match self {
            Self::Reloading => one_of("服务即将重启", "the service is about to reload"),
            Self::NotReloaded(why) => format!("{}: {why}", one_of("重启失败", "not reloaded")),
            Self::Stopping => one_of("服务即将关闭", "the service is about to stop"),
            Self::Status { connections, pid, resident } => {
                let memory = resident.map_or_else(|| "?".to_owned(), megabytes);
                if chinese {
                    format!("当前服务器共有 {connections} 个连接\n主进程PID: {pid}\n内存占用量: {memory}MB\n")
                } else {
                    format!(
                        "Connections to this server: {connections}\nMain process PID: {pid}\nMemory in use: {memory}MB\n"
                    )
                }
            }
            Self::Said => one_of("广播成功", "sent to everybody"),
            Self::NotSaid(why) => format!("{}: {why}", one_of("广播失败", "not sent")),
            Self::NoOperation => one_of("缺少s指令，s指令用于指明具体操作", "-s is missing: it names the operation"),
            Self::NotAnOperation => {
                one_of("s指令仅可用start|stop|reload|status|say", "-s can only be start|stop|reload|status|say")
            }
            Self::NoText => one_of("缺少i参数", "-i is missing"),
            Self::Unreachable => one_of("连接服务失败", "can't connect to the service"),
            Self::Denied => one_of("无权操作", "not allowed"),
            Self::Started { pid } => {
                if chinese {
                    format!("服务已启动，主进程PID: {pid}")
                } else {
                    format!("the service runs, PID: {pid}")
                }
            }
            Self::NotStarted => one_of("服务启动失败", "the service has not started"),
        }
    }
}

/// Bytes as MiB with two digits behind the point, the way the replaced server shows them.
fn megabytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_its_figures_in_both_languages() {
        let status = Phrase::Status { connections: 3, pid: 42, resident: Some(13 << 19) };
        assert_eq!(
            status.in_language(Language::Chinese),
            "当前服务器共有 3 个连接\n主进程PID: 42\n内存占用量: 6.50MB\n"
        );
        assert_eq!(
            status.in_language(Language::English),
            "Connections to this server: 3\nMain process PID: 42\nMemory in use: 6.50MB\n"
        );
    }

    #[test]
    fn english_is_spoken_to_english_locales_alone() {
        for (locale, language) in [
            ("en_GB.UTF-8", Language::English),
            ("en", Language::English),
            ("EN-us", Language::English),
            ("zh_CN.UTF-8", Language::Chinese),
            ("C.UTF-8", Language::Chinese),
            ("POSIX", Language::Chinese),
            ("enm", Language::Chinese),
            ("", Language::Chinese),
        ] {
            assert_eq!(Language::of_locale(locale), language, "{locale}");
        }
    }
}
