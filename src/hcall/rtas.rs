//! H_RTAS: the run-time abstraction services (LoPAR chapter 7), which a guest's RTAS blob passes on.
//!
//! The buffer is read once, into the hypervisor's memory, and acted on there; results are written by words, so nothing of
//! what stands beside them is. A buffer that is none of the caller's, or that says it has more words than any call has, is
//! H_PARAMETER; else the status of H_RTAS is H_SUCCESS, and the call's own is its first result, if there is room for one. With
//! an error there are no others.
//!
//! A vCPU that is started begins in 64-bit mode, big-endian, with translation off, whatever the partition chose for its
//! interrupts (QEMU likewise; Linux looks first which endianness it is in).

use core::time::Duration;

use super::abi::Status;
use super::abi::rtas::{
    BUSY, CPU_RUNNING, CPU_STOPPED, DISPLAY_CHARACTER, GET_TIME_OF_DAY, GET_XIVE, HARDWARE_ERROR,
    INT_OFF, INT_ON, MAX_WORDS, PARAMETER_ERROR, POWER_OFF, QUERY_CPU_STOPPED_STATE, REBOOT,
    SET_TIME_OF_DAY, SET_XIVE, START_CPU, STOP_SELF, SUCCESS, SYSTEM_REBOOT,
};
use super::{Call, Next, Platform, xics};
use crate::addr::GuestReal;
use crate::arch::Machine;
use crate::lpar::control::Start;
use crate::lpar::vcpu::Endian;
use crate::lpar::xics::Set;
use crate::memory::GuestWords;
use crate::table::bitmap::index;

/// Words before the arguments: the token, and how many arguments and results there are.
const HEADER: u32 = 3;
/// Results that a call has beside its status, at most.
const RESULTS: usize = 7;

/// What a call comes to: the results beside the status, those that it has. An error is a status.
type Answer = Result<([u32; RESULTS], Next), i32>;

/// Done, without results.
const DONE: Answer = Ok(([0; RESULTS], Next::Resume));

#[inline(never)]
pub(super) fn rtas<M: Machine, P: Platform>(
    call: &Call<'_, '_, M>,
    platform: &P,
) -> (Status, Next) {
    let machine = &call.system.machine;
    let regions = &call.caller.description().regions;
    let at = GuestReal::new(call.argument(0));
    let Some(header) = regions.claim_words(at, HEADER) else {
        return (Status::Parameter, Next::Resume);
    };
    let [token, arguments, results] = read(machine, &header, 0);
    let words = arguments.saturating_add(results);
    let buffer = if words <= MAX_WORDS {
        regions.claim_words(at, HEADER + words)
    } else {
        None
    };
    let Some(buffer) = buffer else {
        return (Status::Parameter, Next::Resume);
    };
    let first_result = u64::from(HEADER + arguments);
    let answer = if shape(token) == Some((arguments, results)) {
        let arguments = read(machine, &buffer, u64::from(HEADER));
        carry_out(call, platform, token, arguments)
    } else {
        Err(PARAMETER_ERROR)
    };
    let (status, values, next) = match answer {
        Ok((values, next)) => (SUCCESS, Some(values), next),
        Err(status) => (status, None, Next::Resume),
    };
    let values = values.into_iter().flatten();
    let values = core::iter::once(status.cast_unsigned()).chain(values);
    // As many as there is room for: the last word of the buffer is the last result.
    for (number, value) in (first_result..).zip(values) {
        if let Some(at) = buffer.word(number) {
            machine.store_word(at, value);
        }
    }
    (Status::Success, next)
}

/// Words of a buffer from number `first` on, each doubleword read once; zero beyond the end.
fn read<M: Machine, const N: usize>(machine: &M, buffer: &GuestWords, first: u64) -> [u32; N] {
    let mut words = [0; N];
    let mut last = None;
    for (number, word) in (first..).zip(&mut words) {
        let Some((holder, shift)) = buffer.holder(number) else {
            break;
        };
        let dword = match last {
            Some((at, dword)) if at == holder => dword,
            _ => machine.load(holder),
        };
        last = Some((holder, dword));
        // The half that the shift has left.
        *word = u32::try_from(dword >> shift & 0xffff_ffff).unwrap_or(0);
    }
    words
}

