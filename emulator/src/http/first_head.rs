//! Records the head of a connection's first request as it came over the wire.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a head that are recorded. Headers after them keep no case. REST APIs allow 10,240 bytes of headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The names of a request's headers in the case and order of the client. The HTTP parser makes them lower case.
///
/// They are known for the first request of a connection, which a WebSocket handshake almost always is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderNames(pub(crate) Vec<String>);

/// A stream that records the head of the first request.
pub(super) struct FirstHead<S> {
    stream: S,
    /// `None` once the head is complete.
    reading: Option<Arc<Mutex<Vec<u8>>>>,
}

/// The recorded head.
pub(super) struct RecordedHead(Arc<Mutex<Vec<u8>>>);

impl<S> FirstHead<S> {
    pub(super) fn of(stream: S) -> (Self, RecordedHead) {
        let bytes = Arc::new(Mutex::default());
        (Self { stream, reading: Some(Arc::clone(&bytes)) }, RecordedHead(bytes))
    }
}

impl RecordedHead {
    /// Takes the names of the headers. The second call returns `None`.
    pub(super) fn take(&self) -> Option<HeaderNames> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (!bytes.is_empty()).then(|| names(&bytes))
    }
}

fn names(head: &[u8]) -> HeaderNames {
    let lines = head.split(|byte| *byte == b'\n').skip(1).take_while(|line| !line.trim_ascii().is_empty());
    let name = |line: &[u8]| {
        let end = line.iter().position(|byte| *byte == b':')?;
        std::str::from_utf8(&line[..end]).ok().map(str::to_owned)
    };
    HeaderNames(lines.filter_map(name).collect())
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstHead<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let complete = self.reading.as_ref().is_some_and(|bytes| {
            let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
            // Two reads may share the end.
            let from = bytes.len().saturating_sub(3);
            bytes.extend_from_slice(&buf.filled()[before..]);
            bytes[from..].windows(4).any(|end| end == b"\r\n\r\n") || bytes.len() > HEAD_BYTES_MAX
        });
        if complete {
            self.reading = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstHead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn the_first_head_is_recorded_once_however_it_is_cut_and_nothing_after_it() {
        let text =
            b"GET / HTTP/1.1\r\nHost: a\r\nx-REGION: PL\r\nno colon\r\nSec-websocket-KEY: k\r\n\r\nbody: 1\r\n\r\n";
        for cut in 1..text.len() {
            let (mut stream, head) = FirstHead::of(AsyncReadExt::chain(&text[..cut], &text[cut..]));
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.expect("read");
            assert_eq!(read, text);
            let names = HeaderNames(["Host", "x-REGION", "Sec-websocket-KEY"].map(str::to_owned).to_vec());
            assert_eq!(head.take(), Some(names), "cut at {cut}");
            assert_eq!(head.take(), None);
        }
    }
}
