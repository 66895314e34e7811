use crate::output::Answer;
pub fn run(_json: bool) -> anyhow::Result<Answer> {
    anyhow::bail!("not yet")
}
