//! Benches of the project: how a figure is measured, printed, kept and compared. The benches
//! themselves are in `benches/`; README.md says what each of them measures.
//!
//! - `record`, `machine`, `table`: a figure, the line it is kept in, how it looks
//! - `history`, `goals`, `readme`: lines side by side, and against what is asked
//! - `effort`, `servers`, `serve`, `load`, `cpu`, `idle`, `freshness`, `percentile`: what a bench of the whole system is made of
//! - `null_engine` on `null_storage`, `bare_receive`: servers that exist for one bench
//! - `disk_alone`: what a latency is held against
//! - `criterion_rounds`: criterion's benches as figures

pub mod bare_receive;
pub mod cpu;
pub mod criterion_rounds;
pub mod disk_alone;
pub mod effort;
pub mod freshness;
pub mod goals;
pub mod history;
pub mod idle;
pub mod load;
pub mod machine;
pub mod null_engine;
pub mod null_storage;
pub mod percentile;
pub mod readme;
pub mod record;
pub mod serve;
pub mod servers;
pub mod table;
