//! Follows replies of Redis as they arrive in pieces, without keeping them: where each ends, and the last entry's id in it.

/// Longer strings are no ids.
const MAX_ID: usize = 40;

/// A reply that has arrived whole.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The last string in it that is an entry's id (or the text of the error).
    pub(crate) last_id: Option<String>,
    pub(crate) error: bool,
}

/// The state between two pieces.
#[derive(Default)]
pub(crate) struct Reader {
    /// A line (`*3`, `$400`, `:1`) of which the end is missing.
    line: Vec<u8>,
    /// Bytes of a string, with its line end, that are still to come, and the string where it may be an id.
    string_left: usize,
    string: Vec<u8>,
    keeps_string: bool,
    /// Elements still to come of the reply under way.
    elements: usize,
    reply: Reply,
}

impl Reader {
    /// The replies that end in this piece.
    pub(crate) fn read(&mut self, mut piece: &[u8]) -> Vec<Reply> {
        let mut ended = Vec::new();
        while !piece.is_empty() {
            let whole = if self.string_left > 0 { self.string(&mut piece) } else { self.line(&mut piece) };
            if !whole {
                continue;
            }
            self.elements = self.elements.saturating_sub(1);
            if self.elements == 0 {
                ended.push(std::mem::take(&mut self.reply));
            }
        }
        ended
    }

    /// Goes on with a string; true at its end.
    fn string(&mut self, piece: &mut &[u8]) -> bool {
        let (now, rest) = piece.split_at(self.string_left.min(piece.len()));
        *piece = rest;
        self.string_left -= now.len();
        if self.keeps_string {
            self.string.extend_from_slice(now);
        }
        if self.string_left == 0 && self.keeps_string {
            let text = String::from_utf8_lossy(&self.string).trim_end().to_owned();
            if is_id(&text) {
                self.reply.last_id = Some(text);
            }
        }
        self.string_left == 0
    }

    /// Goes on with a line; true where it is an element that has ended.
    fn line(&mut self, piece: &mut &[u8]) -> bool {
        let Some(end) = memchr::memchr(b'\n', piece) else {
            self.line.extend_from_slice(piece);
            *piece = &[];
            return false;
        };
        self.line.extend_from_slice(&piece[..end]);
        *piece = &piece[end + 1..];
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let (kind, value) = text.split_at(text.len().min(1));
        let count = value.parse::<usize>().unwrap_or_default();
        match kind {
            // In its place come its own elements; without any (or as "-1") it is one itself.
            "*" if count > 0 => {
                self.elements = self.elements.saturating_sub(1) + count;
                false
            }
            "$" if value != "-1" => {
                (self.string_left, self.keeps_string) = (count + 2, count <= MAX_ID);
                self.string.clear();
                false
            }
            "-" => {
                (self.reply.error, self.reply.last_id) = (true, Some(value.to_owned()));
                true
            }
            _ => true,
        }
    }
}

fn is_id(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(time, number)| digits(time) && digits(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: &str = "*1\r\n*2\r\n$5\r\ntasks\r\n*2\r\n*2\r\n$3\r\n7-0\r\n*2\r\n$1\r\ne\r\n$4\r\nabcd\r\n\
                           *2\r\n$3\r\n8-1\r\n*2\r\n$1\r\ne\r\n$6\r\na\r\nb\r\n\r\n";

    #[test]
    fn replies_end_where_they_end_however_they_arrive() {
        let stream = format!("$7\r\nreading\r\n{ENTRIES}*-1\r\n:3\r\n-ERR no such thing\r\n{ENTRIES}");
        let id = |id: &str| Reply { last_id: Some(id.to_owned()), error: false };
        let error = Reply { last_id: Some("ERR no such thing".to_owned()), error: true };
        let expected = [Reply::default(), id("8-1"), Reply::default(), Reply::default(), error, id("8-1")];
        for step in 1..stream.len() {
            let mut reader = Reader::default();
            let replies: Vec<Reply> =
                stream.as_bytes().chunks(step).flat_map(|piece| reader.read(piece)).collect();
            assert_eq!(replies, expected, "in steps of {step}");
        }
    }
}
