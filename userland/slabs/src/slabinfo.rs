//! The text of `/proc/slabinfo`, version 2.

use crate::Cache;

/// Where the text is not as expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {expected} expected, found `{found}`")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// What should be there.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}

/// Parses the whole file.
///
/// # Errors
///
/// The first line that is not understood.
pub fn parse(text: &str) -> Result<Vec<Cache>, ParseError> {
    let mut caches = Vec::new();
    let mut lines = text.lines().zip(1..);
    match lines.next() {
        Some((head, _)) if head.starts_with("slabinfo - version: 2.") => {}
        other => {
            return Err(ParseError {
                line: 1,
                expected: "`slabinfo - version: 2.`",
                found: other.map_or(String::new(), |(line, _)| line.to_owned()),
            });
        }
    }
    for (text, line) in lines {
        if !text.starts_with('#') && !text.trim().is_empty() {
            caches.push(parse_line(text, line)?);
        }
    }
    Ok(caches)
}

/// `name active_objs num_objs objsize objperslab pagesperslab : tunables … : slabdata active num …`
fn parse_line(text: &str, line: usize) -> Result<Cache, ParseError> {
    let mut parts = text.split(" : ");
    let mut words = parts.next().unwrap_or_default().split_whitespace();
    let mut slabdata = parts
        .find_map(|part| part.trim_start().strip_prefix("slabdata"))
        .ok_or_else(|| ParseError {
            line,
            expected: "`slabdata`",
            found: text.to_owned(),
        })?
        .split_whitespace();
    let name = words.next().unwrap_or_default().to_owned();
    let active_objects = number(words.next(), line, "the number of active objects")?;
    let objects = number(words.next(), line, "the number of objects")?;
    let size = small(words.next(), line, "the size of an object")?;
    let objects_per_slab = small(words.next(), line, "the objects in a slab")?;
    let pages_per_slab = small(words.next(), line, "the pages in a slab")?;
    number(slabdata.next(), line, "the number of active slabs")?;
    let slabs = number(slabdata.next(), line, "the number of slabs")?;
    Ok(Cache {
        name,
        size,
        objects_per_slab,
        pages_per_slab,
        slabs: Some(slabs),
        objects: Some(objects),
        active_objects: Some(active_objects),
        ..Cache::default()
    })
}

fn number(word: Option<&str>, line: usize, expected: &'static str) -> Result<u64, ParseError> {
    let found = word.unwrap_or_default();
    found.parse().map_err(|_| ParseError {
        line,
        expected,
        found: found.to_owned(),
    })
}

fn small(word: Option<&str>, line: usize, expected: &'static str) -> Result<u32, ParseError> {
    number(word, line, expected)?
        .try_into()
        .map_err(|_| ParseError {
            line,
            expected,
            found: word.unwrap_or_default().to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
task_struct          148    160   3264   10    8 : tunables    0    0    0 : slabdata     16     16      0
kmalloc-8k            34     36   8192    4    8 : tunables    0    0    0 : slabdata      9      9      0
";

    #[test]
    fn reads_each_column() {
        let caches = parse(TEXT).unwrap();
        assert_eq!(caches.len(), 2);
        let tasks = &caches[0];
        assert_eq!(tasks.name, "task_struct");
        assert_eq!(
            (tasks.active_objects, tasks.objects),
            (Some(148), Some(160))
        );
        assert_eq!(
            (tasks.size, tasks.objects_per_slab, tasks.pages_per_slab),
            (3264, 10, 8)
        );
        assert_eq!(tasks.slabs, Some(16));
        assert_eq!(tasks.object_size, None);
    }

    #[test]
    fn an_error_names_the_line() {
        let text = TEXT.replace("8192", "many");
        let error = parse(&text).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 4: the size of an object expected, found `many`"
        );
        let cut = &TEXT[..TEXT.len() - 20];
        assert_eq!(parse(cut).unwrap_err().line, 4);
        assert_eq!(parse("").unwrap_err().line, 1);
        assert_eq!(parse("slabinfo - version: 1.2\n").unwrap_err().line, 1);
        assert_eq!(
            parse(&TEXT.replace("slabdata", "what")).unwrap_err().line,
            3
        );
    }

    #[test]
    fn a_number_too_large_is_an_error() {
        let text = TEXT.replace("8192", "99999999999");
        assert_eq!(parse(&text).unwrap_err().line, 4);
    }
}
