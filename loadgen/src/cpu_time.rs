//! CPU time of a process, user and system apart, from `/proc/PID/stat`. The sum is exact to a clock
//! tick; how it divides is the kernel's estimate from samples.

use std::fs;
use std::ops::Sub;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    pub user_s: f64,
    pub system_s: f64,
}

impl CpuTime {
    /// Of all threads, those that ended too. None when there is no such process.
    pub fn of_process(pid: u32) -> Option<CpuTime> {
        parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    pub fn of_this_process() -> CpuTime {
        CpuTime::of_process(std::process::id()).unwrap_or_default()
    }

    pub fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

impl Sub for CpuTime {
    type Output = CpuTime;

    fn sub(self, before: CpuTime) -> CpuTime {
        let user_s = self.user_s - before.user_s;
        CpuTime { user_s, system_s: self.system_s - before.system_s }
    }
}

impl std::iter::Sum for CpuTime {
    fn sum<I: Iterator<Item = CpuTime>>(times: I) -> CpuTime {
        times.fold(CpuTime::default(), |sum, time| CpuTime {
            user_s: sum.user_s + time.user_s,
            system_s: sum.system_s + time.system_s,
        })
    }
}

fn parse(stat: &str) -> Option<CpuTime> {
    // The name, field 2, is in parentheses and may hold anything. After it: utime is 14, stime 15.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(14 - 3);
    let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
    let mut seconds = || Some(fields.next()?.parse::<u64>().ok()? as f64 / ticks_per_s);
    Some(CpuTime { user_s: seconds()?, system_s: seconds()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 250 9 9 20 0 1 0 5 6 7";
        let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
        let expected = CpuTime { user_s: 150.0 / ticks_per_s, system_s: 250.0 / ticks_per_s };
        assert_eq!(parse(stat), Some(expected));
        assert_eq!(expected.total_s(), 400.0 / ticks_per_s);
        assert_eq!(parse("7 (a) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_process_has_used_some() {
        assert_eq!(CpuTime::of_process(u32::MAX), None);
        let start = std::time::Instant::now();
        while CpuTime::of_this_process().total_s() == 0.0 {
            assert!(start.elapsed() < std::time::Duration::from_secs(10), "a spin costs nothing");
        }
    }
}
