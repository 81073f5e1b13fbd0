//! The Gregorian calendar: times in seconds since the beginning of 1970, and the words that say them.
//!
//! The words are those of RTAS's get-time-of-day (LoPAR 7.3): year, month, day, hour, minute, second, nanosecond.
//! Nothing knows of leap seconds, as the clocks that tell the time do not.

use core::time::Duration;

/// How many words say a time.
pub const WORDS: usize = 7;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Days of 400 years of the Gregorian calendar, after which it repeats itself.
const ERA: u64 = 146_097;
/// Days from 1 March of the year 0, with which an era begins, to 1 January 1970.
const EPOCH: u64 = 719_468;
/// The last year that can be said.
const LAST_YEAR: u32 = 9999;

/// Year, month, day, hour, minute, second and nanosecond of a time in seconds since 1970.
#[must_use]
pub fn date(seconds: u64, nanoseconds: u32) -> [u32; WORDS] {
    let (year, month, day) = civil(seconds / DAY);
    let time = seconds % DAY;
    let [hour, minute, second] = [time / HOUR, time % HOUR / MINUTE, time % MINUTE];
    let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
    [
        small(year),
        small(month),
        small(day),
        small(hour),
        small(minute),
        small(second),
        nanoseconds,
    ]
}

/// The date of a day, counted from 1970. Years begin in March, so that the day that some of them lack is their last.
const fn civil(day: u64) -> (u64, u64, u64) {
    let since = day + EPOCH;
    let (era, of_era) = (since / ERA, since % ERA);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months from March on: 153 days for five of them, wherever one begins.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (400 * era + year + next, month, day)
}

/// The time in seconds since 1970 that the words say, if there is such a time.
#[must_use]
pub fn seconds([year, month, day, hour, minute, second, nanosecond]: [u32; WORDS]) -> Option<u64> {
    let valid = (1970..=LAST_YEAR).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && u128::from(nanosecond) < Duration::from_secs(1).as_nanos();
    if !valid {
        return None;
    }
    let [year, month, day] = [year, month, day].map(u64::from);
    let since_march = (month + 9) % 12;
    let years = year - u64::from(month <= 2);
    let of_year = (153 * since_march + 2) / 5 + day - 1;
    let of_eras = 365 * years + years / 4 - years / 100 + years / 400;
    let number = of_eras + of_year - EPOCH;
    // 31 April is 1 May.
    (civil(number) == (year, month, day)).then(|| {
        DAY * number + HOUR * u64::from(hour) + MINUTE * u64::from(minute) + u64::from(second)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn known_times_have_their_dates() {
        for (time, words) in [
            (0, [1970, 1, 1, 0, 0, 0]),
            (951_782_399, [2000, 2, 28, 23, 59, 59]),
            (951_782_400, [2000, 2, 29, 0, 0, 0]),
            (1_709_251_199, [2024, 2, 29, 23, 59, 59]),
            (4_107_542_400, [2100, 3, 1, 0, 0, 0]),
            (253_402_300_799, [9999, 12, 31, 23, 59, 59]),
        ] {
            let [year, month, day, hour, minute, second] = words;
            let words = [year, month, day, hour, minute, second, 5];
            assert_eq!(date(time, 5), words);
            assert_eq!(seconds(words), Some(time));
        }
    }

    #[test]
    fn every_day_follows_another() {
        let mut before = civil(0);
        for number in 1..ERA {
            let day = civil(number);
            let (year, month, first) = before;
            let next = [
                (year, month, first + 1),
                (year, month + 1, 1),
                (year + 1, 1, 1),
            ];
            assert!(next.contains(&day), "{before:?} {day:?}");
            let words = [day.0, day.1, day.2].map(|word| u32::try_from(word).unwrap());
            let [year, month, first] = words;
            assert_eq!(
                seconds([year, month, first, 0, 0, 0, 0]),
                Some(DAY * number)
            );
            before = day;
        }
    }

    #[test]
    fn a_date_that_does_not_exist_is_none() {
        for words in [
            [1969, 12, 31, 0, 0, 0, 0],
            [10_000, 1, 1, 0, 0, 0, 0],
            [2023, 2, 29, 0, 0, 0, 0],
            [2100, 2, 29, 0, 0, 0, 0],
            [2024, 4, 31, 0, 0, 0, 0],
            [2024, 0, 1, 0, 0, 0, 0],
            [2024, 13, 1, 0, 0, 0, 0],
            [2024, 1, 0, 0, 0, 0, 0],
            [2024, 1, 1, 24, 0, 0, 0],
            [2024, 1, 1, 0, 60, 0, 0],
            [2024, 1, 1, 0, 0, 60, 0],
            [2024, 1, 1, 0, 0, 0, 1_000_000_000],
            [u32::MAX; 7],
        ] {
            assert_eq!(seconds(words), None, "{words:?}");
        }
    }
}
