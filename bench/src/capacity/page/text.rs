//! What the page says of the model itself: its shape, its formulas, what it leaves out.

use super::number;
use crate::capacity::assumptions::Assumptions;

pub fn head(a: &Assumptions, flags: &str) -> String {
    format!(
        "# Capacity\n\n\
         What {} events a second take. Made by `./dev bench capacity{flags}`, never by hand: every input is a line of\n\
         `bench/history.jsonl` or an assumption with a name, both below. `./dev bench capacity --help` says how to ask for\n\
         other numbers.\n{MODEL}",
        number(a.events_per_s)
    )
}

const MODEL: &str = "
## The model

```text
clients ──► balancer ──► engine, three zones ──► Kafka, three zones ──► consumers ──► ClickHouse
            a machine,   a shard on each core,   a record for a block                 shards × replicas
            by counts    a journal on disk
```

- **A core's load** is requests a second × CPU of a request × `network_cpu_ratio` / `core_speed_ratio`.
- **Machines**: those of *two* zones carry all of it, and the busiest core of theirs stays below `busy_max`. How much busier
  that one is than the mean is simulated: connections fall on machines by the balancer and on cores by a hash, a few send
  more than the others, and a twentieth of them is renewed from one moment to the next. More machines are less even, so
  both are found in turn. Then the network card (JSON and heads, in), the journal's disk (rows, written) and the limit of
  connections are asked in the same way; what asks for most decides.
- **A loss** is simulated in steps of 10 ms. Clients of lost machines notice within `loss_notice_s` and come back with
  exponential backoff and full jitter. Until `balancer_detect_s` the balancer still chooses lost machines, and answers 503
  for them; as those have ever fewer connections, a balancer that goes by counts prefers them. Each client that is
  back sends what it held and, a second time, what had no answer. A core accepts first (`connect_cpu_us` each), then serves.
  What it can not serve waits; past `body_budget_bytes` it answers 503, and those come again after `retry_after_s`.
- **Kafka away**: journals grow by rows, and drain at `kafka_drain_ratio`, or as the brokers take it.
- **Kafka**: rows / `compression_ratio` × `replication`, by disk and by card, two zones enough. **ClickHouse**: shards by
  insert rate and by disk, whichever is more. **Consumers**: CPU of an event, as measured.

Simulations are seeded: the same history and flags give this page to the byte.
";

pub const NOT_MODELLED: &str = "
## Not modelled

- TLS, which the balancer ends, and the balancer's own machines.
- Memory bandwidth, NUMA and SMT: a core counts as the whole core that was measured, two of which shared a machine with
  the load generator. Where a machine's hardware threads are counted as cores, `core_speed_ratio` is well below 1.
- Compressed bodies: they take CPU of the engine, and less of the card.
- Clients whose own buffers end, or that give up: what they held counts as sent later, however long it took. A request's time-out while it
  waits on a core: the longest such wait is in the table.
- Bodies in one piece do not count against `body_budget_bytes`; here all do, so a 503 of a shard is an upper bound.
- Merges in ClickHouse that fall behind, and questions: `clickhouse_insert_share` is all there is of them.
- A zone and Kafka lost at once, and Kafka's own recovery after a zone is back.
- The rate of a raw INSERT is of a machine that also ran its generator, so shards by inserts are an upper bound.
";
