//! Criterion benches of the hot path, each against what others would use for the same job. All of it
//! is in `benches/`; this library is empty because a package needs a target that is not a bench.
