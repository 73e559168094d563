use super::*;
use std::net::SocketAddr;

/// Loads a file, an environment and `--set` flags.
fn loaded(file: &str, environment: &[(&str, &str)], set: &[&str]) -> anyhow::Result<Config> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("engine.toml");
    std::fs::write(&path, file).unwrap();
    let args = RunArgs {
        config: Some(path),
        set: set.iter().map(|text| (*text).to_owned()).collect(),
        ..RunArgs::default()
    };
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    load_from(&args, environment)
}

/// Asserts that the file is refused with a message that holds all of `words`.
#[track_caller]
fn check_refused(file: &str, words: &[&str]) {
    let message = format!("{:#}", loaded(file, &[], &[]).expect_err(file));
    for word in words {
        assert!(message.contains(word), "{file}: {word:?} is missing in: {message}");
    }
}

#[test]
fn nothing_given_is_the_defaults() {
    let config = load_from(&RunArgs::default(), std::iter::empty()).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    assert_eq!(config.server.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!(config.limits.body_bytes_max, 16 * 1024 * 1024);
}

#[test]
fn a_later_layer_wins() {
    let file = "[limits]\nheaders_max = 11\npipeline_max = 11\nidle_timeout_s = 11";
    let environment = [
        ("UNMOGROWP_ENGINE__LIMITS__HEADERS_MAX", "22"),
        ("UNMOGROWP_ENGINE__LIMITS__PIPELINE_MAX", "22"),
        ("UNRELATED", "x"),
    ];
    let limits = loaded(file, &environment, &["limits.headers_max=33"]).unwrap().limits;
    assert_eq!((limits.headers_max, limits.pipeline_max, limits.idle_timeout_s), (33, 22, 11));
}

#[test]
fn a_flag_with_a_name_of_its_own_wins_over_all() {
    let args = RunArgs {
        listen: Some("127.0.0.1:1".to_owned()),
        cores: Some("3".to_owned()),
        set: vec!["server.listen=127.0.0.1:2".to_owned()],
        ..RunArgs::default()
    };
    let config = load_from(&args, std::iter::empty()).unwrap();
    assert_eq!((config.server.listen.port(), config.server.cores), (1, 3));
}

#[test]
fn bytes_may_have_a_unit() {
    let config = loaded("[limits]\nbody_bytes_max = \"2 MiB\"", &[], &[]).unwrap();
    assert_eq!(config.limits.body_bytes_max, 2 << 20);
    let config = loaded("", &[], &["journal.segment_bytes=8MiB"]).unwrap();
    assert_eq!(config.journal.segment_bytes, 8 << 20);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    check_refused("[limits]\nheader_max = 5", &["limits.header_max", "limits.headers_max"]);
    check_refused("[server]\nlisten_on = \"x\"", &["server.listen_on", "nearest"]);
    check_refused("listen = \"127.0.0.1:1\"", &["sets listen", "server.listen"]);
    check_refused("[severs]\nlisten = \"127.0.0.1:1\"", &["severs.listen", "server.listen"]);
    let environment = [("UNMOGROWP_ENGINE__JOURNAL__DIRR", "x")];
    let error = loaded("", &environment, &[]).expect_err("a key that is not there").to_string();
    assert!(error.contains("UNMOGROWP_ENGINE__JOURNAL__DIRR"), "{error}");
    assert!(error.contains("journal.dir"), "{error}");
    let error = loaded("", &[], &["keys.pol_ms=5"]).expect_err("no such key").to_string();
    assert!(error.contains("--set") && error.contains("keys.poll_ms"), "{error}");
}

#[test]
fn every_key_refuses_a_wrong_value_and_says_what_would_be_right() {
    for key in KEYS {
        let (section, name) = key.name.split_once('.').unwrap();
        let wrong = match key.kind {
            Kind::Count { min, max } | Kind::Bytes { min, max } => {
                vec![(min - 1).to_string(), (max + 1).to_string(), "true".into(), "\"x\"".into()]
            }
            Kind::Address => vec!["\"localhost\"".into(), "8080".into()],
            Kind::Choice(_) => vec!["\"kqueue\"".into(), "1".into()],
            Kind::Path => vec!["\"\"".into(), "7".into()],
            Kind::Url => vec!["\"https://x\"".into(), "\"http://\"".into(), "\"x:1\"".into()],
            Kind::Name => vec!["\"a b\"".into(), "\"1a\"".into(), "\"\"".into()],
            Kind::Text | Kind::Secret => vec!["\"a\\u0000\"".into(), "5".into()],
            Kind::Origins => vec!["[\"*\", \"http://a\"]".into(), "[\"a\"]".into(), "[1]".into()],
            Kind::Brokers => vec!["\"a b\"".into(), "\"a,,b\"".into(), "9092".into()],
            Kind::Topic => vec!["\"a b\"".into(), "\"..\"".into(), "\"\"".into()],
            Kind::Properties => vec!["\"x\"".into(), "{ \"A B\" = 1 }".into()],
        };
        for value in wrong {
            let file = format!("[{section}]\n{name} = {value}");
            let range = key.range();
            check_refused(&file, &[key.name, &range, key.advice, "engine.toml"]);
            let secret = matches!(key.kind, Kind::Secret | Kind::Url | Kind::Properties);
            let shown = value.replace("\\u0000", "\\0");
            check_refused(&file, &[if secret { "(hidden)" } else { &shown }]);
        }
    }
}

#[test]
fn every_key_is_a_field() {
    for key in KEYS {
        let (section, name) = key.name.split_once('.').unwrap();
        let value = match key.kind {
            Kind::Count { .. } | Kind::Bytes { .. } | Kind::Properties => continue,
            Kind::Address => "127.0.0.1:7777",
            Kind::Choice(words) => words[0],
            Kind::Url => "http://127.0.0.1:7777",
            Kind::Origins => "http://a",
            _ => "a",
        };
        let file = format!("[{section}]\n{name} = {value:?}");
        loaded(&file, &[], &[]).unwrap_or_else(|error| panic!("{}: {error:#}", key.name));
    }
    let defaults = Config::default();
    let numbers = [
        ("limits.headers_max", defaults.limits.headers_max as i64),
        ("clickhouse.retry_max_ms", defaults.clickhouse.retry_max_ms as i64),
        ("journal.buffers", defaults.journal.buffers as i64),
    ];
    for (name, number) in numbers {
        Key::find(name).unwrap().accept(&toml::Value::Integer(number), "the default").unwrap();
    }
}

#[test]
fn every_number_can_be_set_and_its_default_is_in_range() {
    // The structs refuse unknown fields, so that a key without a field fails here.
    for key in KEYS {
        let (Kind::Count { min, max } | Kind::Bytes { min, max }) = key.kind else { continue };
        let (section, name) = key.name.split_once('.').unwrap();
        for edge in [min, max] {
            let file = format!("[{section}]\n{name} = {edge}");
            let Err(error) = loaded(&file, &[], &[]) else { continue };
            // A value at the edge of its own range may still contradict another key.
            let message = format!("{error:#}");
            let conflict = matches!(error.downcast_ref(), Some(ConfigError::Conflict { .. }));
            assert!(conflict, "{} = {edge}: {message}", key.name);
        }
    }
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    check_refused(
        "[limits]\nhead_bytes_max = 9000\ntarget_bytes_max = 9000",
        &["head_bytes_max", "9000"],
    );
    check_refused(
        "[limits]\nbody_budget_bytes = 1048576",
        &["body_budget_bytes", "body_bytes_max"],
    );
    check_refused("[journal]\nbuffers = 4\nwrites_in_flight_max = 3", &["journal.buffers", "5"]);
    check_refused("[journal]\nbacklog_bytes_max = 1000", &["backlog_bytes_max", "two segments"]);
    check_refused("[clickhouse]\nretry_min_ms = 9\nretry_max_ms = 8", &["retry_max_ms", "9"]);
    check_refused("[kafka]\nack = \"kafka\"", &["kafka.ack", "kafka.brokers"]);
    check_refused(
        "[kafka]\nstall_ms = 5000\ndirect_insert_after_ms = 4000",
        &["kafka.direct_insert_after_ms", "5000"],
    );
    check_refused("[admin]\nlisten = \"127.0.0.1:8080\"", &["admin.listen", "port of its own"]);
}

#[test]
fn a_file_that_is_not_toml_is_named_with_its_line_but_not_quoted() {
    let file = "[clickhouse]\npassword = hunter2";
    check_refused(file, &["engine.toml", "line 2"]);
    let message = format!("{:#}", loaded(file, &[], &[]).expect_err(file));
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn one_url_may_carry_all_of_clickhouse() {
    let url = "http://loader:p%40ss@10.0.0.1:8124/shop";
    let environment =
        [("UNMOGROWP_CLICKHOUSE_URL", url), ("UNMOGROWP_ENGINE__CLICKHOUSE__DATABASE", "other")];
    let clickhouse = loaded("", &environment, &[]).unwrap().clickhouse;
    assert_eq!(clickhouse.url, "http://10.0.0.1:8124");
    assert_eq!((clickhouse.user.as_str(), clickhouse.password.expose()), ("loader", "p@ss"));
    assert_eq!(clickhouse.database, "other");
    let clickhouse = loaded("", &environment[..1], &[]).unwrap().clickhouse;
    assert_eq!(clickhouse.database, "shop");
}

#[test]
fn a_url_without_a_user_leaves_the_user_alone() {
    let file = "[clickhouse]\nuser = \"u\"\npassword = \"p\"";
    let url = [("UNMOGROWP_CLICKHOUSE_URL", "http://h?database=d")];
    let clickhouse = loaded(file, &url, &[]).unwrap().clickhouse;
    assert_eq!((clickhouse.user.as_str(), clickhouse.password.expose()), ("u", "p"));
    assert_eq!((clickhouse.url.as_str(), clickhouse.database.as_str()), ("http://h:8123", "d"));
}

#[test]
fn secrets_are_never_printed() {
    let config = loaded("", &[], &["clickhouse.url=http://u:hunter2@h:1"]).unwrap();
    assert_eq!(config.clickhouse.password.expose(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
    let wrong = [
        ["clickhouse.url=https://u:hunter2@h:1"],
        ["clickhouse.password=hunter2\u{7}"],
        ["hunter2"],
    ];
    for set in &wrong[..2] {
        let error = format!("{:#}", loaded("", &[], set).expect_err(set[0]));
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn properties_come_from_every_layer_and_are_never_printed() {
    let file =
        "[kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\nssl.ca.location = \"/ca\"";
    let environment = [
        ("UNMOGROWP_ENGINE__KAFKA__PROPERTIES__SASL_PASSWORD", "hunter2"),
        ("UNMOGROWP_ENGINE__KAFKA__BROKERS", "a:9092,b"),
    ];
    let set = ["kafka.properties.sasl.username=u"];
    let config = loaded(file, &environment, &set).unwrap();
    let pairs = [
        ("sasl.password", "hunter2"),
        ("sasl.username", "u"),
        ("security.protocol", "SASL_SSL"),
        ("ssl.ca.location", "/ca"),
    ];
    let read = config.kafka.properties.0.iter().map(|(name, value)| (&**name, &**value));
    assert_eq!(read.collect::<Vec<_>>(), pairs);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_property_that_the_engine_sets_is_refused_by_its_name() {
    check_refused("[kafka.properties]\nacks = \"1\"", &["kafka.properties.acks", "engine.toml"]);
    check_refused(
        "[kafka.properties]\nenable.idempotence = false",
        &["kafka.properties.enable.idempotence"],
    );
    let set = ["kafka.properties.transactional.id=hunter2"];
    let error = format!("{:#}", loaded("", &[], &set).expect_err("it is pinned"));
    assert!(error.contains("transactional.id") && !error.contains("hunter2"), "{error}");
}

#[test]
fn lanes_follow_shards_and_producers() {
    let check = |set: &[&str], shards: usize, lanes: usize| {
        assert_eq!(loaded("", &[], set).unwrap().kafka.lanes(shards), lanes, "{set:?} {shards}");
    };
    check(&[], 4, 0);
    check(&["kafka.brokers=h:1"], 4, 4);
    check(&["kafka.brokers=h:1"], 64, 8);
    check(&["kafka.brokers=h:1", "kafka.producers=16"], 64, 16);
    check(&["kafka.brokers=h:1", "kafka.producers=16"], 2, 2);
    check(&["kafka.brokers=h:1"], 0, 1);
}

#[test]
fn the_memory_plan_adds_up_and_grows_with_each_limit() {
    let plan = Config::default().memory_worst_case(2);
    assert_eq!(
        plan.total_bytes(),
        plan.lines.iter().map(|line| line.count * line.each_bytes).sum::<u64>()
    );
    let grown = [
        "limits.connections_max=9000",
        "limits.pipeline_max=65",
        "limits.body_budget_bytes=128MiB",
        "journal.buffers=25",
        "journal.tail_blocks=17",
        "clickhouse.inserts_in_flight_max=3",
        "clickhouse.bytes_per_insert_max=33MiB",
        "limits.body_bytes_max=17MiB",
    ];
    for set in grown {
        let larger = loaded("", &[], &[set]).unwrap().memory_worst_case(2);
        assert!(larger.total_bytes() > plan.total_bytes(), "{set}");
    }
    assert!(Config::default().memory_worst_case(3).total_bytes() > plan.total_bytes());
    let kafka = loaded("", &[], &["kafka.brokers=h:1"]).unwrap().memory_worst_case(2);
    assert!(kafka.total_bytes() > plan.total_bytes());
    let larger = ["kafka.brokers=h:1", "kafka.queue_bytes_max=64MiB"];
    let larger = loaded("", &[], &larger).unwrap().memory_worst_case(2);
    assert!(larger.total_bytes() > kafka.total_bytes());
}

#[test]
fn a_plan_above_its_budget_is_refused_and_names_what_to_lower() {
    let set = ["limits.memory_budget_bytes=128MiB"];
    let plan = loaded("", &[], &set).unwrap().memory_worst_case(2);
    let error = plan.check().expect_err("128 MiB are not enough").to_string();
    for word in ["limits.connections_max", "limits.body_budget_bytes", "128.0 MiB", "server.cores"]
    {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
    let set = ["limits.memory_budget_bytes=64GiB"];
    loaded("", &[], &set).unwrap().memory_worst_case(2).check().unwrap();
}

#[test]
fn the_budget_is_three_quarters_of_the_memory_or_the_groups_limit() {
    let check = |meminfo: &str, groups: [&str; 2], expected: u64| {
        let budget = memory::budget_from(meminfo, groups.map(str::to_owned));
        assert_eq!(budget, expected, "{meminfo:?} {groups:?}");
    };
    let meminfo = "MemTotal:       8388608 kB\nMemFree: 1 kB\n";
    check(meminfo, ["", ""], 6 << 30);
    check(meminfo, ["max\n", ""], 6 << 30);
    check(meminfo, ["1073741824\n", ""], 1 << 30);
    check(meminfo, ["", "9223372036854771712\n"], 6 << 30);
    check("", ["", ""], 1 << 30);
}

#[test]
fn the_documentation_lists_every_key_and_no_other() {
    let page = include_str!("../../../docs/configuration.md");
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    let listed: Vec<&str> = rows.iter().filter_map(|row| row.split('`').next()).collect();
    let known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(listed, known);
}
