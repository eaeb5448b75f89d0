//! Times in attributes: `"10m"`, `"250ms"`, `"1h30m"`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads numbers with units, the greatest unit first; the error says what to write.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("an empty duration: write a number and a unit, such as `\"10m\"`".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "`\"{text}\"` has no unit: write `\"{text}s\"`, or `{text}` without quotes for seconds"
        ));
    }
    let mut rest = text;
    let mut allowed = &UNITS[..];
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let number = take(&mut rest, |c| c.is_ascii_digit());
        let unit = take(&mut rest, |c| c.is_ascii_alphabetic());
        if number.is_empty() || unit.is_empty() {
            return Err(format!(
                "`\"{text}\"` is not a duration: write whole numbers with units, such as `\"1h30m\"` or `\"250ms\"`"
            ));
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!(
                "unknown unit `{unit}` in `\"{text}\"`; the units are `ms`, `s`, `m`, `h`, `d`"
            ));
        };
        let Some(place) = allowed.iter().position(|(name, _)| *name == unit) else {
            return Err(format!(
                "`{unit}` is out of place in `\"{text}\"`: each unit once, the greatest first, such as `\"1h30m\"`"
            ));
        };
        allowed = &allowed[place + 1..];
        millis = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*size))
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(|| format!("`\"{text}\"` is too long a time"))?;
    }
    Ok(Duration::from_millis(millis))
}

fn take<'a>(rest: &mut &'a str, fits: impl Fn(char) -> bool) -> &'a str {
    let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
    let (taken, left) = rest.split_at(end);
    *rest = left;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1m500ms", 60_500),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, says) in [
            ("", "an empty duration"),
            ("10", "`\"10s\"`, or `10` without quotes"),
            ("10 m", "whole numbers"),
            ("1.5h", "whole numbers"),
            ("m", "whole numbers"),
            ("-5s", "whole numbers"),
            ("10min", "unknown unit `min`"),
            ("30m1h", "`h` is out of place"),
            ("1s1s", "`s` is out of place"),
            ("99999999999999999999d", "too long"),
            ("ä", "whole numbers"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
