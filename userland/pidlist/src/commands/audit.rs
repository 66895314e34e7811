use crate::cli::Audit;
use crate::output::Answer;
pub fn run(_args: &Audit, _json: bool) -> anyhow::Result<Answer> {
    anyhow::bail!("not yet")
}
