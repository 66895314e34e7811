use crate::cli::Slabs;
use crate::output::Answer;
pub fn run(_args: &Slabs, _json: bool) -> anyhow::Result<Answer> {
    anyhow::bail!("not yet")
}
