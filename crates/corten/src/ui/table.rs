//! Columns for people.

/// Lays out rows under a header, three spaces between columns, nothing after the last.
pub(crate) fn layout(header: &[String], rows: &[Vec<String>]) -> String {
    let columns = header.len();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row.get(column).map_or(0, |cell| cell.chars().count()))
            .chain([header[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(header).chain(rows.iter().map(Vec::as_slice)) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if column + 1 < columns {
                let pad = widths.get(column).copied().unwrap_or(0) + 3;
                line.extend(std::iter::repeat_n(' ', pad.saturating_sub(cell.chars().count())));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let header = ["A".to_owned(), "LONG".to_owned()];
        let rows = [vec!["xyz".to_owned(), String::new()], vec!["é".to_owned(), "1".to_owned()]];
        assert_eq!(layout(&header, &rows), "A     LONG\nxyz\né     1\n");
    }
}
