//! What compiles, and what the compiler says where it does not.

#[test]
fn every_shape_compiles() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}

/// `TRYBUILD=overwrite cargo test --test ui` rewrites the expected words: read them as a user would.
#[test]
fn every_mistake_is_named() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}
