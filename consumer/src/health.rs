//! What the consumer depends on and what is wrong with it: the content of `/readyz`.

use std::sync::{Mutex, PoisonError};

use proto::error_code::push_json_escaped;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Brokers, topic and group.
    Kafka,
    /// Whether ClickHouse can be reached.
    Clickhouse,
    /// Whether ClickHouse takes what is sent.
    Inserts,
    /// Topic and table of what it does not take.
    DeadLetters,
    /// Whether there is a place to go on reading from.
    Position,
}

impl Component {
    const ALL: [Component; 5] = [
        Component::Kafka,
        Component::Clickhouse,
        Component::Inserts,
        Component::DeadLetters,
        Component::Position,
    ];

    const fn name(self) -> &'static str {
        match self {
            Component::Kafka => "kafka",
            Component::Clickhouse => "clickhouse",
            Component::Inserts => "inserts",
            Component::DeadLetters => "dead_letters",
            Component::Position => "position",
        }
    }
}

/// Why a component does not work; nothing where it does.
#[derive(Debug)]
pub struct Health {
    reasons: Mutex<[Option<String>; Component::ALL.len()]>,
}

impl Health {
    /// Kafka and ClickHouse have to show themselves first.
    pub fn starting() -> Health {
        let unknown = || Some("not reached yet".to_owned());
        Health { reasons: Mutex::new([unknown(), unknown(), None, None, None]) }
    }

    pub fn set_up(&self, component: Component) {
        self.set(component, None);
    }

    /// `reason` is shown on `/readyz` and must hold no secret. Gives whether it is news.
    pub fn set_down(&self, component: Component, reason: &str) -> bool {
        self.set(component, Some(reason))
    }

    fn set(&self, component: Component, reason: Option<&str>) -> bool {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = &mut reasons[component as usize];
        let news = stored.as_deref() != reason;
        if news {
            *stored = reason.map(str::to_owned);
        }
        news
    }

    pub fn is_up(&self, component: Component) -> bool {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)[component as usize].is_none()
    }

    /// `{"status":"ready","degraded":[{"component":…,"reason":…}]}`, and whether it is ready: every
    /// component works.
    pub fn report(&self) -> (bool, Vec<u8>) {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = reasons.iter().all(Option::is_none);
        let status = if ready { "ready" } else { "not ready" };
        let mut body = format!("{{\"status\":\"{status}\",\"degraded\":[").into_bytes();
        let ill = Component::ALL.iter().zip(reasons.iter());
        let ill = ill.filter_map(|(component, reason)| Some((component, reason.as_ref()?)));
        for (index, (component, reason)) in ill.enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let name = component.name();
            let head = format!("{comma}{{\"component\":\"{name}\",\"reason\":\"");
            body.extend_from_slice(head.as_bytes());
            push_json_escaped(&mut body, reason);
            body.extend_from_slice(b"\"}");
        }
        body.extend_from_slice(b"]}");
        (ready, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_by_component() {
        let health = Health::starting();
        assert!(!health.report().0);
        health.set_up(Component::Kafka);
        health.set_up(Component::Clickhouse);
        assert_eq!(health.report(), (true, br#"{"status":"ready","degraded":[]}"#.to_vec()));
        assert!(health.set_down(Component::Inserts, "Code: 60 \"x\""));
        assert!(!health.set_down(Component::Inserts, "Code: 60 \"x\""), "no news");
        health.set_down(Component::Position, "gone");
        let expected = r#"{"status":"not ready","degraded":[{"component":"inserts","reason":"Code: 60 \"x\""},{"component":"position","reason":"gone"}]}"#;
        assert_eq!(String::from_utf8(health.report().1).unwrap(), expected);
    }
}