/// How many arguments and results a call has; none: there is no such call.
const fn shape(token: u32) -> Option<(u32, u32)> {
    Some(match token {
        DISPLAY_CHARACTER => (1, 1),
        POWER_OFF => (2, 1),
        SYSTEM_REBOOT | STOP_SELF => (0, 1),
        QUERY_CPU_STOPPED_STATE => (1, 2),
        START_CPU => (3, 1),
        GET_TIME_OF_DAY => (0, 8),
        SET_XIVE => (3, 1),
        GET_XIVE => (1, 3),
        INT_OFF | INT_ON => (1, 1),
        SET_TIME_OF_DAY => (7, 1),
        _ => return None,
    })
}

fn carry_out<M: Machine, P: Platform>(
    call: &Call<'_, '_, M>,
    platform: &P,
    token: u32,
    arguments: [u32; RESULTS],
) -> Answer {
    let [first, second, third, ..] = arguments;
    match token {
        DISPLAY_CHARACTER => {
            let [.., character] = first.to_be_bytes();
            if !platform.console_write(call.caller.description().lpid, &[character]) {
                return Err(BUSY);
            }
            DONE
        }
        POWER_OFF => Ok(end(call, 0)),
        SYSTEM_REBOOT => Ok(end(call, REBOOT)),
        QUERY_CPU_STOPPED_STATE => {
            let state = match call.caller.control().is_offline(number(first)) {
                Some(true) => CPU_STOPPED,
                Some(false) => CPU_RUNNING,
                None => return Err(PARAMETER_ERROR),
            };
            Ok(([state, 0, 0, 0, 0, 0, 0], Next::Resume))
        }
        START_CPU => {
            let start = Start {
                entry: GuestReal::new(second.into()),
                r3: third.into(),
                endian: Endian::Big,
            };
            let started = call.caller.control().start_vcpu(number(first), start);
            started.map_err(|status| match status {
                Status::Busy => HARDWARE_ERROR,
                _ => PARAMETER_ERROR,
            })?;
            DONE
        }
        STOP_SELF => Ok(([0; RESULTS], Next::Stop)),
        GET_TIME_OF_DAY => {
            let now = platform.time_of_day().ok_or(HARDWARE_ERROR)?;
            let seconds = now.as_secs().wrapping_add(call.caller.papr().clock());
            Ok((date(seconds, now.subsec_nanos()), Next::Resume))
        }
        SET_TIME_OF_DAY => {
            let wanted = seconds(arguments).ok_or(PARAMETER_ERROR)?;
            let now = platform.time_of_day().ok_or(HARDWARE_ERROR)?;
            call.caller
                .papr()
                .set_clock(wanted.wrapping_sub(now.as_secs()));
            DONE
        }
        SET_XIVE => {
            let priority = u8::try_from(third).map_err(|_| PARAMETER_ERROR)?;
            let sources = call.caller.papr().xics();
            changed(call, sources.route(first, number(second), priority))
        }
        GET_XIVE => {
            let routed = call.caller.papr().xics().routed(first);
            let (server, priority) = routed.ok_or(PARAMETER_ERROR)?;
            let server = u32::try_from(server).unwrap_or(0);
            Ok(([server, priority.into(), 0, 0, 0, 0, 0], Next::Resume))
        }
        INT_OFF | INT_ON => {
            let sources = call.caller.papr().xics();
            changed(call, sources.switch(first, token == INT_ON))
        }
        _ => Err(PARAMETER_ERROR),
    }
}

/// What comes of a change of an interrupt's source; none: there is no such source, or no such server.
fn changed<M: Machine>(call: &Call<'_, '_, M>, risen: Option<Set>) -> Answer {
    let next = xics::signal(call, risen.ok_or(PARAMETER_ERROR)?);
    Ok(([0; RESULTS], next))
}

/// The number of a vCPU.
fn number(word: u32) -> usize {
    index(word.into())
}

/// Ends the caller's partition.
fn end<M: Machine>(call: &Call<'_, '_, M>, code: u64) -> ([u32; RESULTS], Next) {
    call.system.halt(call.caller, code);
    ([0; RESULTS], Next::Exit)
}

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
fn date(seconds: u64, nanoseconds: u32) -> [u32; RESULTS] {
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
fn seconds([year, month, day, hour, minute, second, nanosecond]: [u32; RESULTS]) -> Option<u64> {
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
