//! Which profile a client has, chosen by the path that it asked for.

use super::profile::Profile;
use std::str::FromStr;

/// Path prefixes with their profiles: `/app=center,/=channel`.
///
/// A prefix stands for whole path segments (`/live` for `/live` and `/live/x`, not for `/lively`); the longest that fits
/// wins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profiles {
    /// The longest prefix first; none ends in a slash, so that `/` is empty.
    by_prefix: Vec<(String, Profile)>,
}

/// Why a text can't be [`Profiles`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProfilesError {
    /// An entry without `=`.
    #[error("{0:?} is not of the form /path=profile")]
    Form(String),
    /// A prefix that no path can have.
    #[error("path {0:?} does not begin with /")]
    Path(String),
    /// A profile that does not exist.
    #[error("profile {0:?} is unknown; known are: {known}", known = known())]
    Unknown(String),
    /// The same prefix a second time.
    #[error("path {0:?} is given twice")]
    Twice(String),
}

fn known() -> String {
    Profile::ALL.map(Profile::as_str).join(", ")
}

impl Profiles {
    /// The profile for a request's path; `None` where no prefix fits it.
    pub fn choose(&self, path: &str) -> Option<Profile> {
        let fits =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.by_prefix.iter().find(|(prefix, _)| fits(prefix)).map(|&(_, profile)| profile)
    }

    /// Whether any path has this profile.
    pub fn have(&self, profile: Profile) -> bool {
        self.by_prefix.iter().any(|&(_, given)| given == profile)
    }
}

impl Default for Profiles {
    /// `/=channel`.
    fn default() -> Self {
        Self { by_prefix: vec![(String::new(), Profile::Channel)] }
    }
}

impl FromStr for Profiles {
    type Err = ProfilesError;

    fn from_str(text: &str) -> Result<Self, ProfilesError> {
        let mut by_prefix: Vec<(String, Profile)> = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (path, name) = entry.rsplit_once('=').ok_or_else(|| ProfilesError::Form(entry.to_owned()))?;
            let (path, name) = (path.trim(), name.trim());
            if !path.starts_with('/') {
                return Err(ProfilesError::Path(path.to_owned()));
            }
            let profile = Profile::named(name).ok_or_else(|| ProfilesError::Unknown(name.to_owned()))?;
            let prefix = path.trim_end_matches('/');
            if by_prefix.iter().any(|(other, _)| other == prefix) {
                return Err(ProfilesError::Twice(path.to_owned()));
            }
            by_prefix.push((prefix.to_owned(), profile));
        }
        if by_prefix.is_empty() {
            return Ok(Self::default());
        }
        by_prefix.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(Self { by_prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_stands_for_whole_segments() {
        let profiles: Profiles = " /live/ = channel , /a/b=channel".parse().unwrap();
        for path in ["/live", "/live/", "/live/x/y", "/a/b", "/a/b/c"] {
            assert_eq!(profiles.choose(path), Some(Profile::Channel), "{path}");
        }
        for path in ["/", "/lively", "/a", "/a/bc", "/x/live", ""] {
            assert_eq!(profiles.choose(path), None, "{path}");
        }
    }

    #[test]
    fn the_longest_prefix_is_looked_at_first() {
        let profiles: Profiles = "/=center,/a/b/c=center,/a=channel".parse().unwrap();
        let prefixes: Vec<&str> = profiles.by_prefix.iter().map(|(prefix, _)| prefix.as_str()).collect();
        assert_eq!(prefixes, ["/a/b/c", "/a", ""]);
        for path in ["/anything", "/", "/ab", "/a/b/c", "/a/b/c/d"] {
            assert_eq!(profiles.choose(path), Some(Profile::Center), "{path}");
        }
        assert!(profiles.have(Profile::Center) && profiles.have(Profile::Channel));
        for path in ["/a", "/a/b", "/a/b/cd"] {
            assert_eq!(profiles.choose(path), Some(Profile::Channel), "{path}");
        }
    }

    #[test]
    fn nothing_given_is_the_channel_profile_for_every_path() {
        for text in ["", " , "] {
            assert_eq!(text.parse(), Ok(Profiles::default()));
        }
        assert_eq!(Profiles::default().choose("/any/path"), Some(Profile::Channel));
        assert!(!Profiles::default().have(Profile::Center));
    }

    #[test]
    fn faults_are_named() {
        for (text, message) in [
            ("/live", r#""/live" is not of the form /path=profile"#),
            ("live=channel", r#"path "live" does not begin with /"#),
            ("/=chanel", r#"profile "chanel" is unknown; known are: channel, center, device, method"#),
            ("/a=channel,/a/=channel", r#"path "/a/" is given twice"#),
        ] {
            assert_eq!(text.parse::<Profiles>().unwrap_err().to_string(), message);
        }
    }
}
