//! The program as `make bench` and a reader of its files see it.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pidlist-bench"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn an_unknown_area_is_refused_with_the_list() {
    let output = bench(&["pidset", "nope"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("'nope'") && text.contains("pidset, slabs, cache"),
        "{text}"
    );
}

#[test]
fn no_rounds_are_no_measurement() {
    assert_eq!(bench(&["--rounds", "0"]).status.code(), Some(2));
}

#[test]
fn only_what_was_asked_for_is_measured_and_left_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let output = bench(&[
        "cache",
        "--only",
        "cache.get",
        "--rounds",
        "2",
        "--dir",
        path,
    ]);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1);
    let json = std::fs::read(directory.path().join("cache.json")).unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let rows = rows.as_array().unwrap();
    assert!(
        rows.iter()
            .all(|row| row["name"].as_str().unwrap().starts_with("cache.get"))
    );
    // A debug build need not keep to the bounds; the exit code has to say so.
    let is_beyond = rows.iter().any(|row| row["verdict"] == "beyond");
    assert_eq!(
        output.status.code(),
        Some(i32::from(is_beyond)),
        "{output:?}"
    );
    let get = rows.iter().find(|row| row["name"] == "cache.get").unwrap();
    let ratio = get["ours"].as_f64().unwrap() / get["baseline"].as_f64().unwrap();
    // Reading JSON may round the last bit.
    assert!((get["ratio"].as_f64().unwrap() / ratio - 1.0).abs() < 1e-9);
    assert_eq!(get["runs"], 2);
    assert_eq!(
        (&get["unit"], &get["better"]),
        (&"ns".into(), &"lower".into())
    );
}
