//! Small words of generated code: they let the compiler infer what a macro can't name.

/// Calls `f` with these arguments, so that the types of its parameters are known.
pub fn build<A, K>(args: A, f: impl FnOnce(A) -> K) -> K {
    f(args)
}

/// Calls `f` with the value, so that the type of its parameter is known.
pub fn ask<V: ?Sized, R>(value: &V, f: impl FnOnce(&V) -> R) -> R {
    f(value)
}

/// The compiler's name of a type.
pub fn type_name<T: ?Sized>() -> &'static str {
    std::any::type_name::<T>()
}

/// The compiler's name of a value's type.
pub fn type_name_of<T: ?Sized>(_: &T) -> &'static str {
    std::any::type_name::<T>()
}
