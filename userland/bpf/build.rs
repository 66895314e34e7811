//! Embeds the BPF object, if it has been built.

use std::{
    env,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo:rerun-if-env-changed=PIDLIST_BPF_OBJECT");
    println!("cargo:rustc-check-cfg=cfg(embedded_object)");
    let object = match env::var_os("PIDLIST_BPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => workspace().join("target/bpf/pidlist.bpf.o"),
    };
    // Cargo runs this script again when the file appears, too.
    println!("cargo:rerun-if-changed={}", object.display());
    if object.is_file() {
        println!("cargo:rustc-cfg=embedded_object");
        println!(
            "cargo:rustc-env=PIDLIST_EMBEDDED_OBJECT={}",
            object.display()
        );
    }
}

fn workspace() -> PathBuf {
    let crate_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    crate_dir
        .ancestors()
        .find(|dir| dir.join("Cargo.lock").is_file())
        .unwrap_or(Path::new("."))
        .to_path_buf()
}
