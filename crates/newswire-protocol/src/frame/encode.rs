//! What the server sends.

use super::{COMPRESSED, MAX_CONTROL_BYTES, MAX_SERVER_HEADER, Opcode};

/// The header of an unfragmented text frame of this many bytes: the bytes and how many of them count.
pub fn text_header(len: usize) -> ([u8; MAX_SERVER_HEADER], usize) {
    let mut header = [0; MAX_SERVER_HEADER];
    header[0] = 0x80 | Opcode::Text as u8;
    match len {
        0..=125 => {
            header[1] = len as u8;
            (header, 2)
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            (header, 4)
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(len as u64).to_be_bytes());
            (header, 10)
        }
    }
}

/// The same for a text frame whose body is compressed (RFC 7692).
pub fn compressed_text_header(len: usize) -> ([u8; MAX_SERVER_HEADER], usize) {
    let (mut header, header_len) = text_header(len);
    header[0] |= COMPRESSED;
    (header, header_len)
}

/// Appends a whole text frame.
pub fn encode_text(out: &mut Vec<u8>, text: &[u8]) {
    let (header, len) = text_header(text.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(text);
}

/// Appends a control frame; a body over 125 bytes is cut off there.
pub fn encode_control(out: &mut Vec<u8>, opcode: Opcode, body: &[u8]) {
    let body = &body[..body.len().min(MAX_CONTROL_BYTES)];
    out.extend_from_slice(&[0x80 | opcode as u8, body.len() as u8]);
    out.extend_from_slice(body);
}

/// Appends a close frame; a reason over 123 bytes is cut off at a character.
pub fn encode_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let mut end = reason.len().min(MAX_CONTROL_BYTES - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason[..end];
    out.extend_from_slice(&[0x80 | Opcode::Close as u8, 2 + reason.len() as u8]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}
