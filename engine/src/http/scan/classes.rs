//! The four byte classes of a head, and the tables that kernels look them up in.
//!
//! Owns which bytes may stand where (RFC 9110 §5.5, §5.6.2; RFC 9112 §3.2). Every kernel's table is
//! made from these four functions, at compile time.

/// A byte of a method or a field name (RFC 9110 §5.6.2 `tchar`).
pub const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`'
        | b'|' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// A byte of a request target but `?`, at which a scan stops so that the query is found on the way:
/// visible ASCII without `#`, as a fragment is never sent. The few visible
/// bytes that RFC 3986 leaves out (`{`, `|`, `"`, …) are let through: browsers send some of them,
/// and they delimit nothing.
pub const fn is_target(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && byte != b'#' && byte != b'?'
}

/// A byte of a host's name or IPv4 address: RFC 3986 `unreserved`. Its percent-encoding and sub-delims
/// are left out: no real host has them, and of the latter the comma makes a list.
pub const fn is_host_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// A byte of a header's value: HT, SP, visible ASCII and obs-text (RFC 9110 §5.5).
pub const fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

/// `table[low nibble]` has bit `high nibble` set where `class` holds, for ASCII. A kernel shuffles
/// this table by the low nibbles (a byte ≥ 0x80 gives 0), [`HIGH_NIBBLE_BITS`] by the high ones and
/// tests whether they meet.
const fn nibble_table(stop: bool, class_id: u8) -> [u8; 16] {
    let mut table = [0; 16];
    let mut byte = 0u8;
    while byte < 0x80 {
        let allowed = match class_id {
            0 => is_token(byte),
            1 => is_target(byte),
            2 => is_host_name(byte),
            _ => is_value(byte),
        };
        if allowed != stop {
            table[(byte & 15) as usize] |= 1 << (byte >> 4);
        }
        byte += 1;
    }
    table
}

pub(super) const TOKEN_ALLOWED: [u8; 16] = nibble_table(false, 0);
pub(super) const TARGET_ALLOWED: [u8; 16] = nibble_table(false, 1);
pub(super) const HOST_NAME_ALLOWED: [u8; 16] = nibble_table(false, 2);
/// Where a value *stops*: obs-text is allowed, and bytes ≥ 0x80 find nothing in a table.
pub(super) const VALUE_STOPS: [u8; 16] = nibble_table(true, 3);
pub(super) const HIGH_NIBBLE_BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];
