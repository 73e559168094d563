//! Bodies compressed before the run. A compressed body can not be changed in place, so each is sent
//! again and again with the ids and times it was made with.

use std::io::Write;

use clap::ValueEnum;
use flate2::write::GzEncoder;

use crate::target::Target;
use crate::template::{Head, RequestTemplate, Traffic, write_head};

/// What SDKs use: fast rather than small.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// No connection of a run has this number, so no other request has these ids.
const CONNECTION: u64 = crate::event_id::CONNECTIONS_MAX - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }

    /// The request that `template`'s number `number` is, compressed.
    pub fn apply(
        self,
        target: &Target,
        key: &str,
        template: RequestTemplate,
        number: u64,
        traffic: &Traffic,
    ) -> RequestTemplate {
        if self == Compression::None {
            return template;
        }
        let request = template.request(CONNECTION, number);
        let head_bytes = template.parts().0.len();
        let body = self.compress(&request[head_bytes..]);
        let head = Head { key, encoding: Some(self.as_str()), ..Head::default() };
        let mut bytes = write_head(target, &head, body.len()).into_bytes();
        bytes.extend(body);
        RequestTemplate::frozen(bytes, template.event_count(), traffic)
    }

    fn compress(self, body: &[u8]) -> Vec<u8> {
        const IN_MEMORY: &str = "writing to memory does not fail";
        match self {
            Compression::None => body.to_vec(),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(body).expect(IN_MEMORY);
                encoder.finish().expect(IN_MEMORY)
            }
            Compression::Zstd => zstd::encode_all(body, ZSTD_LEVEL).expect(IN_MEMORY),
        }
    }
}
