//! A request by HTTP/1.1 for a few lines of text, with an end to its patience.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

/// Whom to ask, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) endpoint: SocketAddr,
    pub(super) deadline: Instant,
}

/// What services say is far smaller.
const LARGEST: usize = 64 * 1024;

impl Client {
    /// The body of the answer to a request with these headers.
    ///
    /// # Errors
    /// No answer in time, one that is not HTTP, or a status other than 200.
    pub(super) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let answer = self.exchange(method, path, headers);
        answer.with_context(|| format!("{method} {path}"))
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n",
            self.endpoint.ip()
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "User-Agent: dataflux-probe\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let mut stream = TcpStream::connect_timeout(&self.endpoint, self.left()?)?;
        stream.set_write_timeout(Some(self.left()?))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        loop {
            stream.set_read_timeout(Some(self.left()?))?;
            match stream.read(&mut part).context("no answer in time")? {
                0 => break,
                length => answer.extend_from_slice(&part[..length]),
            }
            ensure!(answer.len() <= LARGEST, "the answer is too large");
            if whole(&answer) {
                break;
            }
        }
        body(&answer)
    }

    fn left(&self) -> anyhow::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "no answer in time");
        Ok(left)
    }
}

/// Status line and headers, and what is behind them.
fn head(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    Some((head, &answer[end + 4..]))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Whether as much is there as was announced; some keep the connection open even so.
pub(super) fn whole(answer: &[u8]) -> bool {
    head(answer).is_some_and(|(head, rest)| {
        let length = header(head, "content-length").and_then(|length| length.parse().ok());
        length.is_some_and(|length: usize| rest.len() >= length)
    })
}

/// What is behind the head, as the head says.
///
/// # Errors
/// It is not HTTP, not all of it, no text, or its status is not 200.
pub(super) fn body(answer: &[u8]) -> anyhow::Result<String> {
    let (head, rest) = head(answer).context("the answer is no HTTP")?;
    let mut status = head.lines().next().unwrap_or_default().splitn(3, ' ');
    ensure!(
        status
            .next()
            .is_some_and(|version| version.starts_with("HTTP/1.")),
        "the answer is no HTTP"
    );
    let status = status.next().unwrap_or_default();
    ensure!(status == "200", "status {status}");
    let chunked = header(head, "transfer-encoding");
    let body = if chunked.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        joined(rest)?
    } else if let Some(length) = header(head, "content-length") {
        let length: usize = length.parse().context("no length")?;
        rest.get(..length).context("the answer is cut")?.to_vec()
    } else {
        rest.to_vec()
    };
    String::from_utf8(body).context("the answer is no text")
}

/// Chunks: a length in hexadecimal digits, the line's end, so many bytes, another end; the last one has none.
fn joined(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n");
        let (length, more) = rest.split_at(end.context("the answer is cut")?);
        let length = std::str::from_utf8(length)?;
        let length = length.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(length, 16).context("no length of a chunk")?;
        if length == 0 {
            return Ok(body);
        }
        let Some(chunk) = more.get(2..).and_then(|more| more.get(..length)) else {
            bail!("the answer is cut");
        };
        body.extend_from_slice(chunk);
        rest = more.get(2 + length + 2..).context("the answer is cut")?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bodies_have_a_length_or_chunks_or_end_with_the_connection() {
        let of = |text: &str| body(text.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(
            of("HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\n\r\nabc").unwrap(),
            "ab"
        );
        assert_eq!(of("HTTP/1.0 200\r\n\r\nabc").unwrap(), "abc");
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n";
        assert_eq!(of(chunked).unwrap(), "abcd");
        assert_eq!(
            of("HTTP/1.1 404 Not Found\r\n\r\n").unwrap_err(),
            "status 404"
        );
        assert_eq!(of("SSH-2.0\r\n\r\n").unwrap_err(), "the answer is no HTTP");
        of("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").unwrap_err();
        of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab").unwrap_err();
        of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab")
            .unwrap_err();
        assert!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"));
        assert!(!whole(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"));
    }

    proptest! {
        #[test]
        fn any_answer_is_a_body_or_an_error(rest in prop::collection::vec(any::<u8>(), 0..200), chunked: bool) {
            let coding = if chunked { "Transfer-Encoding: chunked" } else { "X: y" };
            let mut answer = format!("HTTP/1.1 200 OK\r\n{coding}\r\n\r\n").into_bytes();
            answer.extend_from_slice(&rest);
            drop(body(&answer));
            drop(body(&rest));
            whole(&rest);
        }
    }
}
