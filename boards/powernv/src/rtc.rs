//! The machine's clock, in the words that OPAL has for a time (skiboot's `doc/opal-api/opal-rtc-read-3.rst`).

use realhpt::calendar;

/// Seconds since the beginning of 1970, from the date, whose digits are those of `yyyymmdd`, and the time of day, whose first
/// six are those of `hhmmss`. None: they say no time.
#[must_use]
pub fn seconds(date: u32, time: u64) -> Option<u64> {
    let [century, year, month, day] = date.to_be_bytes();
    let [hour, minute, second, ..] = time.to_be_bytes();
    calendar::seconds([
        100 * digits(century)? + digits(year)?,
        digits(month)?,
        digits(day)?,
        digits(hour)?,
        digits(minute)?,
        digits(second)?,
        0,
    ])
}

/// A number of two decimal digits, four bits each.
fn digits(byte: u8) -> Option<u32> {
    let (tens, ones) = (byte >> 4, byte & 0xf);
    (tens < 10 && ones < 10).then(|| 10 * u32::from(tens) + u32::from(ones))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_say_a_time() {
        for (date, time, expected) in [
            (0x1970_0101, 0, Some(0)),
            (0x2024_0229, 0x2359_5900_0000_0000, Some(1_709_251_199)),
            (0x2024_0229, 0x2359_5999_1234_5678, Some(1_709_251_199)),
            (0x2023_0229, 0, None),
            (0x2024_021a, 0, None),
            (0x2024_0220, 0x2460_0000_0000_0000, None),
            (0, 0, None),
            (u32::MAX, u64::MAX, None),
        ] {
            assert_eq!(seconds(date, time), expected, "{date:x} {time:x}");
        }
    }
}
