//! The log: a thin face of defmt that is silent where no defmt logger is linked (the host).

/// Logs at the level of information: what an operator wants to see.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => {{
        #[cfg(feature = "defmt")]
        defmt::info!($($arg)*);
        // What is only there to be logged is used all the same.
        #[cfg(not(feature = "defmt"))]
        let _ = ($($arg)*);
    }};
}

/// Logs what should not happen but has an answer.
#[macro_export]
macro_rules! warning {
    ($($arg:tt)*) => {{
        #[cfg(feature = "defmt")]
        defmt::warn!($($arg)*);
        // What is only there to be logged is used all the same.
        #[cfg(not(feature = "defmt"))]
        let _ = ($($arg)*);
    }};
}
