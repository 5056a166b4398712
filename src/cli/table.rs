//! A table of text for people: columns as wide as their widest cell, two spaces between, no lines.
//!
//! Width is counted in characters. Control characters in a cell are written out, so that what a function or a manifest
//! is called cannot steer the terminal.

/// Characters of one cell; longer ones are cut. Whole values are in the JSON output.
const CELL_CHARACTERS_MAX: usize = 200;
/// Bold, and back to normal, as terminals understand them (ECMA-48).
const BOLD: &str = "\u{1b}[1m";
const NORMAL: &str = "\u{1b}[0m";

/// To which side the cells of a column are aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under headings.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Cells beyond the columns are dropped, missing ones are empty.
    pub(crate) fn row<I: IntoIterator<Item: ToString>>(&mut self, cells: I) {
        let mut row: Vec<_> = cells.into_iter().map(|cell| printable(&cell.to_string())).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, each ended by a newline; headings in bold if colours are welcome.
    pub(crate) fn render(&self, colour: bool) -> String {
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| heading.to_uppercase()).collect();
        let (bold, normal) = if colour { (BOLD, NORMAL) } else { ("", "") };
        let mut text = format!("{bold}{}{normal}\n", self.line(&headings));
        for row in &self.rows {
            text.push_str(&self.line(row));
            text.push('\n');
        }
        text
    }

    fn line(&self, cells: &[String]) -> String {
        let cells = cells.iter().enumerate().map(|(index, cell)| {
            let width = self.width(index);
            match self.columns[index].1 {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }

    fn width(&self, index: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[index].chars().count());
        cells.chain([self.columns[index].0.chars().count()]).max().unwrap_or(0)
    }
}

/// `text` with control characters written out, cut to what a table can show.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == CELL_CHARACTERS_MAX {
            shown.push_str("...");
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[("name", Align::Left), ("revision", Align::Right), ("routes", Align::Left)]);
        table.row(["cart", "12", "/cart/..."]);
        table.row(["bücher-und-mehr", "1"]);
        table
    }

    #[test]
    fn aligns_columns_without_trailing_spaces() {
        let expected = "\
NAME             REVISION  ROUTES
cart                   12  /cart/...
bücher-und-mehr         1
";
        assert_eq!(table().render(false), expected);
    }

    #[test]
    fn only_headings_are_bold_and_cells_cannot_steer() {
        let mut table = table();
        table.row(["\u{1b}[31mred\n", "1", &"x".repeat(1000)]);
        let text = table.render(true);
        assert_eq!(text.matches('\u{1b}').count(), 2);
        assert!(text.contains("\\u{1b}[31mred\\n") && text.contains("xxx...") && text.lines().count() == 4);
    }
}
