//! `getrandom`, the crate, looks the C library's function of that name up while the program runs. Only what is exported
//! is found so.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if cfg!(target_os = "linux") {
        println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
    }
}
