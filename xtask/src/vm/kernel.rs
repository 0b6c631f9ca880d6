//! Finds the kernels that Debian has, and fetches one: its image and its modules.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::{
    apt::{self, Apt},
    image,
    name::{Architecture, Flavour, Name, Series},
};
use crate::command::say;

/// Where the kernels of a release come from; what is not here is the backports'.
const RELEASES: [(Series, &str); 3] = [
    (Series::Numbered(5, 10), "bullseye"),
    (Series::Numbered(6, 1), "bookworm"),
    (Series::Numbered(6, 12), "trixie"),
];
/// Where later ones come from, and leave again.
const BACKPORTS: &str = "trixie-backports";

/// A kernel on disk.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: Name,
    /// As `uname -r` says.
    pub(crate) release: String,
    /// What qemu boots.
    pub(crate) image: PathBuf,
    /// `lib/modules/RELEASE`.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// Takes the kernel that is there, or fetches it. With `fresh`, looks whether there is a newer one.
    pub(crate) fn provide(name: &Name, fresh: bool) -> anyhow::Result<Self> {
        let folder = super::folder().join("kernels").join(name.to_string());
        let known = fs::read_to_string(folder.join("release")).ok();
        if let (Some(release), false) = (&known, fresh) {
            return Self::open(name, release, &folder);
        }
        let apt = Apt::open(suite(name.series), name.architecture, fresh)?;
        let packages = apt.names("linux-")?;
        let release = newest(&packages, name).with_context(|| {
            format!(
                "Debian {} has no kernel {name} with its modules",
                suite(name.series)
            )
        })?;
        if known.as_ref() != Some(&release) {
            let unfinished = folder.with_file_name(format!("{name}.unfinished"));
            remove(&unfinished)?;
            fs::create_dir_all(&unfinished)?;
            for package in apt.download(&packages_of(&packages, &release))? {
                apt::unpack(&package, &unfinished)?;
                // Unpacked is enough.
                fs::remove_file(&package)?;
            }
            let image = packed_image(&unfinished, &release)?;
            image::unpack(&image, &unfinished.join("image"), name.architecture)
                .with_context(|| image.display().to_string())?;
            fs::write(unfinished.join("release"), &release)?;
            remove(&folder)?;
            fs::rename(&unfinished, &folder)?;
        }
        Self::open(name, &release, &folder)
    }

    fn open(name: &Name, release: &str, folder: &Path) -> anyhow::Result<Self> {
        let modules = ["usr/lib/modules", "lib/modules"]
            .map(|place| folder.join(place).join(release))
            .into_iter()
            .find(|path| path.join("kernel").is_dir())
            .with_context(|| format!("{} has no modules of {release}", folder.display()))?;
        Ok(Self {
            name: name.clone(),
            release: release.to_owned(),
            image: folder.join("image"),
            modules,
        })
    }
}

/// Every kernel of the matrix: the long-term series, each later one that the backports still have with its modules, the
/// generic flavour of three, and two for arm64.
pub(crate) fn matrix(fresh: bool) -> anyhow::Result<Vec<Name>> {
    let cloud = |series| Name {
        series,
        flavour: Flavour::Cloud,
        architecture: Architecture::X86_64,
    };
    let mut series: Vec<_> = RELEASES.iter().map(|(series, _)| *series).collect();
    let packages = Apt::open(BACKPORTS, Architecture::X86_64, fresh)?.names("linux-")?;
    let suffix = Flavour::Cloud.suffix(Architecture::X86_64);
    series.extend(releases(&packages, &suffix).filter_map(|release| series_of(&release)));
    series.sort();
    series.dedup();
    let newest = *series.last().context("Debian has no kernels")?;
    let of_series = |series, flavour, architecture| Name {
        series,
        flavour,
        architecture,
    };
    let generic = [Series::Numbered(5, 10), Series::Numbered(6, 1), newest]
        .map(|series| of_series(series, Flavour::Generic, Architecture::X86_64));
    let arm64 = [Series::Numbered(6, 1), newest]
        .map(|series| of_series(series, Flavour::Cloud, Architecture::Aarch64));
    Ok(series
        .into_iter()
        .map(cloud)
        .chain(generic)
        .chain(arm64)
        .collect())
}

fn suite(series: Series) -> &'static str {
    let known = RELEASES.iter().find(|(known, _)| *known == series);
    known.map_or(BACKPORTS, |(_, suite)| suite)
}

/// The newest release of a kernel that is there with its modules.
fn newest(packages: &[String], name: &Name) -> Option<String> {
    let suffix = name.flavour.suffix(name.architecture);
    releases(packages, &suffix)
        .filter(|release| name.series == Series::Newest || series_of(release) == Some(name.series))
        .max_by_key(|release| numbers(release))
}

