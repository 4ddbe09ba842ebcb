//! What callers waited for during each of many refreshes, as an SVG that stands in the documentation: no blank line, and the
//! colours of the page it is in.

use std::fmt::Write;
use std::time::Duration;

use super::harness::Histogram;

/// The waits of one contender, a point for each refresh.
pub(crate) struct Line {
    name: &'static str,
    longest: Vec<Duration>,
    median: Vec<Duration>,
}

impl Line {
    pub(crate) fn of(name: &'static str, refreshes: &[Histogram]) -> Self {
        let refreshes: Vec<_> = refreshes.iter().filter(|calls| calls.calls() > 0).collect();
        Self {
            name,
            longest: refreshes.iter().map(|calls| calls.most()).collect(),
            median: refreshes.iter().map(|calls| calls.quantile(0.5)).collect(),
        }
    }
}

const COLOURS: [&str; 2] = ["#1a7f37", "#cf222e"];
const LEFT: f64 = 70.0;
const RIGHT: f64 = 790.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 330.0;

/// Decades of nanoseconds: 10 ns at the bottom, 1 s at the top.
const DECADES: [(i32, &str); 9] = [
    (1, "10 ns"),
    (2, "100 ns"),
    (3, "1 µs"),
    (4, "10 µs"),
    (5, "100 µs"),
    (6, "1 ms"),
    (7, "10 ms"),
    (8, "100 ms"),
    (9, "1 s"),
];

fn y(wait: Duration) -> f64 {
    let decade = (wait.as_nanos().max(10) as f64).log10().min(9.0);
    BOTTOM - (decade - 1.0) / 8.0 * (BOTTOM - TOP)
}

fn x(index: usize, points: usize) -> f64 {
    LEFT + (index + 1) as f64 / points.max(1) as f64 * (RIGHT - LEFT)
}

pub(crate) fn svg(lines: &[Line]) -> String {
    let points = lines.iter().map(|line| line.longest.len()).max().unwrap_or(0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 372\" width=\"800\" style=\"max-width:100%\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"13\" fill=\"currentColor\">\n\
         <title>Waits of callers across {points} refreshes</title>\n\
         <desc>{}, cargo bench --bench refresh: 8 tasks ask all the time, a source takes 200 ms{}.</desc>\n",
        date(),
        if cfg!(debug_assertions) {
            "; an unoptimized build"
        } else {
            ""
        },
    );
    // Writing to a String cannot fail.
    let mut put = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).unwrap_or_default();
    for (decade, label) in DECADES {
        let y = y(Duration::from_nanos(10_u64.pow(decade as u32)));
        put(format_args!(
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"currentColor\" stroke-opacity=\"0.15\"/>\n\
             <text x=\"62\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
            y + 4.0
        ));
    }
    for refresh in (0..=points).step_by(20) {
        let at = LEFT + refresh as f64 / points.max(1) as f64 * (RIGHT - LEFT);
        put(format_args!(
            "<text x=\"{at:.0}\" y=\"348\" text-anchor=\"middle\">{refresh}</text>\n"
        ));
    }
    put(format_args!(
        "<text x=\"430\" y=\"366\" text-anchor=\"middle\">refresh</text>\n"
    ));
    for (index, (line, colour)) in lines.iter().zip(COLOURS).enumerate() {
        let left = LEFT + 360.0 * index as f64;
        put(format_args!(
            "<line x1=\"{left}\" x2=\"{:.0}\" y1=\"20\" y2=\"20\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{:.0}\" y=\"24\">{}: longest wait (dotted: median)</text>\n",
            left + 24.0,
            left + 32.0,
            line.name
        ));
        for (waits, dash) in [(&line.longest, "none"), (&line.median, "2 3")] {
            let path: Vec<_> = waits
                .iter()
                .enumerate()
                .map(|(index, wait)| format!("{:.0},{:.0}", x(index, waits.len()), y(*wait)))
                .collect();
            put(format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" stroke-dasharray=\"{dash}\"/>\n",
                path.join(" ")
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Today, in UTC.
fn date() -> String {
    let now = aws_smithy_types::DateTime::from(std::time::SystemTime::now());
    let text = now
        .fmt(aws_smithy_types::date_time::Format::DateTime)
        .unwrap_or_default();
    text.split('T').next().unwrap_or_default().to_owned()
}
