//! The configuration files that the engine boots with.
//!
//! Owns: the access rights of the only user a connection can be, the settings nobody may change,
//! and the sizes of the engine's pools and caches. The grants are the engine's own and so hold
//! however a statement is written; see `guard` for what they do not cover.

use std::num::{NonZeroU32, NonZeroU64};

pub struct Limits {
    pub threads_max: NonZeroU32,
    pub memory_bytes_max: Option<NonZeroU64>,
}

/// Rights without SOURCES (file, url, s3, remote, …), SYSTEM, BACKUP, dictionaries, functions,
/// named collections or access management. A right that is not listed does not exist.
const GRANTS: &[&str] = &[
    "GRANT SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP DATABASE, \
     DROP TABLE, DROP VIEW, TRUNCATE, OPTIMIZE, CHECK, dictGet ON *.*",
    "GRANT TABLE ENGINE ON MergeTree",
    "GRANT TABLE ENGINE ON ReplacingMergeTree",
    "GRANT TABLE ENGINE ON SummingMergeTree",
    "GRANT TABLE ENGINE ON AggregatingMergeTree",
    "GRANT TABLE ENGINE ON CollapsingMergeTree",
    "GRANT TABLE ENGINE ON VersionedCollapsingMergeTree",
    "GRANT TABLE ENGINE ON Memory",
    "GRANT TABLE ENGINE ON Null",
];

/// Settings that stay as they are: with them a statement could read or write files, reach the
/// network, or smuggle in SQL as a string that no check of the statement sees.
pub const FIXED_SETTINGS: &[(&str, &str)] = &[
    ("additional_result_filter", ""),
    ("additional_table_filters", "{}"),
    ("allow_experimental_eval_table_function", "0"),
    ("allow_introspection_functions", "0"),
    ("async_insert", "0"),
    ("dialect", "clickhouse"),
    ("format_avro_schema_registry_url", ""),
    ("format_schema", ""),
    ("format_schema_source", "file"),
    ("format_template_resultset", ""),
    ("format_template_row", ""),
    ("implicit_select", "0"),
    ("input_format_record_errors_file_path", ""),
    ("input_format_values_deduce_templates_of_expressions", "0"),
    ("input_format_values_interpret_expressions", "0"),
    ("output_format_schema", ""),
    ("parallel_replicas_custom_key", ""),
    ("rename_files_after_processing", ""),
    ("url_base", ""),
];

/// The users file. `settings` are those of `FIXED_SETTINGS` that the loaded engine has.
pub fn users_xml(settings: &[(&str, &str)], limits: &Limits) -> String {
    let mut profile = String::new();
    let mut constraints = String::new();
    for (name, value) in settings {
        profile.push_str(&format!("      <{name}>{value}</{name}>\n"));
        constraints.push_str(&format!("        <{name}><readonly/></{name}>\n"));
    }
    profile.push_str(&format!("      <max_threads>{}</max_threads>\n", limits.threads_max));
    if let Some(bytes) = limits.memory_bytes_max {
        // One statement may not take the whole budget: merges and inserts need room beside it.
        let per_statement = bytes.get() - bytes.get() / 4;
        profile.push_str(&format!("      <max_memory_usage>{per_statement}</max_memory_usage>\n"));
    }
    let grants: String =
        GRANTS.iter().map(|grant| format!("        <query>{grant}</query>\n")).collect();
    format!(
        "<clickhouse>
  <profiles>
    <default>
{profile}      <constraints>
{constraints}      </constraints>
    </default>
  </profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants>
{grants}      </grants>
    </default>
  </users>
</clickhouse>
"
    )
}

/// The server file. Pools and caches are small: this engine shares a small machine with ingestion.
pub fn server_xml(users_path: &str, limits: &Limits) -> String {
    let threads = limits.threads_max.get();
    let merge_threads = threads.clamp(1, 4);
    let memory = limits.memory_bytes_max.map_or(String::new(), |bytes| {
        format!("  <max_server_memory_usage>{bytes}</max_server_memory_usage>\n")
    });
    format!(
        "<clickhouse>
  <users_config>{users_path}</users_config>
  <access_control_improvements>
    <table_engines_require_grant>true</table_engines_require_grant>
    <select_from_system_db_requires_grant>false</select_from_system_db_requires_grant>
  </access_control_improvements>
{memory}  <mark_cache_size>67108864</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <index_mark_cache_size>4194304</index_mark_cache_size>
  <index_uncompressed_cache_size>0</index_uncompressed_cache_size>
  <primary_index_cache_size>0</primary_index_cache_size>
  <query_condition_cache_size>1048576</query_condition_cache_size>
  <mmap_cache_size>16</mmap_cache_size>
  <compiled_expression_cache_size>8388608</compiled_expression_cache_size>
  <background_pool_size>{merge_threads}</background_pool_size>
  <background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>
  <background_common_pool_size>1</background_common_pool_size>
  <background_move_pool_size>1</background_move_pool_size>
  <background_fetches_pool_size>1</background_fetches_pool_size>
  <background_schedule_pool_size>2</background_schedule_pool_size>
  <background_buffer_flush_schedule_pool_size>1</background_buffer_flush_schedule_pool_size>
  <background_distributed_schedule_pool_size>1</background_distributed_schedule_pool_size>
  <background_message_broker_schedule_pool_size>1</background_message_broker_schedule_pool_size>
  <tables_loader_foreground_pool_size>{threads}</tables_loader_foreground_pool_size>
  <tables_loader_background_pool_size>{threads}</tables_loader_background_pool_size>
  <max_thread_pool_size>1000</max_thread_pool_size>
  <max_thread_pool_free_size>8</max_thread_pool_free_size>
  <max_io_thread_pool_free_size>0</max_io_thread_pool_free_size>
  <merge_tree>
    <number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
    <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
    <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
  </merge_tree>
</clickhouse>
"
    )
}
