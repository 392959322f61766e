//! Rows as a table that fits a width. Pure: who knows the terminal's width hands it in.

use jiff::tz::TimeZone;

use crate::exchange::{Connection, Direction};
use crate::row::{Row, outcome, protocol};
use crate::size;
use crate::style::{Colour, Style, of_outcome, of_status};
use crate::text::{clip, one_line};
use crate::time;
use crate::ulid::Ulid;

/// How a table is written.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Columns of the terminal; `None`: nothing is cut.
    pub width: Option<usize>,
    pub style: Style,
    pub zone: TimeZone,
    /// Whole ids and times, peers, and no column left out.
    pub wide: bool,
    /// How many of an id's last characters are shown (the first are those of its neighbours).
    pub id_width: usize,
    /// There are pods among the targets.
    pub pods: bool,
}

struct Column {
    title: &'static str,
    /// At least so wide; the rest moves, so that rows can be written as they come.
    width: usize,
    right: bool,
}

const fn column(title: &'static str, width: usize, right: bool) -> Column {
    Column { title, width, right }
}

/// The last column but one takes what is left of the width.
const URL: usize = 6;

impl Layout {
    fn columns(&self) -> Vec<Column> {
        let time = if self.wide { 33 } else { 12 };
        let mut columns = vec![
            column("ID", if self.wide { Ulid::LENGTH } else { self.id_width }, false),
            column("TIME", time, false),
            column("DIR", 3, false),
            match (self.wide, self.pods) {
                (true, _) => column("PROCESS", 22, false),
                (false, false) => column("PROCESS", 14, false),
                (false, true) => column("POD", 32, false),
            },
            column("METHOD", 7, false),
            column("STATUS", 6, true),
            column("URL", 0, false),
            column("SIZE", 8, true),
            column("TOOK", 7, true),
            column("OUTCOME", 14, false),
        ];
        if self.wide {
            if self.pods {
                columns.push(column("POD", 40, false));
            }
            columns.push(column("PROTOCOL", 9, false));
            columns.push(column("CLIENT", 21, false));
            columns.push(column("SERVER", 21, false));
            columns.push(column("CONNECTION", Ulid::LENGTH, false));
            columns.push(column("DETAIL", 0, false));
        }
        let fixed: usize = columns.iter().map(|column| column.width + 1).sum::<usize>() - 1;
        if let Some(url) = columns.get_mut(URL) {
            url.width = self.width.map_or(40, |width| width.saturating_sub(fixed)).max(12);
        }
        columns
    }

    /// The titles.
    pub fn heading(&self) -> String {
        let columns = self.columns();
        let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
        self.style.paint(Colour::Bold, &self.join(&columns, titles, &[]))
    }

    /// One line of the table.
    pub fn row(&self, row: &Row<'_>) -> String {
        let Connection { direction, client, server, id: connection, .. } = row.connection;
        let id = row.id.to_string();
        let short = id.get(id.len().saturating_sub(self.id_width)..).unwrap_or(&id);
        let direction = match direction {
            Direction::Inbound => "in",
            Direction::Outbound => "out",
        };
        let time = if self.wide { time::in_full(row.time, &self.zone) } else { time::of_day(row.time, &self.zone) };
        let mut cells = vec![
            if self.wide { id.clone() } else { short.to_owned() },
            time,
            direction.to_owned(),
            if self.wide { row.process() } else { row.who() },
            row.method().to_owned(),
            row.status().into_owned(),
            row.what(if self.wide { Ulid::LENGTH } else { self.id_width }),
            size::show(row.size),
            row.duration.map_or_else(|| "-".to_owned(), time::duration),
            outcome(row.outcome).to_owned(),
        ];
        if self.wide {
            if self.pods {
                cells.push(row.pod().unwrap_or_else(|| "-".to_owned()));
            }
            cells.push(protocol(row.protocol).to_owned());
            cells.extend([client.to_string(), server.to_string(), connection.to_string()]);
            let parts: Vec<&str> = [row.passthrough, row.detail].into_iter().flatten().collect();
            cells.push(parts.join(": "));
        }
        self.join(&self.columns(), cells, &[(5, of_status(row)), (9, of_outcome(row.outcome))])
    }

    fn join(&self, columns: &[Column], cells: Vec<String>, colours: &[(usize, Colour)]) -> String {
        let mut line = String::new();
        let mut room = self.width.unwrap_or(usize::MAX);
        for (number, (column, cell)) in columns.iter().zip(cells).enumerate() {
            let cell = one_line(&cell);
            // Only what is cut for a terminal is cut at all.
            let cut = if self.width.is_some() && column.width > 0 { clip(&cell, column.width) } else { cell };
            let gap = usize::from(number > 0);
            let cut = clip(&cut, room.saturating_sub(gap));
            if cut.is_empty() && room <= gap {
                break;
            }
            let length = cut.chars().count();
            let padding = column.width.min(room.saturating_sub(gap)).saturating_sub(length);
            room = room.saturating_sub(gap + length + padding);
            let colour = colours.iter().find(|(at, _)| *at == number).map_or(Colour::Plain, |(_, colour)| *colour);
            let (before, after) = if column.right { (padding, 0) } else { (0, padding) };
            line.extend(std::iter::repeat_n(' ', gap + before));
            line.push_str(&self.style.paint(colour, &cut));
            line.extend(std::iter::repeat_n(' ', after));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Event;
    use crate::samples;

    fn layout(width: Option<usize>) -> Layout {
        Layout { width, style: Style::Plain, zone: TimeZone::UTC, wide: false, id_width: 6, pods: false }
    }

    fn row(event: &Event, layout: &Layout) -> String {
        layout.row(&Row::of(event).unwrap())
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut long = samples::exchange();
        long.request.head = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(300)).into_bytes();
        for event in samples::all().into_iter().chain([long.into()]) {
            for width in [1, 20, 60, 80, 100, 200] {
                for wide in [false, true] {
                    let layout = Layout { wide, ..layout(Some(width)) };
                    assert!(layout.heading().chars().count() <= width, "{}", layout.heading());
                    if let Some(row) = Row::of(&event) {
                        assert!(layout.row(&row).chars().count() <= width, "{width}: {}", layout.row(&row));
                    }
                }
            }
        }
    }

    #[test]
    fn without_a_terminal_nothing_is_cut() {
        let mut long = samples::exchange();
        let path = "x".repeat(300);
        long.request.head = format!("GET /{path} HTTP/1.1\r\n\r\n").into_bytes();
        assert!(row(&long.into(), &layout(None)).contains(&path));
    }

    #[test]
    fn pods_are_shown_with_their_namespace_also_beside_the_process() {
        let event = samples::of_pod().into();
        for wide in [false, true] {
            let layout = Layout { pods: true, wide, ..layout(None) };
            assert!(row(&event, &layout).contains(" shop/web-6774cc6887-rjz5j "), "{}", row(&event, &layout));
            assert_eq!(row(&event, &layout).contains("curl[4711]"), wide);
            assert!(layout.heading().contains("POD"));
        }
        assert!(!layout(None).heading().contains("POD"));
    }

    #[test]
    fn columns_stand_below_their_titles() {
        let layout = layout(Some(120));
        let lines = [layout.heading(), row(&samples::exchange().into(), &layout)];
        assert_eq!(lines[1].split_whitespace().next(), Some("000002"));
        assert_eq!(lines[0].find("URL").map(|at| lines[1][at..].starts_with("http://web.shop")), Some(true));
    }
}
