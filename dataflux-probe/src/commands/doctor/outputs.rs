//! Whether the outputs of a configuration could deliver from here. Looks, connects, and sends nothing.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::{config::places, health::Settings, http, loggers::Logger, pipeline::Output};

/// How long a receiver has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A place, and whether it is as the output needs it.
type Finding = (String, anyhow::Result<String>);

/// What each output needs to deliver, and to keep what it has not delivered.
pub(super) fn print(
    out: &mut impl Write,
    outputs: &mut [Output],
    state_dir: Option<&Path>,
) -> io::Result<()> {
    for output in outputs {
        writeln!(out, "\n  output.{}", output.name)?;
        let keeps = output.spool.is_some() || output.dead_letter_bytes.is_some();
        let state_dir = state_dir.filter(|_| keeps);
        let mut findings: Vec<_> = state_dir.map(folder).into_iter().collect();
        findings.extend(look(&mut *output.logger));
        if findings.is_empty() {
            writeln!(out, "    needs nothing that could be missing")?;
        }
        tell(out, findings)?;
    }
    Ok(())
}

/// What `[health]` needs.
pub(super) fn print_health(out: &mut impl Write, settings: &Settings) -> io::Result<()> {
    let port = settings.listen.map(http::look);
    let above = settings.file.as_deref().and_then(Path::parent);
    let findings: Vec<_> = port.into_iter().chain(above.map(folder)).collect();
    if !findings.is_empty() {
        writeln!(out, "\n  health")?;
    }
    tell(out, findings)
}

fn tell(out: &mut impl Write, findings: Vec<Finding>) -> io::Result<()> {
    for (place, finding) in findings {
        match finding {
            Ok(what) => writeln!(out, "    ok      {place}: {what}")?,
            Err(error) => writeln!(out, "    failed  {place}: {error:#}")?,
        }
    }
    Ok(())
}

fn look(logger: &mut dyn Logger) -> Vec<Finding> {
    let files = logger.files();
    let mut findings: Vec<_> = files.write.iter().map(|path| folder(path)).collect();
    findings.extend(files.read.iter().map(|path| readable(path)));
    findings.extend(logger.reach(PATIENCE));
    findings
}

/// One that is missing is made, if what is above it can be written to.
fn folder(path: &Path) -> Finding {
    let finding = || {
        let there = path.ancestors().find(|path| path.exists());
        let there = there.context("nothing above it is there")?;
        if let Some(obstacle) = places::no_folder(path) {
            bail!(obstacle);
        }
        let may = Access::WRITE_OK | Access::EXEC_OK;
        accessat(CWD, there, may, AtFlags::EACCESS)
            .with_context(|| format!("this user may not write to {}", there.display()))?;
        if there == path {
            return Ok("can be written to".to_owned());
        }
        Ok(format!(
            "is not there; {} can be written to",
            there.display()
        ))
    };
    (path.display().to_string(), finding())
}

fn readable(path: &Path) -> Finding {
    let opened = File::open(path).context("cannot be read");
    let finding = opened.map(|_| "can be read".to_owned());
    (path.display().to_string(), finding)
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpListener};

    use super::*;
    use crate::{
        loggers,
        plugin::{Plugin, testing::context},
    };

    fn prometheus() -> &'static Plugin<dyn Logger> {
        let mut registry = loggers::REGISTRY.iter();
        registry.find(|plugin| plugin.name == "prometheus").unwrap()
    }

    #[test]
    fn folders_ports_and_secrets_are_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::write(path("file"), "").unwrap();
        let said = |(_, finding): Finding| finding.map_err(|error| format!("{error:#}"));
        assert_eq!(
            said(folder(root.path())),
            Ok("can be written to".to_owned())
        );
        let missing = said(folder(&path("a/b"))).unwrap();
        assert!(missing.starts_with("is not there; "), "{missing}");
        let wrong = said(folder(&path("file/b"))).unwrap_err();
        assert!(wrong.contains("file is a file, no folder; "), "{wrong}");
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "nothing is made"
        );

        assert!(readable(&path("file")).1.is_ok() && readable(&path("secret")).1.is_err());

        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let text = format!("listen = {address:?}\n");
        let context = context(root.path());
        let mut logger = prometheus().build_from(&text, &context).unwrap();
        let mut looked = || said(look(&mut *logger).remove(0));
        let error = looked().unwrap_err();
        assert!(error.starts_with("is in use"), "{error}");
        drop(taken);
        assert_eq!(looked(), Ok("is free".to_owned()));

        let wrong = said(folder(Path::new("/proc/dataflux"))).unwrap_err();
        assert!(wrong.contains("no files can be made"), "{wrong}");
    }
}
