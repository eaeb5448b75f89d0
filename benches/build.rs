//! Writes down what was built with what.

fn main() {
    built::write_built_file().expect("OUT_DIR can be written");
}
