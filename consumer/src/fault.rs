//! Places where a test can have the process die: `UNMOGROWP_FAULT=POINT[:N]` kills it as `kill -9`
//! would at the Nth passing of the point. Only with debug assertions; a release has none of it.

/// Before, while and after rows are sent, and before their offset is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    BeforeInsert,
    DuringInsert,
    AfterInsert,
    BeforeCommit,
}

/// Dies here if that was asked for.
#[inline(always)]
pub fn pass(point: Point) {
    #[cfg(debug_assertions)]
    armed::pass(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

#[cfg(debug_assertions)]
mod armed {
    use super::Point;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    pub const VARIABLE: &str = "UNMOGROWP_FAULT";
    static PASSED: AtomicU32 = AtomicU32::new(0);
    static WANTED: OnceLock<Option<(Point, u32)>> = OnceLock::new();

    pub fn parse(text: &str) -> Option<(Point, u32)> {
        let (name, number) = text.split_once(':').unwrap_or((text, "1"));
        let point = match name {
            "before_insert" => Point::BeforeInsert,
            "during_insert" => Point::DuringInsert,
            "after_insert" => Point::AfterInsert,
            "before_commit" => Point::BeforeCommit,
            _ => return None,
        };
        number.parse().ok().filter(|number| *number > 0).map(|number| (point, number))
    }

    pub fn pass(point: Point) {
        let wanted = WANTED.get_or_init(|| {
            let text = std::env::var(VARIABLE).ok()?;
            Some(parse(&text).expect("UNMOGROWP_FAULT is POINT or POINT:N"))
        });
        let Some((fatal, number)) = wanted else { return };
        if *fatal == point && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *number {
            // No destructor, no flush, no goodbye to the group: what SIGKILL leaves behind.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(debug_assertions)]
    #[test]
    fn a_fault_is_a_point_and_a_number() {
        use super::Point;
        use super::armed::parse;
        assert_eq!(parse("before_insert"), Some((Point::BeforeInsert, 1)));
        assert_eq!(parse("during_insert:3"), Some((Point::DuringInsert, 3)));
        assert_eq!(parse("after_insert:0"), None);
        assert_eq!(parse("later"), None);
    }

    /// What releases leave out is only what stands under this attribute.
    #[test]
    fn a_release_has_no_faults() {
        let source = include_str!("fault.rs");
        let armed = source.find("mod armed").expect("the module that kills");
        assert!(source[..armed].trim_end().ends_with("#[cfg(debug_assertions)]"));
        let before = &source[..armed];
        assert!(!before.contains("abort()") && !before.contains("env::"), "outside of it");
        let profiles = include_str!("../../Cargo.toml");
        let release = profiles.split("[profile.release]").nth(1).expect("a release profile");
        let release = release.split("\n[").next().expect("its lines");
        assert!(!release.contains("debug-assertions"), "off is the default of a release");
    }
}
