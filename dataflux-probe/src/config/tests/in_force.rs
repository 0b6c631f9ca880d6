//! What is in force is shown, means the same, and tells whether a section has changed.

use super::*;

fn shown(config: &Config) -> String {
    let sections: Vec<_> = config.sections.iter().map(Effective::shown).collect();
    sections.join("\n")
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

const FULL: &str = "[probe]\ninterval='4s'\nstate_dir='/s'\ndrain='90s'\n[metadata.host]\n\
    [metrics.cpu]\ninterval='2s'\nlabels={ b='$${x}', a='\"\\' }\n[metrics.disk]\nenabled=false\npath='$$x$'\n\
    [output.a]\nformatter='json'\nlogger='file'\nzeros='keep'\nqueue_bytes=1048577\nfilters=['name = x$']\n\
    filters=[]\n[output.a.file]\npath=\"a\\tb\\u007f\"\n[output.b]\nformatter='json'\nlogger='file'\n";

#[test]
fn what_is_shown_means_the_same() {
    for text in [OUTPUT, &FULL.replace("filters=['name = x$']\n", "")] {
        let config = good(text);
        let again = good(&shown(&config));
        assert_eq!(shown(&again), shown(&config));
        assert_eq!(again.interval, config.interval);
        assert_eq!(
            (again.drain, &again.state_dir),
            (config.drain, &config.state_dir)
        );
        assert_eq!(again.context.roots, config.context.roots);
        let readers = |config: &Config| -> Vec<_> {
            let readers = config.readers.iter();
            readers
                .map(|reader| {
                    let labels = reader.labels.clone();
                    (
                        reader.name,
                        reader.interval,
                        labels,
                        reader.selection.clone(),
                    )
                })
                .collect()
        };
        assert_eq!(readers(&again), readers(&config));
        for (again, output) in again.outputs.iter().zip(&config.outputs) {
            assert_eq!(again.name, output.name);
            assert_eq!(again.shape, output.shape);
            assert_eq!(again.queue_bytes, output.queue_bytes);
            assert_eq!(
                (again.entities, again.when_full),
                (output.entities, output.when_full)
            );
            assert_eq!(again.logger.claims(), output.logger.claims());
        }
    }
}

#[test]
fn defaults_are_shown() {
    let shown = shown(&good(
        "[metrics.cpu]\n[metrics.disk]\ninterval='20s'\n[output.a]\nformatter='json'\nlogger='file'",
    ));
    let expected = "[probe]\ndrain = \"5s\"\ninterval = \"10s\"\nproc = \"/proc\"\nroot = \"/\"\nsys = \"/sys\"\n\n\
        [metrics.cpu]\nenabled = true\ninterval = \"10s\"\n\n\
        [metrics.disk]\nenabled = true\ninterval = \"20s\"\n\n\
        [output.a]\nempty_labels = \"keep\"\nenabled = true\nentities = \"both\"\nenvelope = \"combined\"\n\
        formatter = \"json\"\nlogger = \"file\"\nqueue_bytes = \"16MiB\"\nwhen_full = \"coalesce\"\nzeros = \"drop\"\n";
    assert_eq!(
        shown,
        expected
            .replace("interval = \"20s\"", "interval = '20s'")
            .replace("'20s'", "\"20s\"")
    );
}

#[test]
fn a_section_that_came_to_the_same_is_the_same() {
    let sections = |text: &str| good(text).sections;
    let one = sections(
        "[metrics.cpu]\ninterval = '2s'\n[metrics.disk]\n[output.a]\nformatter='json'\nlogger='file'\n",
    );
    let other = sections(
        "# Another text.\n[output.a]\nlogger=\"file\"\nformatter=\"json\"\n[metrics.disk]\ninterval='10s'\n[metrics]\ncpu.interval='${NONE:-2s}'\n",
    );
    let paths: Vec<_> = one.iter().map(Effective::path).collect();
    assert_eq!(paths, ["probe", "metrics.cpu", "metrics.disk", "output.a"]);
    for section in &one {
        let same = other.contains(section);
        assert_eq!(same, section.path() != "metrics.disk", "{section:?}");
    }
}

#[test]
fn the_hash_is_that_of_what_is_in_force_without_secrets() {
    let hash = |text: &str| good(text).context.config_hash;
    let plain = hash("[metrics.cpu]\n[output.a]\nformatter='json'\nlogger='file'");
    assert_eq!(
        plain,
        hash("[output.a]\nlogger='file' # a file\nformatter='json'\n[metrics.cpu]")
    );
    assert_ne!(
        plain,
        hash("[metrics.disk]\n[output.a]\nformatter='json'\nlogger='file'")
    );
    let secret = |password: &str| {
        hash(&format!(
            "[metrics.cpu]\nlabels.password='{password}'\n{OUTPUT}"
        ))
    };
    assert_eq!(secret("one"), secret("two"));
}
