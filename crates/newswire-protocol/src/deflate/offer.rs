//! `Sec-WebSocket-Extensions`: what a client offers, and what is taken of it.

/// The extension's name in the header.
const NAME: &str = "permessage-deflate";

/// The sizes a window may have, as powers of two.
const WINDOWS: [&str; 8] = ["8", "9", "10", "11", "12", "13", "14", "15"];

/// The offer that the server took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The client keeps its window between messages, so a message may refer to those before it.
    pub keeps_context: bool,
    /// The client asked for a window of the full size by name, and is answered with it.
    names_window: bool,
}

impl Agreed {
    /// The value of the answer's header.
    ///
    /// The client is always told to keep no context itself: an idle connection then needs no memory for it.
    pub fn answer(self) -> String {
        let mut answer = format!("{NAME}; client_no_context_takeover");
        if !self.keeps_context {
            answer.push_str("; server_no_context_takeover");
        }
        if self.names_window {
            answer.push_str("; server_max_window_bits=15");
        }
        answer
    }
}

/// Takes the first offer that can be kept to, of the values of the request's headers in their order.
///
/// `None`, and the connection goes uncompressed, where nothing else is offered than other extensions, windows smaller
/// than ours, or what the RFC does not know. A header that is not a list of extensions offers nothing.
pub fn negotiate<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Agreed> {
    headers.into_iter().find_map(|header| split(header, b',')?.into_iter().find_map(read_offer))
}

fn read_offer(offer: &str) -> Option<Agreed> {
    let mut parts = split(offer, b';')?.into_iter().map(trim);
    if !parts.next()?.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let mut agreed = Agreed { keeps_context: true, names_window: false };
    let mut seen = Vec::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (trim(name), Some(unquoted(trim(value))?)),
            None => (part, None),
        };
        let name = name.to_ascii_lowercase();
        match (name.as_str(), value) {
            ("server_no_context_takeover", None) => agreed.keeps_context = false,
            // All streams share one window size, the largest.
            ("server_max_window_bits", Some("15")) => agreed.names_window = true,
            ("client_no_context_takeover", None) => {}
            ("client_max_window_bits", bits) if bits.is_none_or(|bits| WINDOWS.contains(&bits)) => {}
            _ => return None,
        }
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
    }
    Some(agreed)
}

/// Splits where the separator stands outside quotes; `None` if a quote is not closed.
fn split(text: &str, separator: u8) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// A value as a token, or a quoted one without escapes; none of ours needs them.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(header: &str) -> Option<String> {
        negotiate([header]).map(Agreed::answer)
    }

    #[test]
    fn what_browsers_and_libraries_offer_is_taken() {
        let plain = Some("permessage-deflate; client_no_context_takeover".to_owned());
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "Permessage-Deflate ;Client_Max_Window_Bits = \"12\"",
            "permessage-deflate; client_no_context_takeover; client_max_window_bits=15",
            "x-webkit-deflate-frame, permessage-deflate",
            "odd; with=\"a, b; permessage-deflate\", permessage-deflate",
        ] {
            assert_eq!(answer(offer), plain, "{offer}");
        }
        assert_eq!(
            answer("permessage-deflate; server_no_context_takeover; server_max_window_bits=15").unwrap(),
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover; server_max_window_bits=15"
        );
        assert!(!negotiate(["permessage-deflate; server_no_context_takeover"]).unwrap().keeps_context);
    }

    #[test]
    fn the_first_offer_that_can_be_kept_to_is_taken() {
        let small_first =
            "permessage-deflate; server_max_window_bits=10, permessage-deflate; client_max_window_bits";
        assert!(negotiate([small_first]).unwrap().keeps_context);
        let none_first = "permessage-deflate; server_no_context_takeover, permessage-deflate";
        assert!(!negotiate([none_first]).unwrap().keeps_context);
        assert!(negotiate(["foo; bar", "permessage-deflate"]).is_some());
    }

    #[test]
    fn everything_else_goes_uncompressed() {
        for offer in [
            "",
            ",",
            "permessage-bzip2",
            "permessage-deflate; server_max_window_bits=14",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=015",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"12",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=12",
            "permessage-deflate; mystery",
            "permessage-deflate;",
            "permessage-deflate permessage-deflate",
        ] {
            assert_eq!(answer(offer), None, "{offer}");
        }
        assert_eq!(negotiate([]), None);
    }
}
