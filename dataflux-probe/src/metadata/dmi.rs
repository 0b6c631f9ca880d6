//! What the firmware says the machine is: the strings of DMI that sysfs shows to everybody.

use std::path::Path;

use crate::host_file::first_line;

/// The strings of `/sys/class/dmi/id`; `None` where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Dmi {
    pub(super) sys_vendor: Option<String>,
    pub(super) product_name: Option<String>,
    pub(super) product_version: Option<String>,
    pub(super) board_vendor: Option<String>,
    pub(super) bios_vendor: Option<String>,
    pub(super) bios_version: Option<String>,
    pub(super) chassis_type: Option<String>,
    pub(super) chassis_asset_tag: Option<String>,
}

impl Dmi {
    /// `sys` is the host's `/sys`. Machines without DMI have none of it.
    pub(super) fn read(sys: &Path) -> Self {
        let folder = sys.join("class/dmi/id");
        let text = |name: &str| first_line(&folder.join(name));
        Self {
            sys_vendor: text("sys_vendor"),
            product_name: text("product_name"),
            product_version: text("product_version"),
            board_vendor: text("board_vendor"),
            bios_vendor: text("bios_vendor"),
            bios_version: text("bios_version"),
            chassis_type: text("chassis_type"),
            chassis_asset_tag: text("chassis_asset_tag"),
        }
    }

    /// Whether one of the strings that hypervisors write their names into begins with this.
    pub(super) fn names(&self, prefix: &str) -> bool {
        [
            &self.product_name,
            &self.sys_vendor,
            &self.board_vendor,
            &self.bios_vendor,
            &self.product_version,
        ]
        .into_iter()
        .flatten()
        .any(|text| text.starts_with(prefix))
    }

    /// The kind of machine, in the words of hostnamectl(1), by its type of enclosure (SMBIOS, table 17).
    pub(super) fn chassis(&self) -> Option<&'static str> {
        let number: u8 = self.chassis_type.as_ref()?.parse().ok()?;
        Some(match number {
            0x03 | 0x04 | 0x06 | 0x07 | 0x0d | 0x23 | 0x24 => "desktop",
            0x08..=0x0a | 0x0e => "laptop",
            0x0b => "handset",
            0x11 | 0x17 | 0x1c | 0x1d => "server",
            0x1e => "tablet",
            0x1f | 0x20 => "convertible",
            0x21 | 0x22 => "embedded",
            _ => return None,
        })
    }
}
