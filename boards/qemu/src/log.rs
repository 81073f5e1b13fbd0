//! The image's log: defmt frames, decoded with file and line.
//!
//! The format strings and places are in the image's ELF file, the bytes come over COM1. What cannot be decoded
//! before the first frame is left out: a UART may have carried other things before the image spoke. Later it
//! is a report that got lost, which may have been a grave one, and so is itself an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use defmt_decoder::{DecodeError, Frame as DefmtFrame, Locations, StreamDecoder, Table};

use crate::terminal::dim;
use crate::workspace;

/// How grave a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For hot paths.
    Trace,
    /// For the developer.
    Debug,
    /// What happens.
    Info,
    /// What should not happen and is dealt with.
    Warn,
    /// What must not happen: the run has failed.
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// A decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When, in the machine's time, as the image prints it.
    pub time: String,
    /// How grave.
    pub level: Level,
    /// What.
    pub text: String,
    /// Where in the source, if the image knows.
    pub place: Option<String>,
}

impl Frame {
    /// The frame as a line.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            time,
            level,
            text,
            place,
        } = self;
        let place = place
            .as_ref()
            .map(|place| format!("  ({place})"))
            .unwrap_or_default();
        // Seconds with four decimals, if it is a number at all.
        let time = time
            .parse::<f64>()
            .map_or_else(|_| time.clone(), |seconds| format!("{seconds:8.4}"));
        let name = level.name();
        if *level >= Level::Warn {
            let name = if *level == Level::Error {
                console::style(name).red()
            } else {
                console::style(name).yellow()
            };
            return format!(
                "{} {name:5}  {text}{}",
                dim(&format!("[{time}]")),
                dim(&place)
            );
        }
        dim(&format!("[{time}] {name:5}  {text}{place}"))
    }
}

/// An image's format strings and places.
#[derive(Debug)]
pub struct Catalogue {
    table: Table,
    places: BTreeMap<u64, String>,
}

impl Catalogue {
    /// Reads them from the image's ELF file.
    ///
    /// # Errors
    /// If the file has none.
    pub fn read(image: &Path) -> Result<Self> {
        let elf = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
        let table =
            Table::parse(&elf)?.with_context(|| format!("{} has no defmt log", image.display()))?;
        let places = table.get_locations(&elf)?;
        Ok(Self {
            table,
            places: name(&places),
        })
    }

    /// A decoder for one run.
    #[must_use]
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder {
            stream: self.table.new_stream_decoder(),
            places: &self.places,
            begun: false,
        }
    }
}

/// The places as they are shown: paths in the workspace are relative to it.
fn name(places: &Locations) -> BTreeMap<u64, String> {
    let place = |(&index, location): (&u64, &defmt_decoder::Location)| {
        let file = location
            .file
            .strip_prefix(workspace())
            .unwrap_or(&location.file);
        (index, format!("{}:{}", file.display(), location.line))
    };
    places.iter().map(place).collect()
}

/// Decodes the bytes of one run.
#[allow(missing_debug_implementations, reason = "the stream decoder has none")]
pub struct Decoder<'a> {
    stream: Box<dyn StreamDecoder + Send + Sync + 'a>,
    places: &'a BTreeMap<u64, String>,
    /// A frame has been decoded.
    begun: bool,
}

impl Decoder<'_> {
    /// Takes bytes and gives the frames that they complete.
    pub fn decode(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.stream.received(bytes);
        let mut frames = Vec::new();
        loop {
            match self.stream.decode() {
                Ok(frame) => {
                    self.begun = true;
                    frames.push(convert(&frame, self.places));
                }
                Err(DecodeError::UnexpectedEof) => return frames,
                Err(DecodeError::Malformed) if self.begun => frames.push(Frame {
                    time: String::new(),
                    level: Level::Error,
                    text: "a frame that cannot be decoded".to_owned(),
                    place: None,
                }),
                Err(DecodeError::Malformed) => {}
            }
        }
    }
}

/// The text without what would do something to a terminal, or begin a line that is not the log's: a partition may have written
/// it.
fn harmless(text: &str) -> String {
    let harmless = |character: char| {
        if character.is_control() && character != '\t' {
            '?'
        } else {
            character
        }
    };
    text.chars().map(harmless).collect()
}

fn convert(frame: &DefmtFrame<'_>, places: &BTreeMap<u64, String>) -> Frame {
    use defmt_parser::Level as Theirs;
    let level = match frame.level() {
        Some(Theirs::Trace) => Level::Trace,
        Some(Theirs::Debug) => Level::Debug,
        Some(Theirs::Info) | None => Level::Info,
        Some(Theirs::Warn) => Level::Warn,
        Some(Theirs::Error) => Level::Error,
    };
    Frame {
        time: frame
            .display_timestamp()
            .map(|time| time.to_string())
            .unwrap_or_default(),
        level,
        text: harmless(&frame.display_message().to_string()),
        place: places.get(&frame.index()).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_partition_writes_does_nothing_to_a_terminal() {
        let written = "[client] \x1b]0;title\x07 \u{9b}2J\r\nverdict: planned 0 \x7f\ttab, é";
        let shown = "[client] ?]0;title? ?2J??verdict: planned 0 ?\ttab, é";
        assert_eq!(harmless(written), shown);
    }
}
