//! Dates and times as they stand in traces and logs, to microseconds since the Unix epoch.

/// Microseconds of `2024-11-15 16:57:50`, `2024-11-15T16:57:50.123Z` or with an offset such as `+02:00`; no offset means
/// UTC.
pub fn parse_iso(text: &str) -> Option<u64> {
    let (date, time) = text.split_at_checked(10)?;
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let time = time.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = time.split_at_checked(8)?;
    let digits = rest.strip_prefix('.').map_or(0, |fraction| fraction.chars().take_while(char::is_ascii_digit).count());
    let (fraction, zone) = if digits > 0 { rest.split_at(digits + 1) } else { ("", rest) };
    let fraction_us = fraction_us(fraction.trim_start_matches('.'))?;
    let offset_s = zone_offset_s(zone.trim())?;
    assemble(year, month, day, clock_s(clock)?, offset_s, fraction_us)
}

/// Microseconds of `10/Oct/2000:13:55:36 -0700`, the time in access logs.
pub fn parse_log(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(':')?;
    let mut parts = date.split('/');
    let day = number(parts.next()?, 2)?;
    let month = parts.next()?;
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = 1 + MONTHS.iter().position(|known| *known == month)? as u64;
    let year = number(parts.next()?, 4)?;
    let (clock, zone) = rest.split_at_checked(8)?;
    assemble(year, month, day, clock_s(clock)?, zone_offset_s(zone.trim())?, 0)
}

fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn clock_s(clock: &str) -> Option<u64> {
    let mut parts = clock.split(':');
    let (hour, minute, second) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    // A leap second is written as 60.
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3_600 + minute * 60 + second)
}

fn fraction_us(digits: &str) -> Option<u64> {
    let padded: String = digits.chars().chain(std::iter::repeat('0')).take(6).collect();
    padded.parse().ok()
}

fn zone_offset_s(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") || zone == "UTC" {
        return Some(0);
    }
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = zone[1..].replace(':', "");
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = if minutes.is_empty() { 0 } else { number(minutes, 2)? };
    Some(sign * (number(hours, 2)? * 3_600 + minutes * 60) as i64)
}

fn assemble(year: u64, month: u64, day: u64, clock_s: u64, offset_s: i64, fraction_us: u64) -> Option<u64> {
    if !(1970..3000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_since_epoch(year as i64, month as i64, day as i64);
    let seconds = days * 86_400 + clock_s as i64 - offset_s;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(fraction_us)
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar (Hinnant's `days_from_civil`).
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        assert_eq!(parse_iso("1970-01-01 00:00:01"), Some(1_000_000));
        assert_eq!(parse_iso("2024-11-15T16:57:50.25Z"), Some(1_731_689_870_250_000));
        assert_eq!(parse_iso("2024-11-15T18:57:50+02:00"), Some(1_731_689_870_000_000));
        assert_eq!(parse_log("10/Oct/2000:13:55:36 -0700"), Some(971_211_336_000_000));
        assert_eq!(parse_iso("2024-02-30"), None);
        assert_eq!(parse_iso("yesterday, at noon"), None);
        assert_eq!(parse_log("10/Foo/2000:13:55:36 -0700"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (parse_iso(&text), parse_log(&text));
        }
    }
}
