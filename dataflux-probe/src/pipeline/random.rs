//! Random numbers from the kernel, for stream ids and jitter.

use anyhow::Context as _;
use rustix::rand::{GetRandomFlags, getrandom};

/// 64 random bits.
pub(super) fn bits() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty()).context("getrandom")?;
    anyhow::ensure!(filled == bytes.len(), "getrandom gave {filled} bytes of 8");
    Ok(u64::from_ne_bytes(bytes))
}
