//! In what kind of virtual machine the host runs, in the words of systemd-detect-virt(1).

use std::{fs, path::Path};

use crate::{
    host_file::{first_line, text},
    metadata::dmi::Dmi,
};

/// What the processor says of a hypervisor under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hypervisor {
    /// This architecture's processors do not tell.
    #[cfg_attr(
        all(target_arch = "x86_64", not(test)),
        expect(dead_code, reason = "those of x86_64 do")
    )]
    Untold,
    /// There is none.
    Absent,
    /// There is one that calls itself this.
    Named([u8; 12]),
}

/// Asks the processor by CPUID: bit 31 of ECX in leaf 1 is for hypervisors, and their leaf 0x4000_0000 has a name.
#[cfg(target_arch = "x86_64")]
pub(super) fn hypervisor() -> Hypervisor {
    use std::arch::x86_64::__cpuid;
    if __cpuid(1).ecx & 1 << 31 == 0 {
        return Hypervisor::Absent;
    }
    let leaf = __cpuid(0x4000_0000);
    let mut name = [0; 12];
    for (part, register) in name.chunks_exact_mut(4).zip([leaf.ebx, leaf.ecx, leaf.edx]) {
        part.copy_from_slice(&register.to_le_bytes());
    }
    Hypervisor::Named(name)
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn hypervisor() -> Hypervisor {
    Hypervisor::Untold
}

/// Names of hypervisors by CPUID.
const NAMED: [(&[u8; 12], &str); 12] = [
    (b"XenVMMXenVMM", "xen"),
    (b"KVMKVMKVM\0\0\0", "kvm"),
    (b"Linux KVM Hv", "kvm"),
    (b"TCGTCGTCGTCG", "qemu"),
    (b"VMwareVMware", "vmware"),
    (b"Microsoft Hv", "microsoft"),
    (b"bhyve bhyve ", "bhyve"),
    (b"QNXQVMBSQG\0\0", "qnx"),
    (b"ACRNACRNACRN", "acrn"),
    (b"SRESRESRESRE", "sre"),
    (b"Apple VZ\0\0\0\0", "apple"),
    (b" lrpepyh vr\0", "parallels"),
];

/// What stands at the beginning of a string of DMI, and which hypervisor writes it.
const WRITTEN: [(&str, &str); 18] = [
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("KubeVirt", "kvm"),
    ("Amazon EC2", "amazon"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "oracle"),
    ("VirtualBox", "oracle"),
    ("Oracle Corporation", "oracle"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Hyper-V", "microsoft"),
    ("Apple Virtualization", "apple"),
    ("Google Compute Engine", "google"),
    ("Nutanix", "kvm"),
];

/// What DMI says is more exact than what the processor does for those, which stand on KVM or pass for Hyper-V.
const MORE_EXACT: [&str; 5] = ["oracle", "xen", "amazon", "parallels", "google"];

/// The kind of virtual machine, `none` on a machine of metal, or nothing where nothing says either.
pub(super) fn kind(
    proc: &Path,
    sys: &Path,
    dmi: &Dmi,
    hypervisor: Hypervisor,
) -> Option<&'static str> {
    let by_dmi = WRITTEN
        .iter()
        .find(|(prefix, _)| dmi.names(prefix))
        .map(|&(_, kind)| kind);
    if let Some(kind) = by_dmi.filter(|kind| MORE_EXACT.contains(kind))
        && hypervisor != Hypervisor::Absent
    {
        return Some(kind);
    }
    if is_user_mode(proc) {
        return Some("uml");
    }
    let platform = first_line(&sys.join("hypervisor/type"));
    if platform.as_deref() == Some("xen") {
        return Some(if rules_xen(proc) { "none" } else { "xen" });
    }
    match hypervisor {
        // The same machine is sold with and without a hypervisor, with the same strings.
        Hypervisor::Absent => Some("none"),
        Hypervisor::Named(name) => {
            let named = NAMED.iter().find(|(known, _)| **known == name);
            let by_name = named.map(|&(_, kind)| kind);
            Some(by_name.or(by_dmi).unwrap_or("vm-other"))
        }
        Hypervisor::Untold => by_dmi
            .or_else(|| by_device_tree(proc))
            .or_else(|| by_system_information(proc)),
    }
}

fn is_user_mode(proc: &Path) -> bool {
    let cpuinfo = text(&proc.join("cpuinfo")).unwrap_or_default();
    let vendor = cpuinfo.lines().find(|line| line.starts_with("vendor_id"));
    vendor.is_some_and(|line| line.ends_with(": User Mode Linux"))
}

/// The first domain of Xen has the machine.
fn rules_xen(proc: &Path) -> bool {
    let capabilities = text(&proc.join("xen/capabilities"));
    capabilities.is_some_and(|text| text.contains("control_d"))
}

/// Firmware of Arm and others describes the hypervisor.
fn by_device_tree(proc: &Path) -> Option<&'static str> {
    let node = proc.join("device-tree/hypervisor/compatible");
    let compatible = fs::read(node).ok()?;
    let is = |name: &[u8]| compatible.starts_with(name);
    if is(b"linux,kvm") {
        Some("kvm")
    } else if is(b"xen") {
        Some("xen")
    } else if is(b"vmware") {
        Some("vmware")
    } else {
        Some("vm-other")
    }
}

