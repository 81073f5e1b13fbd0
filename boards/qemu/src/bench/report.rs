//! The rows as they are read: by people, as tables; by machines, as JSON.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::figures::{REFERENCE_ORDER, Row};
use crate::terminal::Terminal;

/// Shows one machine's rows: those of one order, and, if there are several, how cost grows with the order.
pub fn show(terminal: &Terminal, rows: &[Row]) {
    let mut orders: Vec<u32> = rows.iter().map(|row| row.order).collect();
    orders.sort_unstable();
    orders.dedup();
    let Some(order) = shown(&orders) else {
        return;
    };
    let machine = rows.first().map_or("", |row| row.machine);
    terminal.step(
        "Measured",
        &format!("{machine}, tables of order {order}; guest instructions"),
    );
    terminal.line(&format!(
        "{:44} {:>7} {:>15} {:>13} {:>13} {:>8} {:>13}",
        "", "valid", "per", "realhpt", "Linux", "ratio", "budget"
    ));
    for row in rows.iter().filter(|row| row.order == order) {
        terminal.line(line(row).trim_end());
    }
    if orders.len() > 1 {
        growth(terminal, machine, &orders, rows);
    }
}

/// Shows the rows of a guest's boot: what each kind of exit took in all, for each of them, and in percent of the first row,
/// which has the guest's own instructions.
pub fn show_boot(terminal: &Terminal, title: &str, rows: &[Row]) {
    let Some(own) = rows.first() else {
        return;
    };
    terminal.step(
        "Measured",
        &format!("{}, {title}; guest instructions", own.machine),
    );
    terminal.line(&format!(
        "{:44} {:>9} {:>15} {:>13} {:>8} {:>13}",
        "", "times", "in all", "each", "%", "budget"
    ));
    for row in rows {
        terminal.line(boot_line(row, own).trim_end());
    }
}

fn boot_line(row: &Row, own: &Row) -> String {
    let blank = String::new;
    let times = row.insns.map(|insns| (insns / row.per_unit).round());
    let percent = match (row.insns, own.insns) {
        (None, _) => row.per_unit,
        (Some(insns), Some(own)) => 100.0 * insns / own,
        (Some(_), None) => 0.0,
    };
    format!(
        "{:44} {:>9} {:>15} {:>13} {percent:>8.3} {:>13}{}",
        row.row,
        times.map_or_else(blank, number),
        row.insns.map_or_else(blank, number),
        row.insns.map_or_else(blank, |_| number(row.per_unit)),
        row.budget.map_or_else(blank, number),
        if row.is_over() { "  over" } else { "" },
    )
}

/// The order whose rows are all shown: the one that Linux's figures and the budgets are for, or the largest.
#[must_use]
pub fn shown(orders: &[u32]) -> Option<u32> {
    let reference = orders.iter().find(|&&order| order == REFERENCE_ORDER);
    reference.or(orders.iter().max()).copied()
}

/// A row, and whether it is over its budget.
fn line(row: &Row) -> String {
    let blank = String::new;
    format!(
        "{:44} {:>7} {:>15} {:>13} {:>13} {:>8} {:>13}{}",
        row.row,
        occupancy(row),
        row.unit,
        number(row.per_unit),
        row.linux.map_or_else(blank, number),
        row.ratio
            .map_or_else(blank, |ratio| format!("{}x", number(ratio))),
        row.budget.map_or_else(blank, number),
        if row.is_over() { "  over" } else { "" },
    )
}

fn occupancy(row: &Row) -> String {
    row.permille.map_or_else(String::new, |permille| {
        format!("{} %", f64::from(permille) / 10.0)
    })
}

