//! `os`: the distribution and the kernel.

use std::path::Path;

use serde::Deserialize;

use super::MetadataReader;
use crate::{
    host_file::{first_line, text},
    model::Metadata,
    plugin::{Needs, Plugin, Roots},
};

pub(super) static PLUGIN: Plugin<dyn MetadataReader> = Plugin {
    name: "os",
    summary: "name and version of the distribution, version and architecture of the kernel",
    needs: Needs {
        kernel: "/etc/os-release or /usr/lib/os-release, /proc/sys/kernel/osrelease",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Os {
            roots: context.roots.clone(),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Os {
    roots: Roots,
}

impl MetadataReader for Os {
    /// Keys: `id`, `name` and `version` as os-release has ID, NAME and VERSION_ID; `kernel`, its release; `architecture`, the
    /// machine's as uname(2) names it.
    fn read(&mut self, out: &mut Metadata) -> anyhow::Result<()> {
        let Roots { proc, root, .. } = &self.roots;
        let release = release(root);
        let machine = rustix::system::uname()
            .machine()
            .to_string_lossy()
            .into_owned();
        let section = super::section([
            ("id", variable(&release, "ID")),
            ("name", variable(&release, "NAME")),
            ("version", variable(&release, "VERSION_ID")),
            ("kernel", first_line(&proc.join("sys/kernel/osrelease"))),
            ("architecture", Some(machine)),
        ]);
        out.sections.insert(PLUGIN.name, section);
        Ok(())
    }
}

/// The text of os-release, which may be in either place; empty without both.
pub(super) fn release(root: &Path) -> String {
    let places = ["etc/os-release", "usr/lib/os-release"];
    places
        .iter()
        .find_map(|path| text(&root.join(path)))
        .unwrap_or_default()
}

/// The value of a variable of os-release(5): the last assignment counts, quotes and backslashes are those of a shell.
pub(super) fn variable(release: &str, name: &str) -> Option<String> {
    let assigned = |line: &str| Some(unquote(line.trim().strip_prefix(name)?.strip_prefix('=')?));
    let value = release.lines().rev().find_map(assigned)?;
    (!value.is_empty()).then_some(value)
}

fn unquote(value: &str) -> String {
    let quoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(literal) = quoted('\'') {
        return literal.to_owned();
    }
    let mut plain = String::new();
    let mut characters = quoted('"').unwrap_or(value).chars();
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' {
            characters.next()
        } else {
            Some(character)
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{metadata::testing::read, plugin::testing};

    #[test]
    fn os_release_is_read_as_a_shell_would() {
        let release =
            "# ID=no\nNAME=\"Deb\\\"ian\"\nID=other\nID=debian\nVERSION_ID='1\\2'\nVARIANT=\n";
        let value = |name| variable(release, name);
        assert_eq!(value("NAME").as_deref(), Some("Deb\"ian"));
        assert_eq!(value("ID").as_deref(), Some("debian"));
        assert_eq!(value("VERSION_ID").as_deref(), Some("1\\2"));
        assert_eq!(value("VARIANT"), None);
        assert_eq!(value("VERSION"), None);
    }

    #[test]
    fn etc_comes_before_usr_lib_and_without_both_the_kernel_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let section = || read(&PLUGIN, "", &testing::context(folder.path())).unwrap();
        assert_eq!(section().keys().collect::<Vec<_>>(), ["architecture"]);
        write("proc/sys/kernel/osrelease", "6.1.0-44-amd64\n");
        write("root/usr/lib/os-release", "ID=usr\n");
        assert_eq!(section()["id"], "usr");
        assert_eq!(section()["kernel"], "6.1.0-44-amd64");
        write("root/etc/os-release", "NAME=Etc\n");
        assert_eq!(section().get("id"), None);
        assert_eq!(section()["name"], "Etc");
    }
}
