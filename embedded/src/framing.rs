//! Which formats can be sent piece by piece.
//!
//! The engine formats each piece of a streamed SELECT as a document of its own. Where documents
//! concatenate (rows without head or foot), pieces pass through; where each starts with the same
//! header, it is cut from all but the first; anything else is answered whole, within a limit.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Rows and nothing else.
    Rows,
    /// `n` lines of names and types first; line ends inside names are escaped in these formats.
    HeaderLines(usize),
    /// A varint `n`, then `n` strings (names), or twice as many (names, types).
    HeaderStrings {
        per_column: usize,
    },
    Document,
}

pub fn framing(format: &str, text: &[u8], settings: &[(String, String)]) -> Framing {
    // Totals and extremes are a foot.
    let totals = text.windows(6).any(|window| window.eq_ignore_ascii_case(b"TOTALS"));
    let extremes = text.windows(8).any(|window| window.eq_ignore_ascii_case(b"extremes"))
        || settings.iter().any(|(name, _)| name == "extremes" || name.starts_with("output_format"));
    if totals || extremes {
        return Framing::Document;
    }
    match format.to_ascii_lowercase().as_str() {
        "rowbinary"
        | "native"
        | "tsv"
        | "tabseparated"
        | "tsvraw"
        | "tabseparatedraw"
        | "csv"
        | "jsoneachrow"
        | "jsonlines"
        | "ndjson"
        | "jsoncompacteachrow"
        | "jsonstringseachrow"
        | "jsoncompactstringseachrow"
        | "tskv"
        | "msgpack"
        | "lineasstring"
        | "rawblob"
        | "null" => Framing::Rows,
        "rowbinarywithnames" => Framing::HeaderStrings { per_column: 1 },
        "rowbinarywithnamesandtypes" => Framing::HeaderStrings { per_column: 2 },
        "tsvwithnames" | "tabseparatedwithnames" | "jsoncompacteachrowwithnames" => {
            Framing::HeaderLines(1)
        }
        "tsvwithnamesandtypes"
        | "tabseparatedwithnamesandtypes"
        | "jsoncompacteachrowwithnamesandtypes" => Framing::HeaderLines(2),
        _ => Framing::Document,
    }
}

impl Framing {
    /// Length of the header at the start of a piece.
    pub fn header_bytes(self, piece: &[u8]) -> usize {
        match self {
            Framing::Rows | Framing::Document => 0,
            Framing::HeaderLines(lines) => piece
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'\n')
                .nth(lines - 1)
                .map_or(0, |(index, _)| index + 1),
            Framing::HeaderStrings { per_column } => {
                header_strings(piece, per_column).unwrap_or_default()
            }
        }
    }
}

fn header_strings(piece: &[u8], per_column: usize) -> Option<usize> {
    let mut position = 0;
    let columns = varint(piece, &mut position)?;
    for _ in 0..columns.checked_mul(per_column)? {
        let length = varint(piece, &mut position)?;
        position = position.checked_add(length).filter(|end| *end <= piece.len())?;
    }
    Some(position)
}

fn varint(bytes: &[u8], position: &mut usize) -> Option<usize> {
    let mut value = 0;
    for shift in (0..56).step_by(7) {
        let byte = *bytes.get(*position)?;
        *position += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_measured() {
        let check = |format: &str, piece: &[u8], expected: usize| {
            assert_eq!(framing(format, b"", &[]).header_bytes(piece), expected, "{format}");
        };
        check("RowBinary", b"\x01\x01a", 0);
        check("RowBinaryWithNames", b"\x02\x01a\x02bc\x07", 6);
        check("RowBinaryWithNamesAndTypes", b"\x01\x01n\x05UInt8\x07", 9);
        check("RowBinaryWithNamesAndTypes", b"\x01\x01", 0);
        check("TSVWithNames", b"a\tb\n1\t2\n", 4);
        check("TSVWithNamesAndTypes", b"a\nUInt8\n1\n", 8);
    }
}