/// Shows what a unit costs at each order.
fn growth(terminal: &Terminal, machine: &str, orders: &[u32], rows: &[Row]) {
    terminal.step(
        "Measured",
        &format!("{machine}, by order; guest instructions"),
    );
    let heads = orders.iter().map(|order| format!(" {order:>13}"));
    terminal.line(&format!(
        "{:44} {:>7} {:>15}{}",
        "",
        "valid",
        "per",
        heads.collect::<String>()
    ));
    let same = |left: &Row, right: &Row| left.row == right.row && left.permille == right.permille;
    let mut shown: Vec<&Row> = Vec::new();
    for row in rows.iter().filter(|row| row.grows) {
        if shown.iter().any(|shown| same(shown, row)) {
            continue;
        }
        shown.push(row);
        let mut cells = String::new();
        let mut over = Vec::new();
        for &order in orders {
            let cell = rows
                .iter()
                .find(|other| other.order == order && same(other, row));
            let text = cell.map_or_else(String::new, |cell| number(cell.per_unit));
            cells.push_str(&format!(" {text:>13}"));
            over.extend(
                cell.filter(|cell| cell.is_over())
                    .map(|_| order.to_string()),
            );
        }
        if !over.is_empty() {
            cells.push_str(&format!("  over at {}", over.join(", ")));
        }
        terminal.line(&format!(
            "{:44} {:>7} {:>15}{cells}",
            row.row,
            occupancy(row),
            row.unit
        ));
    }
}

/// A number as it is read best: its thousands apart, a fraction only where it matters.
pub(super) fn number(value: f64) -> String {
    if value.abs() < 1000.0 {
        let digits = if value.abs() < 100.0 { 2 } else { 1 };
        let text = format!("{value:.digits$}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = if value < 0.0 { "-" } else { "" }.to_owned();
    for (place, digit) in digits.char_indices() {
        if place != 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// Writes the rows as JSON.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: &Path, rows: &[Row]) -> Result<()> {
    let failed = || format!("cannot write to {}", path.display());
    let file = File::create(path).with_context(failed)?;
    serde_json::to_writer_pretty(BufWriter::new(file), rows).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (8.719, "8.72"),
            (12.0, "12"),
            (313.04, "313"),
            (999.96, "1000"),
            (1354.0, "1 354"),
            (128_700_000.0, "128 700 000"),
            (-200_000.0, "-200 000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    fn row(order: u32, per_unit: f64, grows: bool) -> Row {
        Row {
            machine: "powernv9",
            row: if grows { "a pass" } else { "a call" }.to_owned(),
            order,
            permille: grows.then_some(125),
            insns: Some(per_unit),
            unit: "pass",
            per_unit,
            linux: None,
            ratio: None,
            budget: Some(1000.0),
            grows,
        }
    }

    fn shown_of(rows: &[Row]) -> String {
        let terminal = Terminal::keeping();
        show(&terminal, rows);
        console::strip_ansi_codes(&terminal.kept()).into_owned()
    }

    #[test]
    fn what_takes_more_than_its_budget_is_said_to() {
        let text = shown_of(&[row(24, 1000.0, true), row(24, 1001.0, false)]);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].starts_with("a pass") && lines[0].ends_with("1 000"),
            "{text}"
        );
        assert!(
            lines[1].starts_with("a call") && lines[1].ends_with("  over"),
            "{text}"
        );
    }

    #[test]
    fn growth_is_shown_of_what_grows() {
        let rows = [
            row(18, 77.0, true),
            row(22, 1001.0, true),
            row(24, 99.0, true),
            row(18, 7.0, false),
            row(24, 9.0, false),
        ];
        let text = shown_of(&rows);
        let (table, growth) = text.split_once("by order").expect("two tables");
        assert!(
            table.contains("order 24") && table.contains("a call"),
            "{text}"
        );
        let lines: Vec<Vec<&str>> = growth
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect())
            .collect();
        let expected = [
            "valid per 18 22 24",
            "a pass 12.5 % pass 77 1 001 99 over at 22",
        ];
        let expected = expected.map(|line| line.split(' ').collect::<Vec<_>>());
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn the_reference_order_is_shown_or_the_largest() {
        assert_eq!(shown(&[18, 24, 26]), Some(24));
        assert_eq!(shown(&[22, 18]), Some(22));
        assert_eq!(shown(&[]), None);
    }

    #[test]
    fn json_has_these_keys_and_no_others() {
        let json = serde_json::to_value([row(24, 1.0, true)]).expect("JSON");
        let mut keys: Vec<&String> = json[0].as_object().expect("an object").keys().collect();
        keys.sort();
        let expected = [
            "insns", "linux", "machine", "order", "per_unit", "permille", "ratio", "row", "unit",
        ];
        assert_eq!(keys, expected);
    }
}
