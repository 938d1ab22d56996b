//! Asks the linker for a program of which little stays resident.
//!
//! Packed relocations, where the C library of this machine can read them, are 0.4 MB less to read at every start. What was built so
//! does not start where the C library is older, so who builds for other machines says `TOLLGATE_PORTABLE=1`.
//!
//! Functions that run early lie side by side in a release: 1.5 MB less of what does not run comes with them.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=TOLLGATE_PORTABLE");
    let is = |name, value| env::var(name).is_ok_and(|it| it == value);
    let glibc = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    let here = env::var("HOST") == env::var("TARGET");
    // Built for another machine: who knows which it has.
    let here = here && !is("TOLLGATE_PORTABLE", "1");
    if glibc && here && version() >= Some(PACKED) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    println!("cargo::rerun-if-changed={ORDER}");
    // GNU ld and lld read it, the linkers that have to be asked for do not.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let usual = !["mold", "gold", "wild"].iter().any(|it| flags.contains(it));
    if is("CARGO_CFG_TARGET_OS", "linux") && is("PROFILE", "release") && usual {
        // A copy: cargo keeps this line for a checkout that has moved, and of all paths it moves that of `OUT_DIR` only.
        let copy = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("link_order.ld");
        if let Err(error) = fs::copy(ORDER, &copy) {
            println!("cargo::error={ORDER} could not be copied: {error}");
        }
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", copy.display());
    }
}

/// That of the C library here; `glibc 2.36`.
fn version() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let text = String::from_utf8(told.ok()?.stdout).ok()?;
    let mut numbers = text.trim().strip_prefix("glibc ")?.split('.');
    let mut next = || numbers.next()?.parse().ok();
    let version = (next()?, next()?);
    Some(version)
}

/// Which functions run early; `.ci/link_order` writes it.
const ORDER: &str = "src/link_order.ld";

/// The first that reads `DT_RELR`: its release notes of 2022-08-01.
const PACKED: (u32, u32) = (2, 36);
