//! What a kernel of the matrix is called: `6.1`, `6.1-generic`, `6.1-arm64`, `newest`.

use std::{fmt, str::FromStr};

use anyhow::{Context as _, bail};

/// A series of kernels in one flavour, for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) series: Series,
    pub(crate) flavour: Flavour,
    pub(crate) architecture: Architecture,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Series {
    /// As in 6.1: major and minor number.
    Numbered(u32, u32),
    /// The newest one that the distribution has with its modules.
    Newest,
}

/// What a kernel of the distribution was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flavour {
    /// Virtual machines: a third of the size, the same kernel in all that the probe sees.
    Cloud,
    /// Everything.
    Generic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    /// The architecture that this runs on, if guests of it are known.
    pub(crate) fn of_this_machine() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// As packages call it.
    pub(crate) fn packages(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// As compilers and qemu call it.
    pub(crate) fn compilers(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

impl Flavour {
    /// How the names of the packages end, with the architecture.
    pub(crate) fn suffix(self, architecture: Architecture) -> String {
        match self {
            Self::Cloud => format!("-cloud-{}", architecture.packages()),
            Self::Generic => format!("-{}", architecture.packages()),
        }
    }
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut words = text.split('-');
        let mut name = Self {
            series: words.next().unwrap_or_default().parse()?,
            flavour: Flavour::Cloud,
            architecture: Architecture::X86_64,
        };
        for word in words {
            match word {
                "cloud" => name.flavour = Flavour::Cloud,
                "generic" => name.flavour = Flavour::Generic,
                "amd64" | "x86_64" => name.architecture = Architecture::X86_64,
                "arm64" | "aarch64" => name.architecture = Architecture::Aarch64,
                _ => bail!(
                    "`{word}` in `{text}` is neither a flavour (cloud, generic) nor an architecture (amd64, arm64)"
                ),
            }
        }
        Ok(name)
    }
}

impl FromStr for Series {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "newest" {
            return Ok(Self::Newest);
        }
        let wrong = || format!("`{text}` is no series of kernels such as 6.1, nor `newest`");
        let (major, minor) = text.split_once('.').with_context(wrong)?;
        Ok(Self::Numbered(
            major.parse().with_context(wrong)?,
            minor.parse().with_context(wrong)?,
        ))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbered(major, minor) => write!(out, "{major}.{minor}"),
            Self::Newest => out.write_str("newest"),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.series)?;
        if self.flavour == Flavour::Generic {
            out.write_str("-generic")?;
        }
        if self.architecture == Architecture::Aarch64 {
            out.write_str("-arm64")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in [
            "5.10",
            "6.1-generic",
            "newest",
            "7.2-arm64",
            "6.12-generic-arm64",
        ] {
            assert_eq!(name.parse::<Name>().unwrap().to_string(), name);
        }
        assert_eq!(
            "6.1-cloud-amd64".parse::<Name>().unwrap().to_string(),
            "6.1"
        );
    }

    #[test]
    fn what_is_no_name_is_said() {
        for (name, word) in [
            ("6", "series"),
            ("6.1-fast", "`fast`"),
            ("", "series"),
            ("6.x", "series"),
        ] {
            let error = name.parse::<Name>().unwrap_err().to_string();
            assert!(error.contains(word), "{name}: {error}");
        }
    }
}
