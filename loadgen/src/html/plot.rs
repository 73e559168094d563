//! Plots as SVG text: lines or dots over linear or logarithmic axes. Knows nothing of what it plots.

use std::fmt::Write;

use super::escape;

const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;

/// Ticks of a logarithmic axis for which there is room.
const X_TICKS_MAX: usize = 14;
const Y_TICKS_MAX: usize = 8;
/// No logarithmic axis covers more powers of ten.
const ROUND_POWERS: i32 = 40;

#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    Linear,
    /// Of values above 0; others are left out.
    Log,
}

pub struct Series<'a> {
    pub name: &'a str,
    /// A class of the style sheet: `a`, `b`, `c`, `good`, `bad` or `dim`.
    pub colour: &'static str,
    pub points: Vec<(f64, f64)>,
    pub dots: bool,
}

pub struct Plot<'a> {
    pub title: &'a str,
    pub x_name: &'a str,
    pub y_name: &'a str,
    pub x_scale: Scale,
    pub y_scale: Scale,
    pub series: Vec<Series<'a>>,
    /// Where round numbers are not what the x axis should say.
    pub x_ticks: Option<Vec<(f64, String)>>,
    /// A horizontal line with a name.
    pub bound: Option<(f64, String)>,
}

/// The part of an axis that is shown, in the scale's own measure.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.filter(|v| scale == Scale::Linear || *v > 0.0).collect();
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !(min.is_finite() && max.is_finite()) {
            return Axis { scale, from: 0.0, to: 1.0 };
        }
        match scale {
            Scale::Log => {
                let first = round_numbers(min).take_while(|v| *v <= min).last().unwrap_or(min);
                let end = round_numbers(min).find(|v| *v >= max && *v > first).unwrap_or(max);
                Axis { scale, from: first.log10(), to: end.log10() }
            }
            Scale::Linear => {
                let to = if max > 0.0 { max * 1.05 } else { 1.0 };
                Axis { scale, from: min.min(0.0), to }
            }
        }
    }

    /// 0 to 1 within the axis; None where the value has no place on it.
    fn place(&self, value: f64) -> Option<f64> {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Log if value > 0.0 => value.log10(),
            Scale::Log => return None,
        };
        value.is_finite().then_some((value - self.from) / (self.to - self.from))
    }

    /// Of a logarithmic axis only the powers of ten where there would be more than `ticks_max`.
    fn ticks(&self, ticks_max: usize) -> Vec<(f64, String)> {
        if self.scale == Scale::Log {
            let shown = (self.from - 1e-9)..=(self.to + 1e-9);
            let mut ticks: Vec<f64> = round_numbers(10f64.powf(self.from))
                .skip_while(|v| !shown.contains(&v.log10()))
                .take_while(|v| shown.contains(&v.log10()))
                .collect();
            if ticks.len() > ticks_max {
                ticks.retain(|v| (v.log10() - v.log10().round()).abs() < 1e-9);
            }
            return ticks.into_iter().map(|v| (v, short_number(v))).collect();
        }
        let step = round_step((self.to - self.from) / 5.0);
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step).floor() as i64;
        (first..=last).map(|k| k as f64 * step).map(|v| (v, short_number(v))).collect()
    }
}

/// 1, 2 and 5 times the powers of ten, from the power that is not above `near`, which is above 0.
fn round_numbers(near: f64) -> impl Iterator<Item = f64> {
    let first = near.log10().floor() as i32;
    let last = first.saturating_add(ROUND_POWERS);
    (first..last).flat_map(|power| [1.0, 2.0, 5.0].map(|k| k * 10f64.powi(power)))
}

/// 1, 2 or 5 times a power of ten, not below `wanted`.
fn round_step(wanted: f64) -> f64 {
    round_numbers(wanted).find(|step| *step >= wanted).unwrap_or(wanted)
}

/// `1500000` as `1.5M`, `0.02` as it is.
pub fn short_number(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let rounded = (scaled * 1e4).round() / 1e4;
    format!("{rounded}{unit}")
}

fn x_at(place: f64) -> f64 {
    LEFT + place * (WIDTH - LEFT - RIGHT)
}

fn y_at(place: f64) -> f64 {
    HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM)
}

/// A section of a page with the plot in it.
pub fn section(plot: &Plot<'_>) -> String {
    let points = || plot.series.iter().flat_map(|series| &series.points);
    let x = Axis::new(
        plot.x_scale,
        points().map(|p| p.0).chain(plot.x_ticks.iter().flatten().map(|tick| tick.0)),
    );
    let bound = plot.bound.iter().map(|bound| bound.0);
    let y = Axis::new(plot.y_scale, points().map(|p| p.1).chain(bound));
    let mut svg = String::new();
    write_axes(&mut svg, plot, &x, &y);
    // The first ones on top: where lines run together, the last is the widest below.
    for series in plot.series.iter().rev() {
        write_series(&mut svg, series, &x, &y);
    }
    if let Some((value, name)) = &plot.bound
        && let Some(place) = y.place(*value)
    {
        let at = y_at(place);
        let _ = write!(
            svg,
            "<line class=\"bound\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"bound-name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT + 8.0,
            at - 6.0,
            escape(name)
        );
    }
    write_legend(&mut svg, &plot.series);
    let title = escape(plot.title);
    format!(
        "<section><h2>{title}</h2><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title}\">{svg}</svg></section>"
    )
}