/// Mainframes say it in `/proc/sysinfo`.
fn by_system_information(proc: &Path) -> Option<&'static str> {
    let text = text(&proc.join("sysinfo"))?;
    let line = text
        .lines()
        .find(|line| line.starts_with("VM00 Control Program:"))?;
    Some(if line.contains("z/VM") { "zvm" } else { "kvm" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dmi(sys_vendor: &str, product_name: &str) -> Dmi {
        Dmi {
            sys_vendor: Some(sys_vendor.to_owned()),
            product_name: Some(product_name.to_owned()),
            ..Dmi::default()
        }
    }

    fn of(dmi: &Dmi, hypervisor: Hypervisor) -> Option<&'static str> {
        let nowhere = Path::new("/nowhere");
        kind(nowhere, nowhere, dmi, hypervisor)
    }

    const KVM: Hypervisor = Hypervisor::Named(*b"KVMKVMKVM\0\0\0");
    const HYPER_V: Hypervisor = Hypervisor::Named(*b"Microsoft Hv");

    #[test]
    fn the_processor_says_it_and_firmware_where_it_knows_better() {
        for (dmi, hypervisor, expected) in [
            (Dmi::default(), KVM, "kvm"),
            (dmi("QEMU", "Standard PC"), KVM, "kvm"),
            (
                dmi("QEMU", "x"),
                Hypervisor::Named(*b"TCGTCGTCGTCG"),
                "qemu",
            ),
            (dmi("Amazon EC2", "m5.large"), KVM, "amazon"),
            (dmi("Google", "Google Compute Engine"), KVM, "google"),
            (dmi("innotek GmbH", "VirtualBox"), KVM, "oracle"),
            (
                dmi("Microsoft Corporation", "Virtual Machine"),
                HYPER_V,
                "microsoft",
            ),
            (dmi("Xen", "HVM domU"), HYPER_V, "xen"),
            (
                Dmi::default(),
                Hypervisor::Named(*b"something no"),
                "vm-other",
            ),
            (
                dmi("Bochs", "x"),
                Hypervisor::Named(*b"something no"),
                "bochs",
            ),
        ] {
            assert_eq!(of(&dmi, hypervisor), Some(expected), "{dmi:?}");
        }
    }

    #[test]
    fn a_machine_of_metal_is_one_whatever_its_vendor_sells() {
        let metal = Hypervisor::Absent;
        assert_eq!(of(&dmi("Amazon EC2", "m5.metal"), metal), Some("none"));
        assert_eq!(of(&dmi("Dell Inc.", "R640"), metal), Some("none"));
    }

    #[test]
    fn where_the_processor_does_not_tell_firmware_does_or_nobody() {
        let untold = Hypervisor::Untold;
        assert_eq!(of(&dmi("QEMU", "virt"), untold), Some("qemu"));
        assert_eq!(of(&dmi("Amazon EC2", "m6g.large"), untold), Some("amazon"));
        assert_eq!(of(&Dmi::default(), untold), None);
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let kind = || kind(folder.path(), folder.path(), &Dmi::default(), untold);
        write(
            "sysinfo",
            b"Type: 8561\nVM00 Control Program: z/VM    7.2.0\n",
        );
        assert_eq!(kind(), Some("zvm"));
        write("device-tree/hypervisor/compatible", b"linux,kvm\0");
        assert_eq!(kind(), Some("kvm"));
    }

    #[test]
    fn the_first_domain_of_xen_is_no_virtual_machine() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("hypervisor")).unwrap();
        fs::write(folder.path().join("hypervisor/type"), "xen\n").unwrap();
        let xen = Hypervisor::Named(*b"XenVMMXenVMM");
        let kind = || kind(folder.path(), folder.path(), &Dmi::default(), xen);
        assert_eq!(kind(), Some("xen"));
        fs::create_dir_all(folder.path().join("xen")).unwrap();
        fs::write(folder.path().join("xen/capabilities"), "control_d\n").unwrap();
        assert_eq!(kind(), Some("none"));
    }
}