/// The releases of one flavour that are there with their modules. Since 6.19 these are packages of their own, which leave the
/// archive before the image does.
fn releases<'a>(packages: &'a [String], suffix: &'a str) -> impl Iterator<Item = String> + 'a {
    const SPLIT: Series = Series::Numbered(6, 19);
    let other = move |release: &str| {
        let version = release.strip_suffix(suffix).unwrap_or_default();
        // `-rt` and `-cloud` are flavours too, `-rc` is no release.
        version.is_empty()
            || version.contains("-rt")
            || version.contains("-cloud")
            || version.contains("-rc")
    };
    packages
        .iter()
        .filter_map(|package| package.strip_prefix("linux-image-"))
        .filter(move |release| {
            release.starts_with(|first: char| first.is_ascii_digit()) && !other(release)
        })
        .filter(move |release| numbers(release).len() > 2)
        .filter(move |release| {
            series_of(release) < Some(SPLIT)
                || packages.contains(&format!("linux-modules-{release}"))
        })
        .map(str::to_owned)
}

/// Which packages hold the image and the modules of a release.
fn packages_of(packages: &[String], release: &str) -> Vec<String> {
    let modules = format!("linux-modules-{release}");
    if !packages.contains(&modules) {
        return vec![format!("linux-image-{release}")];
    }
    let signed = format!("linux-binary-{release}");
    let binary = if packages.contains(&signed) {
        signed
    } else {
        format!("linux-binary-unsigned-{release}")
    };
    // What is built in stands in a list of a third package.
    vec![binary, modules, format!("linux-base-{release}")]
}

fn series_of(release: &str) -> Option<Series> {
    match numbers(release)[..] {
        [major, minor, ..] => Some(Series::Numbered(major, minor)),
        _ => None,
    }
}

/// The numbers of a release's version, without those of its flavour.
fn numbers(release: &str) -> Vec<u32> {
    let version = release.split("-cloud").next().unwrap_or_default();
    let version = version
        .trim_end_matches("-amd64")
        .trim_end_matches("-arm64");
    version
        .split(|other: char| !other.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

fn packed_image(folder: &Path, release: &str) -> anyhow::Result<PathBuf> {
    let places = [
        format!("boot/vmlinuz-{release}"),
        format!("usr/lib/modules/{release}/vmlinuz"),
        format!("usr/lib/modules/{release}/vmlinuz-{release}"),
    ];
    let Some(image) = places
        .iter()
        .map(|place| folder.join(place))
        .find(|path| path.is_file())
    else {
        bail!(
            "the packages of {release} have none of {}",
            places.join(", ")
        );
    };
    Ok(image)
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        say(format_args!("removing {}", folder.display()));
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGES: [&str; 13] = [
        "linux-image-5.10.0-9-cloud-amd64",
        "linux-image-5.10.0-46-cloud-amd64",
        "linux-image-5.10.0-46-cloud-amd64-dbg",
        "linux-image-5.10.0-47-cloud-amd64-unsigned",
        "linux-image-5.10.0-46-amd64",
        "linux-image-5.10.0-46-rt-amd64",
        "linux-image-cloud-amd64",
        "linux-image-6.1-cloud-amd64",
        "linux-image-7.1.13+deb13-cloud-amd64",
        "linux-image-7.2.6+deb13-cloud-amd64",
        "linux-image-7.2.12+deb13-cloud-amd64",
        "linux-modules-7.2.6+deb13-cloud-amd64",
        "linux-binary-unsigned-7.2.6+deb13-cloud-amd64",
    ];

    fn found(name: &str) -> Option<String> {
        newest(&PACKAGES.map(str::to_owned), &name.parse().unwrap())
    }

    #[test]
    fn the_newest_release_of_a_series_and_flavour_is_found() {
        assert_eq!(found("5.10").unwrap(), "5.10.0-46-cloud-amd64");
        assert_eq!(found("5.10-generic").unwrap(), "5.10.0-46-amd64");
        assert_eq!(found("6.1"), None, "a package that only points to another");
        assert_eq!(found("5.10-arm64"), None);
    }

    #[test]
    fn a_kernel_whose_modules_have_left_the_archive_is_none() {
        assert_eq!(found("7.1"), None);
        assert_eq!(found("7.2").unwrap(), "7.2.6+deb13-cloud-amd64");
        assert_eq!(found("newest").unwrap(), "7.2.6+deb13-cloud-amd64");
    }

    #[test]
    fn packages_of_both_layouts_are_named() {
        let packages = PACKAGES.map(str::to_owned);
        assert_eq!(
            packages_of(&packages, "5.10.0-46-amd64"),
            ["linux-image-5.10.0-46-amd64"]
        );
        assert_eq!(
            packages_of(&packages, "7.2.6+deb13-cloud-amd64"),
            [
                "linux-binary-unsigned-7.2.6+deb13-cloud-amd64",
                "linux-modules-7.2.6+deb13-cloud-amd64",
                "linux-base-7.2.6+deb13-cloud-amd64"
            ]
        );
    }
}
