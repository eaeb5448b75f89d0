//! What many numbers come down to.

/// The number below which this share of them is; NaN of none.
pub fn quantile(numbers: &[f64], share: f64) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    let last = numbers.len().saturating_sub(1);
    numbers.get(((numbers.len() as f64 * share) as usize).min(last)).copied().unwrap_or(f64::NAN)
}

pub fn median(numbers: &[f64]) -> f64 {
    quantile(numbers, 0.5)
}

/// About three digits that say something.
pub fn digits(number: f64) -> String {
    match number.abs() {
        _ if number.is_nan() => "-".to_owned(),
        _ if number == number.trunc() => format!("{number:.0}"),
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        1.0.. => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}