fn write_axes(svg: &mut String, plot: &Plot<'_>, x: &Axis, y: &Axis) {
    for (value, name) in y.ticks(Y_TICKS_MAX) {
        let Some(place) = y.place(value) else { continue };
        let at = y_at(place);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (value, name) in plot.x_ticks.clone().unwrap_or_else(|| x.ticks(X_TICKS_MAX)) {
        let Some(place) = x.place(value) else { continue };
        let at = x_at(place);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 17.0,
            escape(&name)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        TOP - 14.0,
        escape(plot.y_name),
        WIDTH - RIGHT,
        HEIGHT - 6.0,
        escape(plot.x_name)
    );
}

fn write_series(svg: &mut String, series: &Series<'_>, x: &Axis, y: &Axis) {
    let places = series.points.iter().filter_map(|&(px, py)| Some((x.place(px)?, y.place(py)?)));
    let places: Vec<_> = places.map(|(px, py)| (x_at(px), y_at(py))).collect();
    if series.dots {
        for (px, py) in places {
            let _ = write!(
                svg,
                "<circle class=\"dot {}\" cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"5\"/>",
                series.colour
            );
        }
        return;
    }
    let path: Vec<String> = places.iter().map(|(px, py)| format!("{px:.1},{py:.1}")).collect();
    let (colour, path) = (series.colour, path.join(" "));
    let _ = write!(svg, "<polyline class=\"series {colour}\" points=\"{path}\"/>");
}

fn write_legend(svg: &mut String, series: &[Series<'_>]) {
    let mut at = LEFT + 40.0;
    for series in series.iter().filter(|series| !series.points.is_empty()) {
        let (middle, colour) = (TOP - 18.0, series.colour);
        let mark = if series.dots {
            format!(
                "<circle class=\"dot {colour}\" cx=\"{:.1}\" cy=\"{middle}\" r=\"5\"/>",
                at + 10.0
            )
        } else {
            format!(
                "<line class=\"series {colour}\" x1=\"{at:.1}\" x2=\"{:.1}\" y1=\"{middle}\" \
                 y2=\"{middle}\"/>",
                at + 20.0
            )
        };
        let name = escape(series.name);
        let _ =
            write!(svg, "{mark}<text x=\"{:.1}\" y=\"{:.1}\">{name}</text>", at + 26.0, TOP - 14.0);
        // About the width of the letters.
        at += 26.0 + 7.0 * series.name.chars().count() as f64 + 24.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(y_scale: Scale, points: &[(f64, f64)]) -> String {
        let name = "p99 <ms>";
        section(&Plot {
            title: name,
            x_name: name,
            y_name: name,
            x_scale: Scale::Linear,
            y_scale,
            series: vec![Series { name, colour: "a", points: points.to_vec(), dots: false }],
            x_ticks: None,
            bound: Some((10.0, name.to_owned())),
        })
    }

    #[test]
    fn points_lie_where_they_should() {
        let svg = plot(Scale::Linear, &[(0.0, 0.0), (100.0, 20.0)]);
        // The axes end 5 % above the largest value.
        let (x, y) = (x_at(100.0 / 105.0), y_at(20.0 / 21.0));
        let path = format!("points=\"{LEFT:.1},{:.1} {x:.1},{y:.1}\"", HEIGHT - BOTTOM);
        assert!(svg.contains(&path), "{path}: {svg}");
        let svg = plot(Scale::Log, &[(0.0, 0.0), (0.0, 1.0), (100.0, 100.0)]);
        let path = format!("points=\"{LEFT:.1},{:.1} {x:.1},{TOP:.1}\"", HEIGHT - BOTTOM);
        assert!(svg.contains(&path), "{path}: {svg}");
    }

    #[test]
    fn names_are_escaped() {
        let svg = plot(Scale::Linear, &[(1.0, 1.0)]);
        assert!(!svg.contains("<ms>"), "{svg}");
        assert_eq!(svg.matches("&lt;ms&gt;").count(), 6);
    }

    #[test]
    fn nothing_to_plot_is_an_empty_plot() {
        for scale in [Scale::Linear, Scale::Log] {
            let svg = plot(scale, &[]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(!plot(Scale::Log, &[(f64::NAN, f64::INFINITY)]).contains("NaN"));
    }

    fn check_ticks(scale: Scale, from: f64, to: f64, expected: &str) {
        let ticks = Axis::new(scale, [from, to].into_iter()).ticks(8);
        let names: Vec<_> = ticks.into_iter().map(|tick| tick.1).collect();
        assert_eq!(names.join(" "), expected, "{from} to {to}");
    }

    #[test]
    fn ticks_are_round() {
        check_ticks(Scale::Linear, 0.0, 9_000.0, "0 2000 4000 6000 8000");
        check_ticks(Scale::Log, 0.2, 90.0, "1 10 100");
        check_ticks(Scale::Log, 1_000.0, 40_000.0, "1000 2000 5000 10k 20k 50k");
        check_ticks(Scale::Log, 0.3, 0.4, "0.2 0.5");
        check_ticks(Scale::Log, 10.0, 10.0, "10 20");
        assert_eq!(short_number(1_500_000.0), "1.5M");
    }

    /// From the last round number below the least value to the first above the greatest.
    #[test]
    fn a_logarithmic_axis_is_no_longer_than_it_has_to_be() {
        let axis = Axis::new(Scale::Log, [0.0, 300.0, 4_000.0].into_iter());
        let places = [200.0, 1_000.0, 5_000.0].map(|v| axis.place(v).unwrap());
        let middle = (1_000f64 / 200.0).log10() / (5_000f64 / 200.0).log10();
        for (seen, expected) in places.into_iter().zip([0.0, middle, 1.0]) {
            assert!((seen - expected).abs() < 1e-9, "{seen}, not {expected}");
        }
        assert_eq!(axis.place(0.0), None);
    }
}
