//! What the engine is told at its start: TOML file, environment, flags, the later winning.
//!
//! Owns the keys, their ranges and the worst-case memory that follows from them; knows nothing of
//! what the values are used for. A [`Config`] that exists is valid: every value was checked against
//! [`keys::KEYS`], and the rules between values hold.

mod flags;
mod kafka;
mod keys;
mod layers;
mod memory;
mod rules;
mod sections;
#[cfg(test)]
mod tests;

pub use flags::RunArgs;
pub use kafka::{Ack, Compression, Kafka, PINNED_PROPERTIES, Properties};
pub use keys::{KEYS, Key, Kind};
pub use layers::{ConfigError, ENV_PREFIX};
pub use memory::{HANDED_BLOCKS, MemoryLine, MemoryPlan, memory_budget_of_machine};
pub use sections::{
    Admin, Clickhouse, Config, Cors, Driver, Journal, KeySource, Limits, Secret, Server,
};

use anyhow::Context;

/// Reads file, environment and flags into a checked [`Config`].
pub fn load(args: &RunArgs) -> anyhow::Result<Config> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_from(args, environment)
}

/// [`load`] with the environment given, so that tests need not change their process's.
pub fn load_from(
    args: &RunArgs,
    environment: impl Iterator<Item = (String, String)>,
) -> anyhow::Result<Config> {
    let mut layers = layers::Layers::default();
    if let Some(path) = &args.config {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        layers.add_file(path, &text)?;
    }
    layers.add_environment(environment)?;
    layers.add_flags(args)?;
    let config = layers.into_config()?;
    rules::check(&config)?;
    Ok(config)
}
