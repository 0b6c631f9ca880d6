//! The Helm chart and the plain manifest that is made from it, both validated against the schemas of Kubernetes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    command::{self, say},
    workspace,
};

/// What renders the chart; the version is that of the module.
const HELM: (&str, &str) = ("helm.sh/helm/v3/cmd/helm", "v3.16.4");

/// Schemas of all versions, and what validates by them.
const VALIDATE: (&str, &str) = ("kubernetes-validate", "1.37.0");

/// The oldest version that still gets fixes somewhere, and the newest that the schemas know.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];

const CHART: &str = "deploy/kubernetes/chart";
const PLAIN: &str = "deploy/kubernetes/dataflux-probe.yaml";

/// What stands above the rendered chart: a namespace that lets the pods have what they need.
const HEAD: &str = "\
# DataFlux Probe on every node: `kubectl apply -f dataflux-probe.yaml`. Set the image and the brokers first.
# Made from the Helm chart beside it by `cargo xtask package kubernetes`.
apiVersion: v1
kind: Namespace
metadata:
  name: dataflux-probe
  labels:
    # hostNetwork and hostPath are reserved to this level.
    pod-security.kubernetes.io/enforce: privileged
";

/// Values that reach what the defaults leave out.
const OTHER_VALUES: [&str; 5] = [
    "secretName=kafka",
    "image.tag=test",
    "imagePullSecrets[0].name=registry",
    "podLabels.team=platform",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=a,\
     affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Exists",
];

pub(super) fn main(check: bool) -> anyhow::Result<()> {
    let helm = helm()?;
    let chart = workspace::root().join(CHART);
    command::run(Command::new(&helm).args(["lint", "--strict"]).arg(&chart))?;
    let plain = HEAD.to_owned() + &plain(&render(&helm, &chart, &[])?);
    let path = workspace::root().join(PLAIN);
    let old = fs::read_to_string(&path).unwrap_or_default();
    if old != plain {
        if check {
            bail!("out of date: {PLAIN}; run `cargo xtask package kubernetes`");
        }
        say(format_args!("writing {PLAIN}"));
        fs::write(&path, &plain).with_context(|| format!("cannot write {PLAIN}"))?;
    }
    if render(&helm, &chart, &["healthPort=1"]).is_ok() {
        bail!("the chart takes a healthPort that its config does not have");
    }
    let other = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(other.path(), render(&helm, &chart, &OTHER_VALUES)?)?;
    let validate = validator()?;
    for version in VERSIONS {
        command::run(
            Command::new(&validate)
                .args(["--strict", "--kubernetes-version", version])
                .arg(&path)
                .arg(other.path()),
        )?;
    }
    Ok(())
}

fn render(helm: &Path, chart: &Path, values: &[&str]) -> anyhow::Result<String> {
    let mut template = Command::new(helm);
    template
        .args(["template", "dataflux-probe"])
        .arg(chart)
        .args(["--namespace", "dataflux-probe"]);
    for value in values {
        template.args(["--set", value]);
    }
    command::read(&mut template)
}

/// Without what only speaks of Helm.
fn plain(rendered: &str) -> String {
    let speaks_of_helm = |line: &&str| {
        line.starts_with("# Source: ") || line.contains("app.kubernetes.io/managed-by: ")
    };
    let lines = rendered.lines().filter(|line| !speaks_of_helm(line));
    lines
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// Helm for this workspace alone, by Go.
fn helm() -> anyhow::Result<PathBuf> {
    let folder = workspace::tools().join("bin");
    let helm = folder.join("helm");
    let (module, version) = HELM;
    if helm.is_file() {
        return Ok(helm);
    }
    // Go's own archive unpacks to a place that is on few paths.
    let usual = Path::new("/usr/local/go/bin/go");
    let usual = usual.is_file().then(|| usual.to_owned());
    let Some(go) = command::find("go").or(usual) else {
        bail!("helm is built by Go, which is not here");
    };
    say(format_args!(
        "installing helm {version} into {} (a few minutes)",
        folder.display()
    ));
    command::run(
        Command::new(go)
            .args(["install", &format!("{module}@{version}")])
            .env("GOBIN", &folder),
    )?;
    Ok(helm)
}

fn validator() -> anyhow::Result<PathBuf> {
    python_tool(VALIDATE)
}

/// A program that a Python package brings, in an environment of this workspace alone.
pub(super) fn python_tool((package, version): (&str, &str)) -> anyhow::Result<PathBuf> {
    let environment = workspace::tools().join(format!("{package}-{version}"));
    let program = environment
        .join("bin")
        .join(package.trim_end_matches("-bin"));
    if program.is_file() {
        return Ok(program);
    }
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    command::run(Command::new(python).args(["-m", "venv"]).arg(&environment))?;
    command::run(Command::new(environment.join("bin/pip")).args([
        "install",
        "--quiet",
        &format!("{package}=={version}"),
    ]))?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_manifest_does_not_speak_of_helm() {
        let rendered =
            "---\n# Source: a/b.yaml\nkind: A\n    app.kubernetes.io/managed-by: Helm\n  b: c  \n";
        assert_eq!(plain(rendered), "---\nkind: A\n  b: c\n");
    }
}
