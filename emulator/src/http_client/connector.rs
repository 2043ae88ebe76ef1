//! Connections that know whether a request over them was answered before.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use hyper::{
    Uri,
    rt::{Read, Write},
};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;

/// What came over a connection.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// All bytes of HTTP: within TLS, whose tickets and closing messages are not among them.
    bytes: AtomicU64,
    /// Those until the end of the last whole response.
    of_responses: AtomicU64,
}

impl Received {
    /// A response has arrived whole.
    pub(super) fn whole_response(&self) {
        self.of_responses.store(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether there were responses, and nothing after them.
    pub(super) fn ended_after_a_response(&self) -> bool {
        let of_responses = self.of_responses.load(Ordering::Relaxed);
        of_responses > 0 && of_responses == self.bytes.load(Ordering::Relaxed)
    }
}

/// Opens the connections of another connector, and counts what they receive.
#[derive(Clone, Debug)]
pub(super) struct Connector<C>(pub(super) C);

impl<C> Service<Uri> for Connector<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
{
    type Response = TokioIo<CountedStream<C::Response>>;
    type Error = C::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let opening = self.0.call(address);
        Box::pin(async move {
            let stream = TokioIo::new(opening.await?);
            Ok(TokioIo::new(CountedStream { stream, received: Arc::default() }))
        })
    }
}

/// A connection that counts what it receives.
#[derive(Debug)]
pub(super) struct CountedStream<T> {
    stream: TokioIo<T>,
    received: Arc<Received>,
}

impl<T: Connection> Connection for CountedStream<T> {
    fn connected(&self) -> Connected {
        self.stream.inner().connected().extra(Arc::clone(&self.received))
    }
}

impl<T: Read + Unpin> AsyncRead for CountedStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len().saturating_sub(before);
        self.received.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        polled
    }
}

impl<T: Write + Unpin> AsyncWrite for CountedStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
