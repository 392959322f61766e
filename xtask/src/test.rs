//! test
use anyhow::Result;
pub(crate) fn run(_filter: Option<&str>) -> Result<()> { Ok(()) }
pub(crate) fn soak(_rounds: u32, _filter: Option<&str>) -> Result<()> { Ok(()) }
