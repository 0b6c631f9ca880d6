//! The sensors of hardware monitoring chips, from `/sys/class/hwmon`, for the readers of one kind of them.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use crate::{
    host_file::{ValueFile, first_line},
    model::{Health, LabelValue, Snapshot, Status},
    raw_name::shown,
};

/// The labels of a sensor's series: the chip's driver, the device that it is on, and the sensor on it.
pub(super) const LABELS: &[&str] = &["chip", "device", "sensor"];

/// A kind of sensors.
pub(super) struct Kind {
    /// What its files begin with: `temp`.
    pub(super) prefix: &'static str,
    /// What the file with the value ends with, in order of preference: `input`.
    pub(super) values: &'static [&'static str],
}

/// The sensors of one kind. They are looked for again when chips come or go.
pub(super) struct Sensors {
    folder: PathBuf,
    kind: Kind,
    most: usize,
    /// The chips' folders at the last search; `None` for a new one.
    chips: Option<BTreeSet<String>>,
    found: Vec<Sensor>,
    /// How many more there were.
    left_out: usize,
}

struct Sensor {
    labels: [String; 3],
    value: ValueFile,
    /// Tells that what it measures is not connected; few have it.
    fault: Option<ValueFile>,
    /// The value that it must not reach; most have none.
    critical: Option<i64>,
}

/// One that gave a value.
pub(super) struct Reading {
    pub(super) labels: [LabelValue; 3],
    /// In the unit of its file, a thousandth or a millionth.
    pub(super) value: i64,
    pub(super) critical: Option<i64>,
}

impl Sensors {
    /// Looks at nothing yet. Takes so many at most.
    pub(super) fn new(sys: &Path, kind: Kind, most: usize) -> Self {
        Self {
            folder: sys.join("class/hwmon"),
            kind,
            most,
            chips: None,
            found: Vec::new(),
            left_out: 0,
        }
    }

    /// Reads all of them. One that has nothing to tell at the moment is left out; what is wrong is said in the snapshot.
    pub(super) fn read(&mut self, out: &mut Snapshot) -> Vec<Reading> {
        let chips = entries(&self.folder);
        let is_new = self.chips.as_ref() != Some(&chips);
        if is_new {
            self.search(chips);
        }
        let mut readings = Vec::with_capacity(self.found.len());
        for sensor in &mut self.found {
            match sensor.read() {
                Ok(Some(reading)) => readings.push(reading),
                Ok(None) => {}
                // Its chip is gone, and another one may have its place already.
                Err(Errno::NODEV | Errno::NOENT | Errno::NXIO) if !is_new => self.chips = None,
                Err(error) => {
                    let what = format!("{}: {error}", sensor.value.path().display());
                    worsen(out, Status::Degraded, &what);
                }
            }
        }
        if self.left_out > 0 {
            let what = format!("{} sensors beyond max_sensors", self.left_out);
            worsen(out, Status::Degraded, &what);
        }
        readings
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn search(&mut self, chips: BTreeSet<String>) {
        self.found.clear();
        let mut taken = BTreeSet::new();
        for chip in &chips {
            let mut sensors = sensors(&self.folder.join(chip), chip, &self.kind);
            for sensor in &mut sensors {
                // Two of a chip may be called the same.
                if !taken.insert(sensor.labels.clone()) {
                    let path = sensor.value.path().file_name().unwrap_or_default();
                    let [.., name] = &mut sensor.labels;
                    *name = format!("{name} ({})", path.display());
                }
            }
            self.found.append(&mut sensors);
        }
        self.left_out = self.found.len().saturating_sub(self.most);
        self.found.truncate(self.most);
        self.chips = Some(chips);
    }
}

impl Sensor {
    /// `None` while it has no value.
    fn read(&mut self) -> Result<Option<Reading>, Errno> {
        if let Some(fault) = &mut self.fault
            && matches!(fault.numbers(), Ok([fault]) if fault != 0)
        {
            return Ok(None);
        }
        match self.value.numbers() {
            Ok([value]) => Ok(Some(Reading {
                labels: self.labels.each_ref().map(|label| label.clone().into()),
                value,
                critical: self.critical,
            })),
            Err(error) => match errno(&error) {
                // The device sleeps, is busy with its first measurement, or is switched off.
                Errno::NODATA | Errno::AGAIN => Ok(None),
                errno => Err(errno),
            },
        }
    }
}

/// What is no number is as wrong as one that cannot be read.
fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}

/// Says that something of a reader is wrong, keeping what was said first.
pub(super) fn worsen(out: &mut Snapshot, status: Status, what: &str) {
    if out.health.status < status {
        out.health = Health::new(status, what);
    }
}

/// The names in a folder, sorted; none if it is not there.
pub(super) fn entries(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The sensors of one chip, in the order of their files' names.
fn sensors(folder: &Path, chip: &str, kind: &Kind) -> Vec<Sensor> {
    let driver = first_line(&folder.join("name")).unwrap_or_default();
    let device = fs::read_link(folder.join("device")).ok();
    let device = device.as_deref().and_then(Path::file_name);
    // Numbers of chips change from boot to boot; names of devices seldom do.
    let device = device.map_or_else(
        || chip.to_owned(),
        |name| shown(name.as_bytes()).into_owned(),
    );
    let files = entries(folder);
    let numbers: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.strip_prefix(kind.prefix)?.split_once('_'))
        .map(|(number, _)| number)
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    let sensor = |number: &&str| {
        let name = format!("{}{number}", kind.prefix);
        let value = kind.values.iter().map(|value| format!("{name}_{value}"));
        let value = value.into_iter().find(|file| files.contains(file))?;
        let label = first_line(&folder.join(format!("{name}_label")));
        let critical = first_line(&folder.join(format!("{name}_crit")));
        let fault = format!("{name}_fault");
        let labels = [
            driver.clone(),
            device.clone(),
            label.unwrap_or(name.clone()),
        ];
        Some(Sensor {
            labels,
            value: ValueFile::new(folder.join(value)),
            fault: files
                .contains(&fault)
                .then(|| ValueFile::new(folder.join(fault))),
            critical: critical.and_then(|critical| critical.parse().ok()),
        })
    };
    numbers.iter().filter_map(sensor).collect()
}
