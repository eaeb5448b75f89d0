//! All stores do alike.

mod support;

mod embedded {
    fn make() -> (cache_aside::Cache, ()) {
        (crate::support::embedded(), ())
    }
    crate::conformance!(make);
}

mod embedded_with_a_namespace {
    fn make() -> (cache_aside::Cache, ()) {
        (cache_aside::Cache::builder().namespace("shop").build().unwrap(), ())
    }
    crate::conformance!(make);
}
