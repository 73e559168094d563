//! What the integration tests stand on: the real binaries and the real servers, started on free ports
//! in folders of their own, and a client that sends exactly the bytes it is given.
//!
//! Owns processes, sockets and deadlines of tests. Must not know the insides of any binary: tests
//! here see command lines, ports, files and answers, as a user does. Everything started is ended
//! when the value that stands for it is dropped.

pub mod answers;
pub mod batch;
pub mod conserved;
pub mod consumer;
pub mod dev;
pub mod http_client;
pub mod process;
pub mod production;
pub mod proxy;
pub mod sender;
pub mod servers;
pub mod small_disk;
pub mod sources;
pub mod stack;
pub mod wait;

pub use batch::{Batch, Event};
pub use consumer::Consumer;
pub use dev::DevFolder;
pub use http_client::{Client, Response};
pub use process::Process;
pub use production::{Path, Production};
pub use proxy::{Fault, Proxy};
pub use servers::{Broker, Redis};
pub use stack::{Driver, Stack, StackOptions};
