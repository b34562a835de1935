//! The client's side of HTTP/1.1, as little as a publisher needs: answers with a length, taken off a kept-alive stream.

use anyhow::Context;

/// Collects the answers of one connection.
#[derive(Debug, Default)]
pub struct Answers {
    unread: Vec<u8>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answers {
    /// Adds what arrived.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The next answer, once it is complete.
    ///
    /// # Errors
    /// For a head that cannot be read or has no length.
    pub fn next_answer(&mut self) -> anyhow::Result<Option<Answer>> {
        let Some(head) = memchr::memmem::find(&self.unread, b"\r\n\r\n").map(|at| at + 4) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&self.unread[..head])?.to_ascii_lowercase();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no HTTP: {text}"))?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = if status == 204 { 0 } else { length.context("an answer without a length")? };
        if self.unread.len() < head + length {
            return Ok(None);
        }
        let body = self.unread[head..head + length].to_vec();
        self.unread.drain(..head + length);
        Ok(Some(Answer { status, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_off_however_they_arrive() {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 204 No Content\r\n\r\n";
        for step in [1, 5, stream.len()] {
            let (mut answers, mut found) = (Answers::default(), Vec::new());
            for piece in stream.chunks(step) {
                answers.extend(piece);
                while let Some(answer) = answers.next_answer().expect("good answers") {
                    found.push((answer.status, answer.body));
                }
            }
            assert_eq!(found, [(200, b"hi".to_vec()), (204, Vec::new())], "in steps of {step}");
        }
    }
}
